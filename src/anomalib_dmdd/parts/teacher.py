"""The teacher: feature maps of a frozen ImageNet network."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

DEFAULT_REDUCTIONS = (4, 8, 16)


class Teacher(nn.Module):
    """Frozen, always in evaluation mode, with the chosen layers of any timm ``features_only`` CNN as output.

    The network is built without weights, so that a model can be restored from a checkpoint where there is no network;
    :meth:`load_pretrained` fetches them when training starts.

    Args:
        backbone: Name of a timm model, e.g. ``resnet18.tv_in1k``.
        layers: Names of the layers as in timm's ``feature_info``, shallow to deep; by default those with strides
            4, 8 and 16 (layer1 to layer3 of a ResNet).
        pre_trained: Use timm's ImageNet weights.
        weights: A ``.pth`` or ``.safetensors`` file with the weights of the backbone, instead of a download.

    Attributes:
        channels: Channels of each output, shallow to deep.
        reductions: Stride of each output relative to the image.
        signed: Whether the outputs can be negative (a ResNet's cannot: its stages end in a ReLU).

    Raises:
        ValueError: If timm has no such backbone, or the backbone no such layers.

    Example:
        >>> teacher = Teacher("resnet18.tv_in1k", pre_trained=False)
        >>> [tuple(features.shape) for features in teacher(torch.zeros(1, 3, 64, 96))]
        [(1, 64, 16, 24), (1, 128, 8, 12), (1, 256, 4, 6)]
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,  # Anomalib's own name for it
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        known = [*timm.list_models(), *timm.list_models(pretrained=True)]  # without and with the tag of the weights
        if backbone not in known:
            similar = ", ".join(get_close_matches(backbone, known, n=5)) or "see timm.list_models()"
            raise ValueError(f"backbone: timm has no model {backbone!r}. Similar names: {similar}.")
        self.backbone = backbone
        self.pre_trained = pre_trained
        self.weights = weights
        self.indices = _layer_indices(backbone, layers)
        self.features = self.build()
        info: Any = self.features.feature_info
        self.channels: list[int] = info.channels()
        self.reductions: list[int] = info.reduction()
        with torch.no_grad():
            probe = torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
            self.signed = any(bool((output < 0).any()) for output in self.features.eval()(probe))
        self.requires_grad_(requires_grad=False)
        # In the checkpoint: what was restored is neither fetched nor fitted again.
        self.loaded: Tensor
        self.register_buffer("loaded", torch.zeros((), dtype=torch.bool))

    def build(self) -> nn.Module:
        """A network of the teacher's architecture with random weights."""
        network: nn.Module = timm.create_model(
            self.backbone, pretrained=False, features_only=True, out_indices=self.indices
        )
        return network

    def load_pretrained(self) -> None:
        """Put the pre-trained weights in place, once.

        Raises:
            FileNotFoundError: If the given file of weights is missing.
            ValueError: If that file does not hold the weights of this backbone.
            RuntimeError: If the weights can be neither found locally nor downloaded.
        """
        if self.loaded or not (self.weights or self.pre_trained):
            return
        if self.weights:
            self._load_file(Path(self.weights))
        else:
            self._load_hub()
        self.loaded.fill_(True)  # noqa: FBT003

    def calibrate(self, images: Tensor) -> None:
        """Fit the batch normalisation of a network with random weights to some images, once (our choice).

        Without it, random features hardly depend on what is in the image.

        Args:
            images: Normalised images ``(N, 3, H, W)``.
        """
        if self.loaded:
            return
        norms = [module for module in self.features.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_parameters()
            norm.train().momentum = 1.0
        self(images)
        self.eval()
        self.loaded.fill_(True)  # noqa: FBT003

    def _load_hub(self) -> None:
        try:
            network = timm.create_model(self.backbone, pretrained=True, features_only=True, out_indices=self.indices)
        except Exception as error:  # the hub raises many kinds, and the answer is the same for all of them
            raise RuntimeError(
                f"The ImageNet weights of {self.backbone!r} are neither in the local hub cache nor could they be "
                f"downloaded ({type(error).__name__}: {error}). Without a network, either pass a local file "
                "(--model.teacher_weights FILE.pth or FILE.safetensors, as saved from timm or torchvision), or copy a "
                "hub cache from a machine that has them and set HF_HOME to it, or train from random weights "
                "(--model.pre_trained false)."
            ) from error
        self.features.load_state_dict(network.state_dict())

    def _load_file(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"teacher_weights: there is no file {file}.")
        # timm joins the names of nested modules with "_" in some feature extractors and with "." in the others.
        state = {name.replace(".", "_"): tensor for name, tensor in load_state_dict(str(file)).items()}
        wanted = self.features.state_dict()
        missing = [
            name for name in wanted if name.replace(".", "_") not in state and not name.endswith("num_batches_tracked")
        ]
        if missing:
            raise ValueError(
                f"teacher_weights: {file} lacks {len(missing)} of the {len(wanted)} tensors of {self.backbone!r}, "
                f"the first is {missing[0]!r}. Is it a state dict of that architecture?"
            )
        try:
            self.features.load_state_dict({name: state.get(name.replace(".", "_"), wanted[name]) for name in wanted})
        except RuntimeError as error:
            raise ValueError(f"teacher_weights: {file} does not fit {self.backbone!r}: {error}") from error

    def train(self, mode: bool = True) -> "Teacher":  # noqa: ARG002
        """Stay in evaluation mode whatever the mode of the model around it."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the layers, shallow to deep.

        Args:
            images: Normalised images ``(N, 3, H, W)``.

        Returns:
            One map ``(N, C_k, H / r_k, W / r_k)`` per layer.
        """
        outputs: list[Tensor] = self.features(images)
        return outputs


def _layer_indices(backbone: str, layers: Sequence[str] | None) -> list[int]:
    """Positions of the layers among timm's feature maps."""
    info = timm.create_model(backbone, pretrained=False, features_only=True).feature_info
    names, reductions = info.module_name(), info.reduction()
    wanted = layers
    if wanted is None:
        wanted = [name for name, reduction in zip(names, reductions, strict=True) if reduction in DEFAULT_REDUCTIONS]
    if not wanted or any(name not in names for name in wanted):
        choice = ", ".join(f"{name} (stride {stride})" for name, stride in zip(names, reductions, strict=True))
        raise ValueError(f"layers: {list(wanted)} are not all feature layers of {backbone!r}. It has: {choice}.")
    return sorted(names.index(name) for name in wanted)

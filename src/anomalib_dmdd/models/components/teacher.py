"""The teacher: feature maps of a pre-trained network."""

from collections.abc import Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .stem import needed_by, stem_parameters

DEFAULT_REDUCTIONS = (4, 8, 16)


class Teacher(nn.Module):
    """Pre-trained feature extractor: chosen layers of any timm ``features_only`` CNN, always in evaluation mode.

    The network is built without weights, so a model can be restored from a checkpoint without a network connection.
    :meth:`load_pretrained` fetches the weights when training starts. It replaces those that were set by hand, so pass
    your own as ``weights``. A teacher is frozen unless it is a :meth:`trainable_copy`.

    Args:
        backbone: Name of a timm model, e.g. ``resnet18.tv_in1k``.
        layers: Names of the layers as in timm's ``feature_info``, in any order; the default is those with strides
            4, 8 and 16 (layer1 to layer3 of a ResNet).
        pre_trained: Whether to use timm's ImageNet weights.
        weights: A ``.pth`` or ``.safetensors`` file with the weights of the backbone, instead of a download.
        image_size: Height and width in pixels of the images that the outputs are checked with.

    Attributes:
        channels: Channels of each output, shallow to deep.
        reductions: Stride of each output relative to the image.
        final_relu: Whether no output is ever negative, as after a ReLU.
        learning: Names of the parameters that learn in a :meth:`trainable_copy`.

    Raises:
        ValueError: If timm has no such backbone, the backbone no such layers, or its outputs are no feature maps.

    Example:
        >>> teacher = Teacher("resnet18.tv_in1k", pre_trained=False)
        >>> [tuple(features.shape) for features in teacher(torch.zeros(1, 3, 64, 96))]
        [(1, 64, 16, 24), (1, 128, 8, 12), (1, 256, 4, 6)]
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        weights: str | Path | None = None,
        image_size: Sequence[int] = (256, 256),
    ) -> None:
        super().__init__()
        known = [*timm.list_models(), *timm.list_models(pretrained=True)]  # without and with the tag of the weights
        if backbone not in known:
            similar = ", ".join(get_close_matches(backbone, known, n=5)) or "see timm.list_models()"
            raise ValueError(f"backbone: timm has no model {backbone!r}. Similar names: {similar}.")
        self.backbone = backbone
        self.pre_trained = pre_trained
        self.weights = weights
        self.trainable = False
        self.learning: list[str] = []
        self.indices = _layer_indices(backbone, layers)
        self.features = _features_only(self.backbone, out_indices=self.indices)
        info: Any = self.features.feature_info
        self.channels: list[int] = info.channels()
        self.reductions: list[int] = info.reduction()
        divisor = 2 * self.reductions[-1]
        self._probe_size = [divisor * max(1, round(side / divisor)) for side in image_size]
        self.final_relu = all(bool((output >= 0).all()) for output in self._probe())
        self.requires_grad_(requires_grad=False)
        # In the checkpoint: restored weights are neither fetched nor calibrated again.
        self.loaded: Tensor
        self.register_buffer("loaded", torch.zeros((), dtype=torch.bool))

    def trainable_copy(self) -> "Teacher":
        """A copy that learns, except for its stem and batch normalisation.

        What no output depends on does not learn, either.

        Raises:
            ValueError: If nothing is left to learn.
        """
        copy = deepcopy(self)
        copy.trainable = True
        copy.features.requires_grad_(requires_grad=True)
        probe = _probe_image(*self._probe_size)
        frozen = stem_parameters(copy.features, probe)
        needed = needed_by(copy.features(probe), copy.features)  # some networks run stages behind the last chosen one
        for module in copy.features.modules():
            if isinstance(module, nn.BatchNorm2d):
                frozen += [id(parameter) for parameter in module.parameters()]
        for parameter in copy.features.parameters():
            parameter.requires_grad = id(parameter) in needed and id(parameter) not in frozen
        copy.learning = [name for name, parameter in copy.named_parameters() if parameter.requires_grad]
        if not copy.learning:
            raise ValueError(
                f"layers: {self.backbone!r} has no weights behind its first chosen layer, so a trainable teacher has "
                "nothing to learn. Choose more or other layers."
            )
        return copy

    @torch.no_grad()
    def _probe(self) -> list[Tensor]:
        """Features of a test image, after a check of their shapes.

        Raises:
            ValueError: If they are not what timm says about the backbone.
        """
        refused = f"backbone: {self.backbone!r} cannot be a teacher: "
        powers = [2 ** (reduction.bit_length() - 1) for reduction in self.reductions]
        if powers != self.reductions or sorted(powers) != powers:
            raise ValueError(f"{refused}its strides {self.reductions} are not ascending powers of two.")
        height, width = self._probe_size
        try:
            outputs: list[Tensor] = self.features.eval()(_probe_image(height, width))
        except Exception as error:
            raise ValueError(f"{refused}it failed on a {height}x{width} image ({error}).") from error
        shapes = [tuple(output.shape) for output in outputs]
        wanted = [(1, c, height // r, width // r) for c, r in zip(self.channels, self.reductions, strict=True)]
        if shapes != wanted:
            raise ValueError(
                f"{refused}for a {height}x{width} image its outputs have the shapes {shapes}, but channels and strides "
                f"from timm's feature_info demand {wanted}."
            )
        return outputs

    def load_pretrained(self) -> None:
        """Load the pre-trained weights, once.

        Raises:
            FileNotFoundError: If the file of weights is missing.
            ValueError: If the file does not hold the weights of this backbone.
            RuntimeError: If the weights are neither on this machine nor can be downloaded.
        """
        if self.loaded or not (self.weights or self.pre_trained):
            return
        if self.weights:
            self._load_file(Path(self.weights))
        else:
            self._load_hub()
        self.loaded.fill_(True)  # noqa: FBT003

    def calibrate(self, images: Tensor) -> None:
        """Fit the batch normalisation of a network with random weights to some images, once.

        Without it, random features hardly depend on the image.

        Args:
            images: Normalised images ``(N, 3, H, W)``.
        """
        if self.loaded:
            return
        norms = [module for module in self.features.modules() if isinstance(module, _BatchNorm)]  # SyncBatchNorm too
        for norm in norms:
            norm.reset_parameters()
            norm.train().momentum = 1.0
        self(images)
        self.eval()
        self.loaded.fill_(True)  # noqa: FBT003

    def _load_hub(self) -> None:
        try:
            network = _features_only(self.backbone, pretrained=True, out_indices=self.indices)
        except Exception as error:  # the hub raises many kinds, and the answer is the same for all of them
            raise RuntimeError(
                f"The ImageNet weights of {self.backbone!r} are not in the local hub cache and cannot be downloaded "
                f"({type(error).__name__}: {error}). Without a network, do one of three things: pass a local file "
                "(--model.teacher_weights FILE.pth or FILE.safetensors, as saved from timm or torchvision); copy a hub "
                "cache from another machine and set HF_HOME to it; train from random weights "
                "(--model.pre_trained false)."
            ) from error
        self.features.load_state_dict(network.state_dict())

    def _load_file(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"teacher_weights: there is no file {file}.")
        try:
            loaded = load_state_dict(str(file))
        except Exception as error:  # torch and safetensors raise many kinds
            raise ValueError(f"teacher_weights: {file} cannot be read as weights ({error}).") from error
        if not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
            raise ValueError(f"teacher_weights: {file} is no state dict, which maps names to tensors.")
        # timm joins the names of nested modules with "_" in some feature extractors and with "." in the others.
        state = {name.replace(".", "_"): tensor for name, tensor in loaded.items()}
        wanted = self.features.state_dict()
        missing = [
            name for name in wanted if name.replace(".", "_") not in state and not name.endswith("num_batches_tracked")
        ]
        if missing:
            raise ValueError(
                f"teacher_weights: {file} lacks {len(missing)} of the {len(wanted)} tensors of {self.backbone!r}, "
                f"the first is {missing[0]!r}. Is it a state dict of that architecture?"
            )
        weights = {name: state.get(name.replace(".", "_"), wanted[name]) for name in wanted}
        if broken := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
            raise ValueError(f"teacher_weights: {broken[0]} in {file} holds NaN or infinity.")
        try:
            self.features.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"teacher_weights: {file} does not fit {self.backbone!r}: {error}") from error

    def train(self, mode: bool = True) -> "Teacher":  # noqa: ARG002
        """Stay in evaluation mode, whatever the mode of the model around it."""
        return super().train(mode=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the layers, shallow to deep.

        Args:
            images: Normalised images ``(N, 3, H, W)``.

        Returns:
            One map ``(N, C_k, H / r_k, W / r_k)`` per layer.
        """
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            outputs: list[Tensor] = self.features(images)
        return outputs


def _probe_image(height: int, width: int) -> Tensor:
    """A test image without randomness, ``(1, 3, height, width)``."""
    return torch.linspace(-2, 2, 3 * height * width).reshape(1, 3, height, width)


def _features_only(backbone: str, **settings: Any) -> nn.Module:
    network: nn.Module = timm.create_model(backbone, features_only=True, **settings)
    return network


def _layer_indices(backbone: str, layers: Sequence[str] | None) -> list[int]:
    """Positions of the layers among timm's feature maps, shallow to deep."""
    try:
        info: Any = _features_only(backbone).feature_info
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"backbone: {backbone!r} has no feature maps in timm ({error}).") from error
    names, reductions = info.module_name(), info.reduction()
    wanted = layers
    if wanted is None:
        wanted = [name for name, reduction in zip(names, reductions, strict=True) if reduction in DEFAULT_REDUCTIONS]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"layers: {list(wanted)} names a layer twice.")
    if not wanted or any(name not in names for name in wanted):
        choice = ", ".join(f"{name} (stride {stride})" for name, stride in zip(names, reductions, strict=True))
        raise ValueError(f"layers: {list(wanted)} are not all feature layers of {backbone!r}. It has: {choice}.")
    return sorted(names.index(name) for name in wanted)

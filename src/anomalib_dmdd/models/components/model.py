"""The base class of the three networks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .teacher import Teacher

if TYPE_CHECKING:
    from anomalib.data.utils.tiler import Tiler


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Context of evaluation mode, after which each part returns to its own mode."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


class DistillationModel(nn.Module, ABC):
    """Network with a pre-trained teacher, whose weights are put in place when training starts.

    In training mode ``forward`` returns the features that the loss needs; in evaluation mode it returns an
    ``InferenceBatch`` with the anomaly map.

    Args:
        teacher: The pre-trained network.

    Attributes:
        teacher: The pre-trained network.
        size_divisor: Height and width of an input image must be multiples of this, in pixels.
        tiler: Cuts images into tiles, each of which passes as an image of its own; Anomalib's
            ``TilerConfigurationCallback`` sets it. In evaluation mode the maps of the tiles are joined again. A loss
            with masks needs those of the tiles, see :meth:`tiled`.
    """

    tiler: "Tiler | None" = None

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        self.size_divisor = 2 * teacher.reductions[-1]
        self.register_forward_pre_hook(_tile)
        self.register_forward_hook(_join_maps)

    def tiled(self, batch: Tensor) -> Tensor:
        """Tiles of images or masks ``(N, C, H, W)``; without a tiler these themselves."""
        return batch if self.tiler is None else self.tiler.tile(batch).to(batch.dtype)

    def use_fast_layout(self) -> None:
        """Store weights with the channels last, in which convolutions are fastest."""
        # On CPUs, torch 2.15 crashes in the backward pass of convolutions with 8 channels in this layout.
        if min(self.teacher.channels) >= 16:  # noqa: PLR2004
            self.to(memory_format=torch.channels_last)

    def load_pretrained(self) -> None:
        """Load the teacher's weights, see :meth:`Teacher.load_pretrained`."""
        self.teacher.load_pretrained()

    def calibrate(self, images: Tensor) -> None:
        """Fit a random teacher to images ``(N, 3, H, W)``, see :meth:`Teacher.calibrate`."""
        self.teacher.calibrate(images)

    @abstractmethod
    def layer_distances(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Distance maps of each branch or student, by its name.

        Args:
            images: Normalised images ``(N, 3, H, W)``.

        Returns:
            For each branch one map ``(N, 1, h_k, w_k)`` per layer of the teacher, shallow to deep.
        """


def _tile(network: DistillationModel, images: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Replace the images that a network is called with by their tiles."""
    return tuple(batch if batch is None else network.tiled(batch) for batch in images)


def _join_maps(network: DistillationModel, _images: tuple[Tensor, ...], output: Any) -> Any:  # noqa: ANN401
    """Join the maps of tiles to those of whole images, an ``InferenceBatch`` in both cases."""
    if network.training or network.tiler is None:
        return output
    anomaly_map = network.tiler.untile(output.anomaly_map).to(output.anomaly_map.dtype)
    # The tiler makes NaN a 0, which would pass as good.
    broken = output.anomaly_map.isnan().view(len(anomaly_map), -1).any(1)
    anomaly_map = anomaly_map.masked_fill(broken[:, None, None, None], torch.nan)
    return output._replace(anomaly_map=anomaly_map, pred_score=anomaly_map.amax(dim=(-3, -2, -1)))

"""The base class of the three networks."""

import torch
from torch import Tensor, nn

from .teacher import Teacher


class DistillationModel(nn.Module):
    """Network with a pre-trained teacher, whose weights are put in place when training starts.

    In training mode ``forward`` returns the features that the loss needs; in evaluation mode it returns an
    ``InferenceBatch`` with the anomaly map.

    Args:
        teacher: The pre-trained network.

    Attributes:
        teacher: The pre-trained network.
        size_divisor: Height and width of an input image must be multiples of this, in pixels.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        self.size_divisor = 2 * teacher.reductions[-1]

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

    def layer_distances(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Distance maps of each branch or student, by its name.

        Args:
            images: Normalised images ``(N, 3, H, W)``.

        Returns:
            For each branch one map ``(N, 1, h_k, w_k)`` per layer of the teacher, shallow to deep.
        """
        raise NotImplementedError

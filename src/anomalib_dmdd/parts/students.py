"""The two kinds of student: the teacher's architecture without its weights, and its mirror image."""

from collections.abc import Sequence
from math import log2

from torch import Tensor, nn

from .embedding import bottleneck_width
from .residual import ResidualBlock
from .teacher import Teacher


def encoder_student(teacher: Teacher) -> nn.Module:
    """A trainable network of the teacher's architecture with random weights: images ``(N, 3, H, W)`` to its features.

    Args:
        teacher: The teacher whose architecture and layers it takes.
    """
    return teacher.build()


class DecoderStudent(nn.Module):
    """The teacher upside down: one residual stage per layer, transposed convolutions for its strides (RD4AD).

    Args:
        width: Channels of the embedding that it starts from, at twice the deepest stride.
        channels: Channels of the teacher's layers, shallow to deep.
        reductions: Their strides, powers of two that do not fall.
        depth: Residual blocks of each stage.
        signed: Whether the teacher's features can be negative; otherwise every stage ends in a ReLU.

    Example:
        >>> import torch
        >>> student = DecoderStudent(512, [64, 128, 256], [4, 8, 16])
        >>> [tuple(features.shape) for features in student(torch.zeros(2, 512, 2, 2))]
        [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4)]
    """

    def __init__(
        self,
        width: int,
        channels: Sequence[int],
        reductions: Sequence[int],
        depth: int = 2,
        signed: bool = False,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        stride = 2 * reductions[-1]
        for channel, reduction in zip(reversed(channels), reversed(reductions), strict=True):
            doublings = int(log2(stride / reduction))
            self.stages.append(
                _stage(width, channel, doublings, depth, bottleneck_width(channels, channel), signed=signed)
            )
            width, stride = channel, reduction

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Map an embedding to features of the teacher's shapes, shallow to deep."""
        features: list[Tensor] = []
        for stage in self.stages:
            embedding = stage(embedding)
            features.insert(0, embedding)
        return features


def _stage(inputs: int, outputs: int, doublings: int, depth: int, width: int | None, *, signed: bool) -> nn.Sequential:
    """Residual blocks of which the first ones double the map."""
    blocks = max(depth, doublings)
    return nn.Sequential(
        *(
            ResidualBlock(
                inputs if block == 0 else outputs,
                outputs,
                "up" if block < doublings else "same",
                width,
                signed=signed and block == blocks - 1,
            )
            for block in range(blocks)
        )
    )

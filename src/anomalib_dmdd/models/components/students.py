"""The decoder student, a mirror image of the teacher."""

from collections.abc import Sequence
from math import log2

from torch import Tensor, nn

from .embedding import bottleneck_width
from .residual import ResidualBlock


class DecoderStudent(nn.Module):
    """Mirror image of the teacher: residual stages with transposed convolutions for its strides.

    Args:
        width: Channels of the embedding, which has twice the deepest stride.
        channels: Channels of the teacher's layers, shallow to deep.
        reductions: Their strides, powers of two that do not fall.
        depth: Residual blocks of each stage.
        final_relu: Whether every stage ends in a ReLU, because the features of the teacher are not negative.

    Example:
        >>> import torch
        >>> student = DecoderStudent(512, [64, 128, 256], [4, 8, 16])
        >>> [tuple(features.shape) for features in student(torch.zeros(2, 512, 2, 2))]
        [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4)]

    References:
        RD4AD, https://arxiv.org/abs/2201.10703
    """

    def __init__(
        self,
        width: int,
        channels: Sequence[int],
        reductions: Sequence[int],
        depth: int = 2,
        final_relu: bool = True,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        stride = 2 * reductions[-1]
        for channel, reduction in zip(reversed(channels), reversed(reductions), strict=True):
            doublings = int(log2(stride / reduction))
            self.stages.append(
                _stage(width, channel, doublings, depth, bottleneck_width(channels, channel), final_relu=final_relu)
            )
            width, stride = channel, reduction

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Map an embedding to features of the teacher's shapes, shallow to deep."""
        features: list[Tensor] = []
        for stage in self.stages:
            embedding = stage(embedding)
            features.insert(0, embedding)
        return features


def _stage(
    inputs: int, outputs: int, doublings: int, depth: int, width: int | None, *, final_relu: bool
) -> nn.Sequential:
    """Residual blocks; the first ``doublings`` of them double the map."""
    blocks = max(depth, doublings)
    return nn.Sequential(
        *(
            ResidualBlock(
                inputs if block == 0 else outputs,
                outputs,
                "up" if block < doublings else "same",
                width,
                final_relu=final_relu or block < blocks - 1,
            )
            for block in range(blocks)
        )
    )

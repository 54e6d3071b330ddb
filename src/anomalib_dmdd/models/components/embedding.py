"""The one-class bottleneck embedding."""

from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor, nn

from .residual import ResidualBlock, conv_bn


class BottleneckEmbedding(nn.Module):
    """One-class bottleneck embedding: joins the features of all layers and compresses them.

    Args:
        channels: Channels of the inputs, shallow to deep.
        reductions: Their strides, powers of two that do not fall.
        inputs: Number of feature sets that are joined, e.g. 2 for those of a student and the teacher.
        dropout: Probability of zeroing a joined feature in training, before the compressing stage, in [0, 1).
        blocks: Residual blocks of the compressing stage; the first one halves the map.
        narrow: Whether these are bottleneck blocks for every teacher, not only for one as wide as a ResNet50.

    Attributes:
        width: Channels of the embedding, twice those of the deepest input.

    Example:
        >>> embedding = BottleneckEmbedding([64, 128, 256], [4, 8, 16])
        >>> features = [torch.zeros(2, 64, 16, 16), torch.zeros(2, 128, 8, 8), torch.zeros(2, 256, 4, 4)]
        >>> embedding(features).shape
        torch.Size([2, 512, 2, 2])

    References:
        RD4AD, https://arxiv.org/abs/2201.10703
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        inputs: int = 1,
        dropout: float = 0.0,
        blocks: int = 2,
        narrow: bool = False,
    ) -> None:
        super().__init__()
        deepest = channels[-1]
        self.reduce = nn.ModuleList(
            _reduce(inputs * channel, deepest, int(log2(reductions[-1] / reduction)))
            for channel, reduction in zip(channels, reductions, strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.width = 2 * deepest
        inner = self.width // 2 if narrow else bottleneck_width(channels, self.width)
        self.compress = nn.Sequential(
            ResidualBlock(len(channels) * deepest, self.width, "down", inner),
            *(ResidualBlock(self.width, self.width, width=inner) for _ in range(blocks - 1)),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embedding of the features of all layers.

        Args:
            features: Maps ``(N, C_k, H / r_k, W / r_k)``, shallow to deep; r is the deepest stride.

        Returns:
            Map ``(N, width, H / 2r, W / 2r)``.
        """
        joined = torch.cat([reduce(level) for reduce, level in zip(self.reduce, features, strict=True)], dim=1)
        embedding: Tensor = self.compress(self.dropout(joined))
        return embedding


def _reduce(inputs: int, outputs: int, halvings: int) -> nn.Module:
    """Convolutions that halve the map and double the channels on the way to ``outputs``."""
    if halvings == 0:
        return nn.Identity() if inputs == outputs else conv_bn(inputs, outputs, kernel=1)
    layers: list[nn.Module] = []
    for step in range(halvings, 0, -1):
        width = max(inputs, outputs >> (step - 1)) if step > 1 else outputs
        layers += [conv_bn(inputs, width, "down"), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers)


def bottleneck_width(channels: Sequence[int], outputs: int) -> int | None:
    """Inner width of the residual blocks, if the teacher is as wide as a ResNet50."""
    return outputs // 2 if channels[-1] > 512 else None  # noqa: PLR2004  # the width where ResNets change their block

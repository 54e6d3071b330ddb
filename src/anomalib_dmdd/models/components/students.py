"""Students of residual stages: an encoder like the teacher, and a decoder, its mirror image."""

from collections.abc import Sequence
from math import log2

from torch import Tensor, nn

from .embedding import bottleneck_width
from .residual import Resample, ResidualBlock, conv_bn

STEM_WIDTH, STEM_STRIDE = 64, 4
"""Channels and stride of the stem of a ResNet. The student has fewer if the first layer of the teacher has."""


class EncoderStudent(nn.Module):
    """A ResNet with the channels and strides of the teacher.

    Args:
        channels: Channels of the teacher's layers, shallow to deep.
        reductions: Their strides, powers of two that do not fall.
        depth: Residual blocks of each stage.
        final_relu: Whether every stage ends in a ReLU, because the features of the teacher are not negative.

    Example:
        >>> import torch
        >>> student = EncoderStudent([64, 128, 256], [4, 8, 16])
        >>> [tuple(features.shape) for features in student(torch.zeros(2, 3, 64, 64))]
        [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4)]
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], depth: int = 2, final_relu: bool = True
    ) -> None:
        super().__init__()
        width, stride = min(channels[0], STEM_WIDTH), min(reductions[0], STEM_STRIDE)
        self.stem = nn.Sequential(
            conv_bn(3, width, "down" if stride > 1 else "same", kernel=7),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1) if stride == STEM_STRIDE else nn.Identity(),
        )
        self.stages = nn.ModuleList()
        for channel, reduction in zip(channels, reductions, strict=True):
            halvings = int(log2(reduction / stride))
            inner = bottleneck_width(channels, channel)
            self.stages.append(_stage(width, channel, "down", halvings, depth, inner, final_relu=final_relu))
            width, stride = channel, reduction
        self._draw_weights()

    def _draw_weights(self) -> None:
        """Start with the weights of a ResNet in timm."""
        # Adam would change the smaller weights of torch by a larger share in its first steps.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, ResidualBlock):
                *_, last = (part for part in module.residual.modules() if isinstance(part, nn.BatchNorm2d))
                nn.init.zeros_(last.weight)  # the block starts as its shortcut

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images ``(N, 3, H, W)`` to features of the teacher's shapes, shallow to deep."""
        features: list[Tensor] = []
        result = self.stem(images)
        for stage in self.stages:
            result = stage(result)
            features.append(result)
        return features


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
            inner = bottleneck_width(channels, channel)
            self.stages.append(_stage(width, channel, "up", doublings, depth, inner, final_relu=final_relu))
            width, stride = channel, reduction

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Map an embedding to features of the teacher's shapes, shallow to deep."""
        features: list[Tensor] = []
        for stage in self.stages:
            embedding = stage(embedding)
            features.insert(0, embedding)
        return features


def _stage(
    inputs: int, outputs: int, resample: Resample, times: int, depth: int, width: int | None, *, final_relu: bool
) -> nn.Sequential:
    """At least ``depth`` residual blocks; the first ``times`` of them resample the map."""
    blocks = max(depth, times)
    return nn.Sequential(
        *(
            ResidualBlock(
                inputs if block == 0 else outputs,
                outputs,
                resample if block < times else "same",
                width,
                final_relu=final_relu or block < blocks - 1,
            )
            for block in range(blocks)
        )
    )

"""Segmentation head of DMDD: one map from the distances of all layers and branches."""

import torch
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from anomalib_dmdd.models.components import conv_bn


class RandomScale(nn.Module):
    """Multiplies the distance maps of each image by a random factor in training.

    Distances are larger on unseen images than on those of the training. So the head learns at several scales.

    Args:
        largest: The largest factor; the smallest is its inverse. The logarithm of the factor is uniform.

    Example:
        >>> maps = torch.ones(2, 6, 4, 4)
        >>> scaled = RandomScale(largest=2)(maps)
        >>> bool((scaled >= 0.5).all() and (scaled <= 2).all())
        True
        >>> torch.equal(RandomScale().eval()(maps), maps)
        True
    """

    def __init__(self, largest: float = 2.0) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, maps: Tensor) -> Tensor:
        """Scaled maps, ``(N, maps, h, w)`` as the input."""
        return maps * self.largest ** (2 * torch.rand_like(maps[:, :1, :1, :1]) - 1) if self.training else maps


class SegmentationHead(nn.Module):
    """Multi-perception segmentation head: several receptive fields, then channel and spatial attention.

    The output is a weighted sum of the distance maps plus a correction from the attention branch. The correction starts
    at zero, so distances that no simulated anomaly shows still count.

    Args:
        maps: Number of distance maps, normalised so that 1 is high for a normal image.
        width: Channels inside the head.

    Example:
        >>> SegmentationHead(maps=6)(torch.rand(2, 6, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, maps: int, width: int = 32) -> None:
        super().__init__()
        self.scale = RandomScale()
        self.stem = nn.Sequential(conv_bn(maps, width), nn.ReLU(inplace=True))
        quarter = width // 4
        self.fields = nn.ModuleList(
            [
                nn.Conv2d(width, quarter, 1, bias=False),
                *(nn.Conv2d(width, quarter, 3, padding=step, dilation=step, bias=False) for step in (1, 3, 6)),
            ]
        )
        self.fuse = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.attention = CbamModule(width, rd_ratio=1 / 4, spatial_kernel_size=7)
        self.correction = nn.Conv2d(width, 1, 1)
        self.sum = nn.Conv2d(maps, 1, 1)
        nn.init.zeros_(self.correction.weight)
        nn.init.constant_(self.sum.weight, 3.0 / maps)
        nn.init.constant_(self.sum.bias, -4.0)  # type: ignore[arg-type]  # it has a bias

    def forward(self, maps: Tensor) -> Tensor:
        """Logits ``(N, 1, h, w)`` of an anomaly from distance maps ``(N, maps, h, w)``."""
        maps = self.scale(maps)
        stem = self.stem(maps)
        fused = self.fuse(torch.cat([field(stem) for field in self.fields], dim=1))
        logits: Tensor = self.sum(maps) + self.correction(stem + self.attention(fused))
        return logits

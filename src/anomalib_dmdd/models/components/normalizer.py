"""Normalisation of the distance maps of different layers to one scale."""

import torch
from torch import Tensor, nn


class DistanceNormalizer(nn.Module):
    """Divides distance maps by their upper limits on normal images, so no layer dominates.

    The limit is mean + 3 standard deviations over images and positions, as a moving average over the training.

    Args:
        maps: Number of maps.
        momentum: Weight of one batch in the moving average, in (0, 1].

    Attributes:
        limit: Upper limit of each map, ``(1, maps, 1, 1)``; part of the checkpoint.

    Example:
        >>> normalizer = DistanceNormalizer(maps=2)
        >>> normalizer.update(torch.tensor([0.1, 0.4]).reshape(1, 2, 1, 1).expand(4, 2, 8, 8))
        >>> [round(float(highest), 3) for highest in normalizer(torch.full((1, 2, 2, 2), 0.2)).amax((0, 2, 3))]
        [2.0, 0.5]
    """

    limit: Tensor
    fresh: Tensor

    def __init__(self, maps: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("limit", torch.ones(1, maps, 1, 1))
        self.register_buffer("fresh", torch.ones((), dtype=torch.bool))

    @torch.no_grad()
    def update(self, normal: Tensor) -> None:
        """Update the limits with maps ``(N, maps, h, w)`` of normal images."""
        std, mean = torch.std_mean(normal.float(), dim=(0, 2, 3), keepdim=True)
        self.limit.lerp_(mean + 3 * std, torch.where(self.fresh, 1.0, self.momentum))
        self.fresh.fill_(False)  # noqa: FBT003

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps ``(N, maps, h, w)``; 1 is high for a normal image."""
        return maps / self.limit

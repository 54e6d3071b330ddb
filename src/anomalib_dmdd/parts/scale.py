"""One scale for distances of different layers."""

import torch
from torch import Tensor, nn


class NormalScale(nn.Module):
    """Divides each distance map by what is high for it on normal images, so that no layer drowns the others.

    High is mean + 3 standard deviations over images and positions, a moving average over the training (our choice).

    Args:
        maps: Number of maps.
        momentum: Weight of a batch in the moving average.

    Example:
        >>> scale = NormalScale(maps=2)
        >>> scale.follow(torch.tensor([0.1, 0.4]).reshape(1, 2, 1, 1).expand(4, 2, 8, 8))
        >>> [round(float(highest), 3) for highest in scale(torch.full((1, 2, 2, 2), 0.2)).amax((0, 2, 3))]
        [2.0, 0.5]
    """

    high: Tensor
    fresh: Tensor

    def __init__(self, maps: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("high", torch.ones(1, maps, 1, 1))
        self.register_buffer("fresh", torch.ones((), dtype=torch.bool))

    @torch.no_grad()
    def follow(self, normal: Tensor) -> None:
        """Take the maps ``(N, maps, h, w)`` of a batch of normal images into account."""
        std, mean = torch.std_mean(normal.float(), dim=(0, 2, 3), keepdim=True)
        self.high.lerp_(mean + 3 * std, torch.where(self.fresh, 1.0, self.momentum))
        self.fresh.fill_(False)  # noqa: FBT003

    def forward(self, maps: Tensor) -> Tensor:
        """The maps ``(N, maps, h, w)``, at about 1 where a normal distance is high."""
        return maps / self.high

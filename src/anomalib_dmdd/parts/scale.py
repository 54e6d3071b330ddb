"""One scale for distances of different layers."""

import torch
from torch import Tensor, nn


class NormalScale(nn.Module):
    """Divides each distance map by what is high for it on normal images, so that no layer drowns the others.

    High is mean + 3 standard deviations over images and positions, a moving average over the training. A map that is
    higher than that in half of its positions is divided by its median: then the whole image is unlike the training's,
    as after few training images or in another light, and what stands out of it counts (both are our choice).

    Args:
        maps: Number of maps.
        momentum: Weight of a batch in the moving average.

    Example:
        >>> scale = NormalScale(maps=2)
        >>> scale.follow(torch.tensor([0.1, 0.4]).reshape(1, 2, 1, 1).expand(4, 2, 8, 8))
        >>> maps = torch.zeros(1, 2, 2, 2).index_fill(3, torch.tensor(1), 0.2)  # the right half is at 0.2
        >>> [round(float(highest), 3) for highest in scale(maps).amax((0, 2, 3))]
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
        scaled = maps / self.high
        positions = scaled.flatten(2)
        # The median; torch.median and kthvalue have no deterministic form on CUDA.
        upper_half = positions.topk(positions.shape[-1] // 2 + 1, sorted=False).values
        return scaled / upper_half.amin(-1).clamp_min(1)[..., None, None]

"""Mild augmentation: small random changes of pose and light."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .normalization import Normalized


class MildAugmentation(Normalized):
    """Random rotation, shift, scale and brightness of each image of a batch.

    A few training images then show more of the variation of good parts. Uncovered corners repeat the border. All
    randomness comes from torch's generator of the images' device, and nothing waits for a GPU.

    Args:
        degrees: Largest rotation to either side, in degrees.
        shift: Largest shift to either side, as a share of the image side.
        scale: Largest relative change of the size, such as 0.05 for 5 %.
        brightness: Largest relative change of the brightness, of pixel values in [0, 1].

    Example:
        >>> images = torch.randn(4, 3, 64, 96)
        >>> MildAugmentation()(images).shape
        torch.Size([4, 3, 64, 96])
    """

    def __init__(self, degrees: float = 5.0, shift: float = 0.03, scale: float = 0.05, brightness: float = 0.1) -> None:
        super().__init__()
        self.degrees, self.shift, self.scale, self.brightness = degrees, shift, scale, brightness

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Augment normalised images.

        Args:
            images: Normalised images ``(N, 3, H, W)``.

        Returns:
            Augmented images, of the same shape and type.
        """
        pixels = images.float()
        with torch.autocast(images.device.type, enabled=False):  # in half precision, places would be off by pixels
            places = F.affine_grid(self._transforms(pixels), list(pixels.shape), align_corners=False)
        moved = F.grid_sample(pixels, places, "bilinear", "border", align_corners=False)
        light = 1 + self.brightness * self._uniform(pixels, 1)[..., None, None]
        black = -self._mean / self._std
        return torch.lerp(black, moved, light).to(images.dtype)

    def _transforms(self, images: Tensor) -> Tensor:
        """Affine transforms from result to image in units of half a side, ``(N, 2, 3)``."""
        height, width = images.shape[2:]
        angle = math.radians(self.degrees) * self._uniform(images, 1)
        zoom = 1 + self.scale * self._uniform(images, 1)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()  # (N, 1)
        rotation = torch.cat([cos, -sin * height / width, sin * width / height, cos], dim=1).view(-1, 2, 2)
        return torch.cat([rotation, 2 * self.shift * self._uniform(images, 2)[..., None]], dim=2)

    @staticmethod
    def _uniform(images: Tensor, count: int) -> Tensor:
        """Uniform random numbers in [-1, 1), ``(N, count)``."""
        return 2 * torch.rand(len(images), count, device=images.device) - 1

"""Batched Perlin noise with a lattice, resolution and rotation per image."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class PerlinNoise:
    """Perlin noise fields of a batch, which can be evaluated at any pixel.

    With quintic fade weights w_i, noise(p) = sum_i w_i g_i . (p - i) = p . (sum_i w_i g_i) - sum_i w_i g_i . i over the
    four lattice points i around p. Both sums are bilinear interpolations at faded coordinates. So one call of
    ``grid_sample`` over the channels (g_x, g_y, g . i) evaluates the whole batch, also for rotated fields.

    Attributes:
        lattice: (g_x, g_y, g . i) at the lattice points, with i counted from the middle, ``(N, 3, L, L)``.
        axes: Lattice coordinates per pixel: [:, x or y of the lattice, :, x or y of the image], ``(N, 2, K, 2)``.
        phase: Lattice coordinates of the image centre, ``(N, 2, K)``.
        finest: Largest number of cells along the longer side of an image.

    References:
        Perlin, Improving noise, SIGGRAPH 2002, https://doi.org/10.1145/566570.566636

    Example:
        >>> fields = PerlinNoise.draw(count=2, candidates=3, side=64, octaves=4, device=torch.device("cpu"))
        >>> fields.render(64, 64).shape
        torch.Size([2, 3, 33, 33])
    """

    lattice: Tensor
    axes: Tensor
    phase: Tensor
    finest: int

    @classmethod
    def draw(cls, count: int, candidates: int, side: int, octaves: int, device: torch.device) -> "PerlinNoise":
        """Draw random fields with random resolution, rotation and phase.

        Each axis has 2^0 to 2^(octaves - 1) cells, independently. The rotation is uniform in [-90, 90] degrees. Without
        a random phase the noise would always be 0 at the image centre.

        Args:
            count: Number of images N.
            candidates: Fields per image K. They share the gradients, which cost most, and nothing else.
            side: Longer side of the images in pixels; the cells are counted along it.
            octaves: Number of resolutions to draw from.
            device: Device of the fields.
        """
        cells = 2.0 ** torch.randint(octaves, (count, 2, candidates, 1), device=device)
        angle = math.pi * (torch.rand(count, candidates, device=device) - 0.5)
        cos, sin = angle.cos(), angle.sin()
        rotation = torch.stack((torch.stack((cos, sin), dim=-1), torch.stack((-sin, cos), dim=-1)), dim=1)
        # The image corners are at most side / sqrt(2) from the centre; one more cell each side for phase and fade.
        finest = 2 ** (octaves - 1)
        reach = math.ceil(finest / math.sqrt(2)) + 1
        points = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
        theta = 2 * math.pi * torch.rand(count, len(points), len(points), device=device)
        g_x, g_y = theta.cos(), theta.sin()
        return cls(
            lattice=torch.stack((g_x, g_y, g_x * points + g_y * points[:, None]), dim=1),
            axes=rotation * cells / side,
            phase=torch.rand(count, 2, candidates, device=device) - 0.5,
            finest=finest,
        )

    def choose(self, candidate: Tensor) -> "PerlinNoise":
        """Keep one candidate per image.

        Args:
            candidate: Index of the kept field, ``(N,)``.
        """
        image = torch.arange(len(candidate), device=candidate.device)
        axes, phase = self.axes[image, :, candidate], self.phase[image, :, candidate]
        return replace(self, axes=axes[:, :, None], phase=phase[:, :, None])

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        """Noise on a grid of pixel offsets from the image centre.

        Args:
            y: Vertical offsets in pixels, ``(H,)``.
            x: Horizontal offsets in pixels, ``(W,)``.

        Returns:
            Noise in [-1, 1], ``(N, K, H, W)``.
        """
        along_x = self.axes[..., 0, None] * x + self.phase[..., None]
        along_y = self.axes[..., 1, None] * y
        position = along_x[..., None, :] + along_y[..., None]
        # In place where possible: on a CPU, fresh memory costs more than the arithmetic.
        cell = position.floor()
        t = position - cell
        faded = (t * 6).sub_(15).mul_(t).add_(10).mul_(t).mul_(t).mul_(t).add_(cell)
        grid = faded.div_(self.lattice.shape[-1] // 2).flatten(2, 3).permute(0, 2, 3, 1)
        sums = F.grid_sample(self.lattice, grid, align_corners=True)
        g_x, g_y, constant = sums.view(len(sums), 3, *position.shape[2:]).unbind(1)
        noise: Tensor = g_x.mul_(position[:, 0]).addcmul_(g_y, position[:, 1]).sub_(constant)
        return noise.mul_(math.sqrt(2))

    def render(self, height: int, width: int) -> Tensor:
        """Noise from corner to corner of an image, sampled coarsely where that is enough.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            Noise in [-1, 1], ``(N, K, h, w)``, with four points per finest cell and at most one per pixel.
        """
        points = 4 * self.finest / max(height, width)
        y, x = (
            torch.linspace(
                -(side - 1) / 2, (side - 1) / 2, min(side, round(points * side) + 1), device=self.axes.device
            )
            for side in (height, width)
        )
        return self(y, x)

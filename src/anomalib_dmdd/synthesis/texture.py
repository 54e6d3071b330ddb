"""Textures of simulated defects: RGB images in [0, 1], read or drawn."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from .picture import read_rgb


def load_textures(folder: str | Path, size: int = 256, limit: int = 1000) -> Tensor:
    """Read the images of a folder and its subfolders as square textures.

    Args:
        folder: Folder with images, for example the Describable Textures Dataset.
        size: Side of the result in pixels.
        limit: Largest number of images, evenly spread over the sorted names; 1000 at 256x256 take 200 MB.

    Returns:
        Textures ``(T, 3, size, size)``, uint8.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the folder has no images, or one of them cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        msg = (
            f"textures: there is no folder {str(folder)!r} on this machine. Give a folder of images, "
            "or textures=None to use textures that need no files."
        )
        raise FileNotFoundError(msg)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        msg = f"textures: the folder {str(folder)!r} has no images ({', '.join(IMG_EXTENSIONS)})."
        raise ValueError(msg)
    crop = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    kept = [paths[i * len(paths) // limit] for i in range(limit)] if len(paths) > limit else paths
    return torch.stack([crop(read_rgb(path, "textures")) for path in kept])


def draw_textures_(textures: Tensor) -> Tensor:
    """Draw random stains, stripes and marble into a tensor, in place.

    Two colours are mixed by a sine wave whose phase is distorted by fractal noise.

    Args:
        textures: Overwritten, ``(N, 3, H, W)``.

    Returns:
        The same tensor, in [0, 1].

    Example:
        >>> draw_textures_(torch.empty(2, 3, 64, 96)).shape
        torch.Size([2, 3, 64, 96])
    """
    count, size, device = len(textures), textures.shape[2:], textures.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, 1, 1, device=device)

    noise = torch.zeros(count, 1, 2, 2, device=device)
    for cells in (4, 8, 16, 32, 64):
        octave = torch.rand(count, 1, cells, cells, device=device) - 0.5
        noise = F.interpolate(noise, (cells, cells), mode="bilinear") + octave * (20 * rand(1) / cells**0.5)
    coarse = [(side + 1) // 2 for side in size]  # enough: without noise a wave is at least eight pixels of 256 long
    y, x = (torch.linspace(0, 2 * math.pi, side, device=device) for side in coarse)
    frequency = 2 ** (5 * rand(2))
    wave = F.interpolate(rand(1) * noise, coarse, mode="bilinear")
    wave.add_(frequency[:, :1] * y[:, None]).add_(frequency[:, 1:] * x).sin_()
    wave = F.interpolate(wave, tuple(size), mode="bilinear")
    first, second = rand(3), rand(3)
    return torch.addcmul((first + second) / 2, (first - second) / 2, wave, out=textures)


def rearrange(textures: Tensor, size: tuple[int, int], patches: int = 1) -> Tensor:
    """Random views of textures: rotated, mirrored, zoomed, shifted and shuffled in patches.

    Sampling takes the nearest pixel, which is fast and keeps the grain of a photograph.

    Args:
        textures: Textures ``(N, C, h, w)``.
        size: Height and width of the result in pixels.
        patches: Patches per side of the result, each of which shows another place of the texture.

    Returns:
        Views ``(N, C, *size)``.

    Example:
        >>> rearrange(torch.rand(2, 3, 32, 32), size=(64, 96), patches=8).shape
        torch.Size([2, 3, 64, 96])
    """
    count, device = len(textures), textures.device
    angle = 2 * math.pi * torch.rand(count, device=device)
    zoom = 0.5 + 0.5 * torch.rand(count, 1, device=device)
    mirror = torch.randint(2, (count,), device=device) * 2 - 1
    axis_x = torch.stack((angle.cos() * mirror, angle.sin() * mirror), dim=1) * zoom
    axis_y = torch.stack((-angle.sin(), angle.cos()), dim=1) * zoom
    y, x = (torch.linspace(-1, 1, side, device=device) for side in size)
    place = torch.rand(count, 2, patches, patches, device=device) * 2 - 1
    # Of a single patch one pixel is enough: the sums below spread it.
    grid = place if patches == 1 else F.interpolate(place, size)
    grid = (grid + axis_x[..., None, None] * x) + axis_y[..., None, None] * y[:, None]
    return F.grid_sample(
        textures, grid.permute(0, 2, 3, 1), mode="nearest", padding_mode="reflection", align_corners=False
    )


def jitter_colours_(textures: Tensor, mean: Tensor | float = 0.0, std: Tensor | float = 1.0) -> Tensor:
    """Change contrast, brightness and tint of each texture at random, in place.

    About a quarter of the textures become negatives.

    Args:
        textures: Textures in [0, 1] after normalisation with ``mean`` and ``std``, ``(N, 3, H, W)``.
        mean: Mean of the normalisation, ``(3, 1, 1)`` or a number.
        std: Standard deviation of the normalisation, ``(3, 1, 1)`` or a number.

    Returns:
        The same tensor, in [0, 1].
    """
    count, device = len(textures), textures.device

    def uniform(channels: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, device=device)

    sign = torch.where(torch.randint(4, (count, 1, 1, 1), device=device) == 0, -1, 1)
    tinted = torch.randint(2, (count, 1, 1, 1), device=device)  # every other grey texture stays grey
    contrast = sign * uniform(1, 0.5, 1.5) * (1 + tinted * uniform(3, -0.25, 0.25))
    middle = uniform(1, 0.2, 0.8) + tinted * uniform(3, -0.1, 0.1)
    return textures.mul_(contrast * std).add_(middle + contrast * (mean - 0.5)).clamp_(0, 1)


def shuffled_channels(count: int, device: torch.device) -> Tensor:
    """Random order of red, green and blue for each texture, ``(N, 3)``.

    Args:
        count: Number of textures N.
        device: Device of the result.
    """
    return torch.rand(count, 3, device=device).argsort(1)

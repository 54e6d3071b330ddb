"""Foreground masks without labels or a category."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def foreground_mask(
    rgb: Tensor,
    area: tuple[float, float] = (0.1, 0.9),
    min_agreement: float = 0.9,
    min_separability: float = 0.7,
) -> Tensor:
    """Mask of the pixels whose colour differs from the image border.

    The mask thresholds the blurred colour distance from the median border colour by Otsu's method and fills its holes.
    Unlike a threshold of grey values, it keeps objects whole that are partly darker and partly brighter than the
    background. The mask is the whole image if no object stands out:

    - the foreground is too small or too large,
    - the border has more than one colour,
    - the two classes are hardly separable, as in a texture.

    Note:
        It replaces the rules per category of URD and DeSTSeg. It is meant for coarse images of about 64x64 pixels.

    Args:
        rgb: Colour images of any scale, ``(N, 3, H, W)``.
        area: Smallest and largest accepted share of foreground, in [0, 1].
        min_agreement: Least share of the border that is background, in [0, 1].
        min_separability: Least separability of the two classes, in [0, 1]; normally distributed values have 0.64.

    Returns:
        True on the object, ``(N, H, W)``, bool.

    References:
        URD, https://arxiv.org/abs/2412.07579; DeSTSeg, https://arxiv.org/abs/2211.11317

    Example:
        >>> images = torch.zeros(1, 3, 64, 64)
        >>> images[:, :, 16:48, 16:48] = 1
        >>> mask = foreground_mask(images)
        >>> bool(mask[0, 32, 32]), bool(mask[0, 0, 0])
        (True, False)
    """
    border = _border(rgb).sort(-1).values
    background = border[..., border.shape[-1] // 2, None, None]
    distance = (rgb - background).square().sum(1, keepdim=True).sqrt()
    distance = F.avg_pool2d(distance, 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    threshold, separability = otsu_threshold(distance)
    mask = distance > threshold[:, None, None]
    agreement = 1 - _border(mask).float().mean(1)
    mask = fill_holes(mask)
    share = mask.float().mean((1, 2))
    believable = (share >= area[0]) & (share <= area[1])
    believable &= (agreement >= min_agreement) & (separability >= min_separability)
    return mask | ~believable[:, None, None]


def _border(images: Tensor) -> Tensor:
    """Pixels of the four image edges, ``(..., H, W)`` to ``(..., P)``."""
    edges = images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1]
    return torch.cat(edges, dim=-1)


def otsu_threshold(grey: Tensor, bins: int = 256) -> tuple[Tensor, Tensor]:
    """Otsu's threshold of each image, which maximises the variance between two classes.

    Args:
        grey: Images of one channel and any scale, ``(N, H, W)``.
        bins: Bins of the histogram between the smallest and the largest value of an image.

    Returns:
        Thresholds in the units of the images, ``(N,)``, and separabilities ``(N,)``. Separability is the share of the
        variance that lies between the classes, in [0, 1].

    References:
        Otsu, A threshold selection method from gray-level histograms, 1979, https://doi.org/10.1109/TSMC.1979.4310076
    """
    values = grey.flatten(1)
    low, high = values.aminmax(dim=1, keepdim=True)
    width = ((high - low) / bins).clamp(min=torch.finfo(values.dtype).tiny)
    index = ((values - low) / width).long().clamp(0, bins - 1)  # NaN becomes negative
    # In integers: sums of floats in no fixed order would not repeat exactly on a GPU.
    counts = torch.zeros(len(values), bins, dtype=torch.long, device=grey.device)
    counts.scatter_add_(1, index, torch.ones_like(index))
    below = counts.cumsum(1).float()
    sums = (counts * torch.arange(bins, device=grey.device)).cumsum(1).float()
    above = values.shape[1] - below
    gap = sums / below.clamp(min=1) - (sums[:, -1:] - sums) / above.clamp(min=1)
    between, best = (below * above * gap.square() / values.shape[1] ** 2).max(1, keepdim=True)
    separability = between / index.float().var(1, correction=0, keepdim=True).clamp(min=1e-6)
    threshold = low + (best + 1) * width
    return threshold[:, 0], separability[:, 0]


def fill_holes(mask: Tensor, sweeps: int = 3) -> Tensor:
    """Fill the holes of each mask: background that no path connects to the image border.

    The background is flooded from the border along whole columns and rows, with four neighbours per pixel. Few sweeps
    are enough. A place that the flood reaches only after more turns than sweeps may be filled by mistake.

    Args:
        mask: Masks ``(N, H, W)``, bool.
        sweeps: Number of rounds of columns and rows.

    Returns:
        Filled masks ``(N, H, W)``, bool.
    """
    wet = ~mask
    wet[:, 1:-1, 1:-1] = False
    runs = _runs(mask.mT).mT, _runs(mask)
    count, height, width = mask.shape
    wet_runs = torch.zeros(count, (height + 1) * (width + 1), dtype=torch.bool, device=mask.device)
    for _ in range(sweeps):
        for run in runs:
            flat = run.flatten(1)
            wet_runs.zero_().scatter_(1, flat * wet.flatten(1), 1)  # no run has the number 0
            wet = wet_runs.gather(1, flat).view_as(mask) & ~mask
    return ~wet


def _runs(mask: Tensor) -> Tensor:
    """Number of the run of background at each pixel of a row, ``(N, H, W)``.

    Numbers start at 1 and are unique in an image.
    """
    height, width = mask.shape[1:]
    row = torch.arange(height, device=mask.device) * (width + 1) + 1
    return mask.cumsum(-1) + row[:, None]

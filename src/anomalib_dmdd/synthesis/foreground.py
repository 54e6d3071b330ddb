"""Where the object is, by a rule that knows no category."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def foreground_mask(
    rgb: Tensor,
    area: tuple[float, float] = (0.1, 0.9),
    min_agreement: float = 0.9,
    min_separability: float = 0.7,
) -> Tensor:
    """The part of each image that has not the colour of its border.

    Distance of each pixel's colour from the median colour of the border, blur, Otsu's threshold, holes filled. The
    whole image where that is no answer: too small or too large a foreground, a border of more than one colour, or
    classes that are hardly two, as in a texture without an object.
    Meant for coarse images (about 64x64 cells): the place of a defect needs no more.

    Source: our choice, in the place of the per-category rules of URD and DeSTSeg. The distance from the border's colour
    finds objects that a threshold of grey cuts in two: those with parts darker and parts brighter than the background.

    Args:
        rgb: Colour images of any scale, (N, 3, H, W).
        area: Smallest and largest believable share of foreground.
        min_agreement: Share of the border that has to be background.
        min_separability: Least separability of the two classes; normally distributed values have 0.64.

    Returns:
        True on the object, (N, H, W).
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
    """The pixels of the images' four edges, (..., H, W) -> (..., P)."""
    edges = images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1]
    return torch.cat(edges, dim=-1)


def otsu_threshold(grey: Tensor, bins: int = 256) -> tuple[Tensor, Tensor]:
    """Otsu's threshold of each image: the one with the largest variance between the two classes.

    Source: N. Otsu, A threshold selection method from gray-level histograms, 1979.

    Args:
        grey: Images of one channel and any scale, (N, H, W).
        bins: Bins of the histogram between the image's smallest and largest value.

    Returns:
        Thresholds in the images' units, (N,), and separabilities: the share in [0, 1] of the variance that is between
        the classes, (N,).
    """
    values = grey.flatten(1)
    low, high = values.aminmax(dim=1, keepdim=True)
    width = ((high - low) / bins).clamp(min=torch.finfo(values.dtype).tiny)
    index = ((values - low) / width).long().clamp(max=bins - 1)
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
    """Add to each mask what its image's border does not reach (in steps up, down, left and right).

    The background is flooded from the border, along whole runs of background in the columns and then in the rows, so
    few sweeps do: only a place behind more turns than sweeps may count as a hole although it is none.

    Args:
        mask: Masks, (N, H, W), bool.
        sweeps: Number of rounds of columns and rows.

    Returns:
        Filled masks, (N, H, W), bool.
    """
    wet = ~F.pad(torch.ones_like(mask[:, 1:-1, 1:-1]), (1, 1, 1, 1)) & ~mask
    runs = _runs(mask.mT).mT, _runs(mask)
    count, height, width = mask.shape
    wet_runs = torch.zeros(count, (height + 1) * (width + 1), dtype=torch.bool, device=mask.device)
    for _ in range(sweeps):
        for run in runs:
            flat = run.flatten(1)
            wet_runs.zero_().scatter_(1, flat * wet.flatten(1), 1)  # number 0 is nobody's
            wet = wet_runs.gather(1, flat).view_as(mask) & ~mask
    return ~wet


def _runs(mask: Tensor) -> Tensor:
    """The number of each place's run of background in its row, from 1, unique in the image; (N, H, W)."""
    height, width = mask.shape[1:]
    row = torch.arange(height, device=mask.device) * (width + 1) + 1
    return mask.cumsum(-1) + row[:, None]

"""Distances between two feature maps, and their combination into one map of the image."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

SHORTEST = 1e-4
"""Features shorter than this count as this long, so that gradients, at most ``1 / SHORTEST``, fit in float16."""


def cosine_distance(features: Tensor, target: Tensor) -> Tensor:
    """Cosine distance at each position, ``1 - cos`` over the channels.

    Args:
        features: Feature map ``(N, C, h, w)``.
        target: Feature map of the same shape.

    Returns:
        Distances ``(N, 1, h, w)`` in single precision: 0 for the same direction, 1 for orthogonal, 2 for opposite ones.

    Example:
        >>> import torch
        >>> cosine_distance(torch.ones(1, 2, 1, 1), torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)).squeeze()
        tensor(0.2929)

    References:
        RD4AD, equation 1, https://arxiv.org/abs/2201.10703
    """
    return 1 - F.cosine_similarity(features.float(), target.float(), dim=1, eps=SHORTEST).unsqueeze(1)


def self_weighted_mean(distances: Tensor) -> Tensor:
    """Mean weighted by the detached distances themselves, so that the worst-matched positions dominate the gradient.

    The maximum of the map decides about an image, so the few positions of a good part with large distances matter most.
    The weights add up to 1, so the gradient is as strong as that of a plain mean.

    Args:
        distances: Any shape. If all are zero, so is the result.

    Example:
        >>> import torch
        >>> self_weighted_mean(torch.tensor([0.1, 0.3]))
        tensor(0.2500)
    """
    weights = distances.detach().clamp_min(0)
    return (distances * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).eps)


def geometric_mean(maps: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Geometric mean of maps over the channels, which no layer dominates by its scale.

    Args:
        maps: ``(N, C, h, w)``, not negative except for rounding.
        weights: C weights of any sum; by default equal ones.

    Returns:
        Mean over the channels, ``(N, 1, h, w)``.

    Example:
        >>> import torch
        >>> geometric_mean(torch.tensor([0.1, 0.4]).reshape(1, 2, 1, 1)).squeeze()
        tensor(0.2000)

    References:
        STFPM multiplies its layers, https://arxiv.org/abs/2103.04257
    """
    logarithms = maps.clamp_min(1e-5).log()
    if weights is None:
        return logarithms.mean(dim=1, keepdim=True).exp()
    shares = logarithms.new_tensor(weights).view(1, -1, 1, 1) / sum(weights)
    return (logarithms * shares).sum(dim=1, keepdim=True).exp()


def upsample(distances: Tensor, like: Tensor) -> Tensor:
    """Bilinear upsampling of maps to the height and width of another tensor.

    Maps ``(N, C, h, w)`` become ``(N, C, H, W)``, as ``like`` is ``(..., H, W)``. The corners are aligned, as in the
    code of RD4AD. This locates defects at the image border better.
    """
    return F.interpolate(distances, (like.shape[-2], like.shape[-1]), mode="bilinear", align_corners=True)


def sum_of_layers(distances: Iterable[Tensor], images: Tensor) -> Tensor:
    """Sum of the maps of all layers at the size of the images.

    Args:
        distances: Maps ``(N, 1, h_k, w_k)``, the finest first.
        images: ``(N, C, H, W)``.

    Returns:
        Anomaly map ``(N, 1, H, W)``.
    """
    first, *coarser = distances
    total = sum((upsample(distance, first) for distance in coarser), first)
    return upsample(total, images)  # the sum, once: three maps of the size of the images cost three times as much

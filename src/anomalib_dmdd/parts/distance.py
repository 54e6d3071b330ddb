"""How far two feature maps are apart, and how such distances become one map of the image."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def cosine_distance(features: Tensor, target: Tensor) -> Tensor:
    """Cosine distance at each position, ``1 - cos`` over the channels (RD4AD, eq. 1).

    Args:
        features: Feature map ``(N, C, h, w)``.
        target: Feature map of the same shape.

    Returns:
        Distances ``(N, 1, h, w)`` in single precision: 0 for the same direction, 1 for orthogonal, 2 for opposite ones.

    Example:
        >>> import torch
        >>> cosine_distance(torch.ones(1, 2, 1, 1), torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)).squeeze()
        tensor(0.2929)
    """
    return 1 - F.cosine_similarity(features.float(), target.float(), dim=1).unsqueeze(1)


def hard_mean(distances: Tensor) -> Tensor:
    """Mean in which a distance weighs as much as it is large: the student learns most where it is worst (our choice).

    An image is judged by the maximum of its map, so the few positions of a good part that stay far matter more than
    all others. The weights have no gradient, so that together the positions pull as strongly as in a plain mean.

    Args:
        distances: Any shape. If all are zero, so is the result.

    Example:
        >>> import torch
        >>> hard_mean(torch.tensor([0.1, 0.3]))
        tensor(0.2500)
    """
    weights = distances.detach().clamp_min(0)
    return (distances * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).eps)


def geometric_mean(maps: Tensor) -> Tensor:
    """Geometric mean of maps, as STFPM multiplies its layers: none drowns the others, whatever its scale.

    Args:
        maps: ``(N, C, h, w)``, not negative but for rounding.

    Returns:
        Mean over the channels, ``(N, 1, h, w)``.

    Example:
        >>> import torch
        >>> geometric_mean(torch.tensor([0.1, 0.4]).reshape(1, 2, 1, 1)).squeeze()
        tensor(0.2000)
    """
    return maps.clamp_min(1e-5).log().mean(dim=1, keepdim=True).exp()


def upsample(distances: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear upsampling of a map ``(N, C, h, w)`` to ``(N, C, *size)``.

    The corners are aligned, as in RD4AD's code: defects at the border are located better than with cells at their
    place in the grid (measured, see docs/results.md).
    """
    return F.interpolate(distances, size=size, mode="bilinear", align_corners=True)


def sum_of_layers(distances: Iterable[Tensor], images: Tensor) -> Tensor:
    """Upsample the map of each layer to the size of the images and add them (RD4AD's anomaly map).

    Args:
        distances: Maps ``(N, 1, h_k, w_k)``.
        images: ``(N, C, H, W)``.

    Returns:
        Anomaly map ``(N, 1, H, W)``.
    """
    size = (images.shape[-2], images.shape[-1])
    return torch.cat([upsample(distance, size) for distance in distances], dim=1).sum(dim=1, keepdim=True)

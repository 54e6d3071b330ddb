"""Masks of simulated anomalies at the size of a feature map, and masked means."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

ANOMALOUS_CELL = 0.5
"""A cell of a feature map counts as anomalous if at least this share of its area is anomalous."""


def anomalous_area(mask: Tensor, like: Tensor) -> Tensor:
    """Share of anomalous area in each cell; keeps thin defects at coarse scales.

    Args:
        mask: 1 where the image is anomalous, ``(N, 1, H, W)``.
        like: A map ``(N, C, h, w)`` of the target size.

    Returns:
        Shares in [0, 1], ``(N, 1, h, w)``.
    """
    return F.adaptive_avg_pool2d(mask, (like.shape[-2], like.shape[-1]))


def masked_mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over the chosen positions of the batch; 0 where there are none.

    Args:
        values: Any shape.
        where: Boolean, the same shape.
    """
    return (values * where).sum() / where.sum().clamp(min=1)

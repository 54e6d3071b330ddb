"""Losses of DMDD.

Symbols: T teacher, N normality features, A abnormality features, I normal image, I_a its anomalous copy, d and D cosine
distance per position.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from anomalib_dmdd.models.components import (
    ANOMALOUS_CELL,
    anomalous_area,
    masked_mean,
    matching_distance,
    self_weighted_mean,
)

from .torch_model import DmddFeatures

NORMAL_CELL = 0.05
"""A cell counts as normal below this share of anomalous area."""


class DmddLossParts(NamedTuple):
    """Terms of the loss, each a scalar."""

    ngm: Tensor
    aim: Tensor
    head: Tensor


def normality_guidance(
    anomalous: Sequence[Tensor], normal: Sequence[Tensor], teacher: Sequence[Tensor], guidance: float
) -> Tensor:
    """Normality guidance modeling (NGM): the normality branch learns the teacher's features of the normal image.

    ``sum_k g self_weighted_mean d(N(I_a), T(I)) + (2 - g) self_weighted_mean d(N(I), T(I))``

    With equal weights, the accuracy on small parts depends much on the seed.

    Args:
        anomalous: N(I_a), one map ``(N, C_k, h_k, w_k)`` per layer.
        normal: N(I), the same shapes.
        teacher: T(I), the same shapes.
        guidance: Weight g of the anomalous copies, in [0, 2].
    """
    terms = [
        guidance * self_weighted_mean(matching_distance(guided, target))
        + (2 - guidance) * self_weighted_mean(matching_distance(plain, target))
        for guided, plain, target in zip(anomalous, normal, teacher, strict=True)
    ]
    return torch.stack(terms).sum()


def abnormality_inverse_mimicking(
    anomalous: Sequence[Tensor],
    anomalous_teacher: Sequence[Tensor],
    normal: Sequence[Tensor],
    teacher: Sequence[Tensor],
    mask: Tensor,
) -> Tensor:
    """Abnormality inverse mimicking (AIM): the abnormality branch differs from the teacher in anomalous cells alone.

    ``sum_k 0.5 mean_A (1 - D) + 0.5 mean_N D + mean D(A(I), T(I))`` with ``D = D(A(I_a), T(I_a))``. A are the anomalous
    cells, N the normal ones. About 5 % of the cells are anomalous; in a plain mean the abnormality branch would become
    a copy of the normality branch.

    Args:
        anomalous: A(I_a), one map ``(N, C_k, h_k, w_k)`` per layer.
        anomalous_teacher: T(I_a), the same shapes.
        normal: A(I), the same shapes.
        teacher: T(I), the same shapes.
        mask: 1 where I_a is anomalous, ``(N, 1, H, W)``.
    """
    terms = []
    for features, target, plain, plain_target in zip(anomalous, anomalous_teacher, normal, teacher, strict=True):
        distance = matching_distance(features, target)
        area = anomalous_area(mask, distance)
        widened = masked_mean(1 - distance, area >= ANOMALOUS_CELL)
        closed = masked_mean(distance, area < NORMAL_CELL)
        terms.append(0.5 * widened + 0.5 * closed + matching_distance(plain, plain_target).mean())
    return torch.stack(terms).sum()


def segmentation(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary focal loss (gamma 2) with equal weight for anomalous and normal cells.

    In a plain mean the few anomalous cells hardly count, and the head learns to ignore real anomalies that are weaker
    than the simulated ones.

    Args:
        logits: ``(N, 1, h, w)``.
        mask: ``(N, 1, H, W)``, brought to the size of the logits as area fractions.
    """
    area = anomalous_area(mask, logits)
    focal: Tensor = sigmoid_focal_loss(logits.float(), area, alpha=-1, gamma=2)
    return 0.5 * masked_mean(focal, area >= ANOMALOUS_CELL) + 0.5 * masked_mean(focal, area < NORMAL_CELL)


class DmddLoss(nn.Module):
    """Loss of DMDD: NGM, AIM and the loss of the segmentation head.

    Args:
        guidance: See :func:`normality_guidance`.

    Example:
        >>> features = DmddFeatures(*([torch.rand(2, 8, 4, 4)] for _ in range(6)), logits=torch.zeros(4, 1, 4, 4))
        >>> DmddLoss()(features, mask=torch.ones(2, 1, 16, 16))._fields
        ('ngm', 'aim', 'head')
    """

    def __init__(self, guidance: float = 0.3) -> None:
        super().__init__()
        self.guidance = guidance

    def forward(self, features: DmddFeatures, mask: Tensor) -> DmddLossParts:
        """The three terms, whose sum is the loss.

        Args:
            features: Output of the model in training.
            mask: Mask of the simulated anomalies, ``(N, 1, H, W)``.
        """
        return DmddLossParts(
            ngm=normality_guidance(features.anomalous_normality, features.normality, features.teacher, self.guidance),
            aim=abnormality_inverse_mimicking(
                features.anomalous_abnormality,
                features.anomalous_teacher,
                features.abnormality,
                features.teacher,
                mask,
            ),
            head=segmentation(features.logits, torch.cat([torch.zeros_like(mask), mask])),
        )

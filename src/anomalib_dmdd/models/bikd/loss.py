"""Losses of BiKD.

Symbols: T0 anchor, T teacher, S student, I normal image, I_a its anomalous copy, sg stop-gradient, d cosine distance
per position. A are the anomalous cells of a layer and N the clean ones; cells at the border of an anomaly
belong to neither.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_dmdd.models.components import (
    ANOMALOUS_CELL,
    anomalous_area,
    masked_mean,
    matching_distance,
    self_weighted_mean,
)

from .torch_model import BikdFeatures


class BikdLossParts(NamedTuple):
    """The weighted terms of the loss, each a scalar."""

    forward_kd: Tensor
    backward_kd: Tensor
    anchor: Tensor


def forward_distillation(features: BikdFeatures) -> Tensor:
    """Forward distillation: the student learns the teacher's features of normal images.

    ``sum_k self_weighted_mean d(S(I), sg T(I))``

    Args:
        features: Output of the model in training.
    """
    return _total(
        self_weighted_mean(matching_distance(student, teacher.detach()))
        for student, teacher in zip(features.student, features.teacher, strict=True)
    )


def backward_distillation(features: BikdFeatures, mask: Tensor, margin: float = 0.5, push: float = 0.5) -> Tensor:
    """Backward distillation: the teacher learns to differ from the student on anomalous cells alone.

    ``sum_k mean_N d(T(I_a), sg S(I_a)) + mean d(T(I), sg S(I)) + w mean_A max(0, m - d(T(I_a), sg S(I_a)))``

    Args:
        features: Output of the model in training.
        mask: 1 where I_a is anomalous, ``(N, 1, H, W)``.
        margin: Distance m from which an anomalous cell adds no loss, in [0, 1].
        push: Weight w of the last term.
    """
    normal = _total(
        matching_distance(teacher, student.detach()).mean()
        for teacher, student in zip(features.teacher, features.student, strict=True)
    )
    anomalous = [
        matching_distance(teacher, student.detach())
        for teacher, student in zip(features.anomalous_teacher, features.anomalous_student, strict=True)
    ]
    areas = [anomalous_area(mask, distance) for distance in anomalous]
    pulled = _total(masked_mean(distance, area == 0) for distance, area in zip(anomalous, areas, strict=True))
    pushed = _total(
        masked_mean(F.relu(margin - distance), area >= ANOMALOUS_CELL)
        for distance, area in zip(anomalous, areas, strict=True)
    )
    return normal + pulled + push * pushed


def teacher_drift(features: BikdFeatures) -> Tensor:
    """Distance of the teacher from the anchor, ``sum_k mean d(T(I), T0(I))``."""
    return _total(
        matching_distance(teacher, anchor).mean()
        for teacher, anchor in zip(features.teacher, features.anchor, strict=True)
    )


@torch.no_grad()
def margin_reached(features: BikdFeatures, mask: Tensor, margin: float = 0.5) -> Tensor:
    """Share of the anomalous cells whose distance reaches the margin, over all layers.

    Args:
        features: Output of the model in training.
        mask: 1 where I_a is anomalous, ``(N, 1, H, W)``.
        margin: As in :func:`backward_distillation`.
    """
    distances = [
        matching_distance(teacher, student)
        for teacher, student in zip(features.anomalous_teacher, features.anomalous_student, strict=True)
    ]
    anomalous = torch.cat([(anomalous_area(mask, distance) >= ANOMALOUS_CELL).flatten() for distance in distances])
    reached = torch.cat([(distance >= margin).flatten() for distance in distances])
    return masked_mean(reached.float(), anomalous)


def _total(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()


class BikdLoss(nn.Module):
    """Loss of BiKD: forward distillation, backward distillation and anchor.

    The last two count while the teacher learns.

    Args:
        margin: See :func:`backward_distillation`.
        push: See :func:`backward_distillation`.
        anchor: Weight of :func:`teacher_drift`.

    Example:
        >>> features = BikdFeatures(*([torch.rand(2, 8, 4, 4)] for _ in range(5)))
        >>> terms = BikdLoss()(features, mask=torch.ones(2, 1, 16, 16), weight=1.0)
        >>> terms._fields
        ('forward_kd', 'backward_kd', 'anchor')
    """

    def __init__(self, margin: float = 0.5, push: float = 0.5, anchor: float = 1.0) -> None:
        super().__init__()
        self.margin, self.push, self.anchor = margin, push, anchor

    def forward(self, features: BikdFeatures, mask: Tensor | None = None, weight: float = 0.0) -> BikdLossParts:
        """The weighted terms, whose sum is the loss.

        Args:
            features: Output of the model in training.
            mask: 1 where I_a is anomalous, ``(N, 1, H, W)``; None while the teacher rests.
            weight: Weight of backward distillation.
        """
        forward_kd = forward_distillation(features)
        if mask is None:
            return BikdLossParts(forward_kd, torch.zeros_like(forward_kd), torch.zeros_like(forward_kd))
        backward_kd = backward_distillation(features, mask, self.margin, self.push)
        return BikdLossParts(forward_kd, weight * backward_kd, self.anchor * teacher_drift(features))

"""The losses of BiKD. Symbols: T0 anchor, T teacher, S student, I image, I_a its anomalous twin, sg stop-gradient.

The abstract names forward and backward distillation; their form is our reconstruction. d is the cosine distance per
position, A the anomalous cells of a layer and N the clean ones; borders belong to neither.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_dmdd.parts import ANOMALOUS_CELL, anomalous_area, cosine_distance, hard_mean, masked_mean

from .torch_model import BikdFeatures


class BikdLossParts(NamedTuple):
    """The weighted terms of the loss, each a scalar."""

    forward: Tensor
    backward: Tensor
    anchor: Tensor


def schedule(progress: float) -> float:
    """Weight of backward distillation: forward only, both directions, then the teacher rests while the student settles.

    Our choice. At 0 the teacher does not learn at all.

    Args:
        progress: Share of the training that is done, 0 to 1.

    Example:
        >>> [schedule(progress) for progress in (0.1, 0.3, 0.5, 0.9)]
        [0.0, 0.5, 1.0, 0.0]
    """
    if not 0.2 <= progress < 0.8:  # noqa: PLR2004  # the second phase
        return 0.0
    return min(1.0, round((progress - 0.2) / 0.2, 6))


def forward_distillation(features: BikdFeatures) -> Tensor:
    """``sum_k hard_mean d(S(I), sg T(I))``: the student learns the teacher's normal features.

    Args:
        features: What the model returns in training.
    """
    return _total(
        hard_mean(cosine_distance(student, teacher.detach()))
        for student, teacher in zip(features.student, features.teacher, strict=True)
    )


def backward_distillation(features: BikdFeatures, mask: Tensor, margin: float = 0.5, push: float = 0.5) -> Tensor:
    """The teacher learns from the student: to agree on what is normal, and to disagree on what is not.

    ``sum_k mean_N d(T(I_a), sg S(I_a)) + mean d(T(I), sg S(I)) + w mean_A max(0, m - d(T(I_a), sg S(I_a)))``, with the
    distances of the test.

    Args:
        features: What the model returns in training.
        mask: 1 where I_a is anomalous, ``(N, 1, H, W)``.
        margin: The distance m that is enough.
        push: Weight w of the last term.
    """
    normal = _total(
        cosine_distance(teacher, student.detach()).mean()
        for teacher, student in zip(features.teacher, features.student, strict=True)
    )
    anomalous = [
        cosine_distance(teacher, student.detach())
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
    """``sum_k mean d(T(I), T0(I))``, how far the teacher has gone from the anchor; as a loss it holds the teacher."""
    return _total(
        cosine_distance(teacher, anchor).mean()
        for teacher, anchor in zip(features.teacher, features.anchor, strict=True)
    )


@torch.no_grad()
def margin_reached(features: BikdFeatures, mask: Tensor, margin: float = 0.5) -> Tensor:
    """Share of the anomalous cells of all layers that teacher and student disagree on by the margin or more.

    Args:
        features: What the model returns in training.
        mask: 1 where I_a is anomalous, ``(N, 1, H, W)``.
        margin: As in :func:`backward_distillation`.
    """
    distances = [
        cosine_distance(teacher, student)
        for teacher, student in zip(features.anomalous_teacher, features.anomalous_student, strict=True)
    ]
    anomalous = torch.cat([(anomalous_area(mask, distance) >= ANOMALOUS_CELL).flatten() for distance in distances])
    reached = torch.cat([(distance >= margin).flatten() for distance in distances])
    return masked_mean(reached.float(), anomalous)


def _total(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()


class BikdLoss(nn.Module):
    """``L_F``, and while the teacher learns also ``L_A + beta L_B`` with the weight beta of the schedule.

    Args:
        margin: See :func:`backward_distillation`.
        push: See :func:`backward_distillation`.
        anchor: Weight of the teacher's drift.
    """

    def __init__(self, margin: float = 0.5, push: float = 0.5, anchor: float = 1.0) -> None:
        super().__init__()
        self.margin, self.push, self.anchor = margin, push, anchor

    def forward(self, features: BikdFeatures, mask: Tensor | None = None, weight: float = 0.0) -> BikdLossParts:
        """The three terms, weighted, which are to be added.

        Args:
            features: What the model returns in training.
            mask: 1 where I_a is anomalous, ``(N, 1, H, W)``; None while the teacher rests.
            weight: Of backward distillation.
        """
        forward = forward_distillation(features)
        if mask is None:
            return BikdLossParts(forward, torch.zeros_like(forward), torch.zeros_like(forward))
        backward = backward_distillation(features, mask, self.margin, self.push)
        return BikdLossParts(forward, weight * backward, self.anchor * teacher_drift(features))

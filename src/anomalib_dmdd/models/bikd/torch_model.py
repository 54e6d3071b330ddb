"""Network of BiKD: trainable teacher, reverse student and frozen anchor."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_dmdd.models.components import (
    BottleneckEmbedding,
    DecoderStudent,
    DistillationModel,
    Teacher,
    cosine_distance,
    evaluation_mode,
    sum_of_layers,
)


class BikdFeatures(NamedTuple):
    """Features of normal images I and their anomalous copies I_a, shallow to deep."""

    student: Sequence[Tensor]
    """S(I), maps ``(N, C_k, h_k, w_k)``; the others have the same shapes."""
    teacher: Sequence[Tensor]
    """T(I)."""
    anchor: Sequence[Tensor] = ()
    """T0(I); empty while the teacher rests, like the following."""
    anomalous_student: Sequence[Tensor] = ()
    """S(I_a)."""
    anomalous_teacher: Sequence[Tensor] = ()
    """T(I_a)."""


class BikdModel(DistillationModel):
    """Teacher and student that learn from each other, and a frozen anchor.

    Args:
        teacher: The pre-trained network. It becomes the anchor, and the teacher starts as its trainable copy.

    Attributes:
        anchor: The frozen pre-trained network T0, only needed in training; ``None`` in an exported torch model.
        teacher: The network T that learns, except for its stem and batch normalisation.
        student: Decodes the features of the teacher from their one-class embedding, as in RD4AD.

    Raises:
        ValueError: If the teacher has nothing to learn.

    Example:
        >>> model = BikdModel(Teacher("resnet18", pre_trained=False)).eval()
        >>> model(torch.rand(2, 3, 64, 96)).anomaly_map.shape
        torch.Size([2, 1, 64, 96])
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__(teacher.trainable_copy())
        self.anchor: Teacher | None = teacher
        embedding = BottleneckEmbedding(teacher.channels, teacher.reductions, blocks=1, narrow=True)
        decoder = DecoderStudent(embedding.width, teacher.channels, teacher.reductions, final_relu=teacher.final_relu)
        self.student = nn.Sequential(embedding, decoder)
        self.use_fast_layout()

    def load_pretrained(self) -> None:
        """Load the anchor's weights and copy them to the teacher, once."""
        if self.anchor is not None and not self.anchor.loaded:
            self.anchor.load_pretrained()
            self.teacher.load_state_dict(self.anchor.state_dict())

    def calibrate(self, images: Tensor) -> None:
        """Fit a random anchor to images ``(N, 3, H, W)`` and copy it."""
        if self.anchor is not None and not self.anchor.loaded:
            self.anchor.calibrate(images)
            self.teacher.load_state_dict(self.anchor.state_dict())

    def forward(self, images: Tensor, anomalous: Tensor | None = None) -> InferenceBatch | BikdFeatures:
        """Features for the loss in training mode, anomaly maps in evaluation mode.

        Args:
            images: Normalised images ``(N, 3, H, W)``.
            anomalous: The same images with simulated anomalies, in training while the teacher learns. Without them
                the teacher rests and receives no gradient.
        """
        if self.training:
            return self._features(images, anomalous)
        anomaly_map = sum_of_layers(self.layer_distances(images)["student"], images)
        return InferenceBatch(anomaly_map=anomaly_map, pred_score=anomaly_map.amax(dim=(-3, -2, -1)))

    def layer_distances(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Distances of the student, see :meth:`DistillationModel.layer_distances`."""
        teacher = self.teacher(images)
        pairs = zip(self.student(teacher), teacher, strict=True)
        return {"student": [cosine_distance(*pair) for pair in pairs]}

    def _features(self, images: Tensor, anomalous: Tensor | None) -> BikdFeatures:
        with torch.set_grad_enabled(anomalous is not None):
            teacher = self.teacher(images)
        student = self.student([layer.detach() for layer in teacher])
        if anomalous is None or self.anchor is None:
            return BikdFeatures(student, teacher)
        anomalous_teacher = self.teacher(anomalous)
        return BikdFeatures(
            student, teacher, self.anchor(images), self._student_in_eval_mode(anomalous_teacher), anomalous_teacher
        )

    @torch.no_grad()
    def _student_in_eval_mode(self, teacher: Sequence[Tensor]) -> list[Tensor]:
        """Features of the student as at test time, from batch statistics of normal images alone."""
        with evaluation_mode(self.student):
            features: list[Tensor] = self.student(teacher)
        return features

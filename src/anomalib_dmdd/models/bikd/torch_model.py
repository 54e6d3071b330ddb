"""The network of BiKD: a trainable teacher and its reverse student, with a frozen anchor while they train."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_dmdd.models.network import Network
from anomalib_dmdd.parts import (
    BottleneckEmbedding,
    DecoderStudent,
    Teacher,
    cosine_distance,
    encoder_student,
    sum_of_layers,
)


class BikdFeatures(NamedTuple):
    """What the loss needs of the normal images I and the anomalous ones I_a, maps of the layers shallow to deep."""

    student: Sequence[Tensor]
    """S(I), maps ``(N, C_k, h_k, w_k)``; the others have the same shapes."""
    teacher: Sequence[Tensor]
    """T(I)."""
    anchor: Sequence[Tensor] = ()
    """T0(I), while the teacher learns, as the following."""
    anomalous_student: Sequence[Tensor] = ()
    """S(I_a)."""
    anomalous_teacher: Sequence[Tensor] = ()
    """T(I_a)."""


class BikdModel(Network):
    """Teacher and student that learn from each other, and the anchor T0 that holds the teacher.

    Args:
        backbone: Name of a timm ``features_only`` CNN.
        layers: Its layers; by default those with strides 4, 8 and 16.
        pre_trained: Use timm's ImageNet weights for anchor and teacher.
        teacher_weights: A local file with them.

    Attributes:
        anchor: The frozen ImageNet network; only needed in training.
        teacher: Starts as a copy of the anchor. What lies before its first layer, and all batch normalisation, stays
            as it is.
        student: Decodes the teacher's features out of what a bottleneck lets through of them (RD4AD); starts from
            random weights. There is no gradient through its input.

    Raises:
        ValueError: If timm has no such backbone, or the backbone no such layers.
    """

    teacher: nn.Module  # type: ignore[assignment]  # it learns here; the anchor is what stays frozen

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.anchor: Teacher | None = Teacher(backbone, layers, pre_trained, teacher_weights)
        channels, reductions = self.anchor.channels, self.anchor.reductions
        self.multiple = 2 * reductions[-1]
        self.teacher = encoder_student(self.anchor)
        self.teacher.load_state_dict(self.anchor.features.state_dict())
        _freeze_stem_and_normalisation(self.teacher)
        self.teacher.eval()  # nobody calls train() before the first batch: Lightning takes the modes that it finds
        embedding = BottleneckEmbedding(channels, reductions)
        decoder = DecoderStudent(embedding.width, channels, reductions, signed=self.anchor.signed)
        self.student = nn.Sequential(embedding, decoder)
        self.to(memory_format=torch.channels_last)  # the layout in which convolutions are fastest

    def load_pretrained(self) -> None:
        """Fetch the anchor's weights and copy them."""
        if self.anchor is not None and not self.anchor.loaded:
            self.anchor.load_pretrained()
            self.teacher.load_state_dict(self.anchor.features.state_dict())

    def calibrate(self, images: Tensor) -> None:
        """Fit a random anchor to images ``(N, 3, H, W)`` and copy it."""
        if self.anchor is not None and not self.anchor.loaded:
            self.anchor.calibrate(images)
            self.teacher.load_state_dict(self.anchor.features.state_dict())

    def train(self, mode: bool = True) -> "BikdModel":
        """Set the mode of the student; the teacher keeps its batch statistics."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor, anomalous: Tensor | None = None) -> InferenceBatch | BikdFeatures:
        """Features for the loss in training mode, anomaly maps in evaluation mode.

        Args:
            images: Normalised images ``(N, 3, H, W)``.
            anomalous: In training, while the teacher learns, the same images with simulated anomalies. Without them
                the teacher rests, and there is no graph through it.
        """
        if self.training and self.anchor is not None:
            with torch.set_grad_enabled(anomalous is not None):
                teacher = self.teacher(images)
            student = self.student([layer.detach() for layer in teacher])
            if anomalous is None:
                return BikdFeatures(student, teacher)
            anomalous_teacher = self.teacher(anomalous)
            return BikdFeatures(
                student, teacher, self.anchor(images), self._at_test(anomalous_teacher), anomalous_teacher
            )
        teacher = self.teacher(images)
        pairs = zip(self.student(teacher), teacher, strict=True)
        anomaly_map = sum_of_layers([cosine_distance(*pair) for pair in pairs], images)
        return InferenceBatch(anomaly_map=anomaly_map, pred_score=anomaly_map.amax(dim=(-3, -2, -1)))

    @torch.no_grad()
    def _at_test(self, teacher: Sequence[Tensor]) -> list[Tensor]:
        """The student's answer to anomalous images as at test time: from statistics of normal images alone."""
        self.student.eval()
        features: list[Tensor] = self.student(teacher)
        self.student.train()
        return features


def _freeze_stem_and_normalisation(network: nn.Module) -> None:
    """Freeze what comes before the first feature layer, and batch normalisation everywhere."""
    info: Any = network.feature_info
    first = info.module_name()[0].replace(".", "_")
    for name, parameter in network.named_parameters():
        if name.replace(".", "_").startswith(f"{first}_"):
            break
        parameter.requires_grad = False
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(requires_grad=False)

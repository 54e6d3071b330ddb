"""The network of DSKD: one teacher, two students of inverted structure, an embedding between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor

from anomalib_dmdd.models.network import Network
from anomalib_dmdd.parts import (
    BottleneckEmbedding,
    DecoderStudent,
    Teacher,
    cosine_distance,
    encoder_student,
    geometric_mean,
    upsample,
)

AnomalyMap = Literal["both", "encoder", "decoder"]
EmbeddingInput = Literal["student", "both", "teacher"]


class DskdFeatures(NamedTuple):
    """What the loss needs, each a list of maps ``(N, C_k, h_k, w_k)``, shallow to deep."""

    teacher: list[Tensor]
    encoder: list[Tensor]
    decoder: list[Tensor]


class DskdModel(Network):
    """Encoder student, deep feature embedding, decoder student.

    Args:
        backbone: Name of a timm ``features_only`` CNN, the teacher's and the encoder student's architecture.
        layers: Its layers; by default those with strides 4, 8 and 16.
        pre_trained: Use timm's ImageNet weights for the teacher.
        teacher_weights: A local file with them.
        embedding_input: Whose features the embedding takes: ``both`` the encoder student's and the teacher's, the
            ``student``'s alone, or only the ``teacher``'s, which makes the decoder plain reverse distillation (a
            control).
        anomaly_map: Whose distances are reported: those of ``both`` students, in each layer their harmonic mean per
            position, or of one alone, ``encoder`` or ``decoder``.

    Raises:
        ValueError: If timm has no such backbone, or the backbone no such layers.
    """

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        embedding_input: EmbeddingInput = "both",
        anomaly_map: AnomalyMap = "both",
    ) -> None:
        super().__init__()
        self.embedding_input = embedding_input
        self.anomaly_map = anomaly_map
        self.teacher = Teacher(backbone, layers, pre_trained, teacher_weights)
        channels, reductions = self.teacher.channels, self.teacher.reductions
        self.multiple = 2 * reductions[-1]
        self.encoder = encoder_student(self.teacher)
        self.embedding = BottleneckEmbedding(channels, reductions, inputs=2 if embedding_input == "both" else 1)
        # One residual block per stage, not RD4AD's two: that pays for the second network (our choice).
        self.decoder = DecoderStudent(self.embedding.width, channels, reductions, depth=1, signed=self.teacher.signed)
        self.to(memory_format=torch.channels_last)  # the layout in which convolutions are fastest

    def features(self, images: Tensor) -> DskdFeatures:
        """Features of teacher and students for normalised images ``(N, 3, H, W)``."""
        teacher, encoder = self.teacher(images), self.encoder(images)
        if self.embedding_input == "both":
            embedded = [torch.cat(pair, dim=1) for pair in zip(encoder, teacher, strict=True)]
        else:
            embedded = encoder if self.embedding_input == "student" else teacher
        return DskdFeatures(teacher, encoder, self.decoder(self.embedding(embedded)))

    def forward(self, images: Tensor) -> InferenceBatch | DskdFeatures:
        """Features for the loss in training mode, anomaly maps in evaluation mode.

        Args:
            images: Normalised images ``(N, 3, H, W)``.
        """
        features = self.features(images)
        if self.training:
            return features
        finest = (features.teacher[0].shape[-2], features.teacher[0].shape[-1])
        layers = [upsample(self._report(*layer), finest) for layer in zip(*features, strict=True)]
        anomaly_map = upsample(geometric_mean(torch.cat(layers, dim=1)), (images.shape[-2], images.shape[-1]))
        return InferenceBatch(anomaly_map=anomaly_map, pred_score=anomaly_map.amax(dim=(-3, -2, -1)))

    def _report(self, target: Tensor, encoder: Tensor, decoder: Tensor) -> Tensor:
        """The distances to report of a layer, from the features of the teacher and of both students."""
        # Where a student is without fault, rounding would take the quotient to infinity.
        first, second = (cosine_distance(student, target).clamp_min(1e-5) for student in (encoder, decoder))
        return {"encoder": first, "decoder": second, "both": 2 * first * second / (first + second)}[self.anomaly_map]

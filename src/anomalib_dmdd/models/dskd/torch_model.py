"""Network of DSKD: a teacher and two students of inverted structure."""

from typing import Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor

from anomalib_dmdd.models.components import (
    BottleneckEmbedding,
    DecoderStudent,
    DistillationModel,
    EncoderStudent,
    Teacher,
    check_choice,
    cosine_distance,
    geometric_mean,
    upsample,
)

AnomalyMapMode = Literal["harmonic", "encoder", "decoder"]
EmbeddingInput = Literal["both", "student", "teacher"]


def layer_weights(layers: int) -> list[float]:
    """Weights of the layers in the map, the finest first.

    The finest layer locates best, the deepest one tells most about the object, and those between add least.

    Example:
        >>> [layer_weights(layers) for layers in (1, 2, 3)]
        [[1.0], [1.0, 0.75], [1.0, 0.5, 0.75]]
    """
    return [1.0, *[0.5] * (layers - 2), 0.75][:layers]


class DskdFeatures(NamedTuple):
    """Features of normal images: maps ``(N, C_k, h_k, w_k)``, shallow to deep."""

    teacher: list[Tensor]
    encoder: list[Tensor]
    decoder: list[Tensor]


class DskdModel(DistillationModel):
    """Encoder student, deep feature embedding and decoder student beside a teacher.

    Args:
        teacher: The frozen pre-trained network.
        embedding_input: Features that the embedding takes: ``both`` those of encoder student and teacher, ``student``
            or ``teacher`` those of one. ``teacher`` makes the decoder a plain reverse distillation, as a control.
        anomaly_map_mode: Distances that evaluation returns: ``harmonic`` the harmonic mean of both students' distances
            at each position, ``encoder`` or ``decoder`` those of one student.

    Raises:
        ValueError: If a mode is unknown.

    Example:
        >>> model = DskdModel(Teacher("resnet18", pre_trained=False)).eval()
        >>> model(torch.rand(2, 3, 64, 96)).anomaly_map.shape
        torch.Size([2, 1, 64, 96])
    """

    def __init__(
        self,
        teacher: Teacher,
        embedding_input: EmbeddingInput = "both",
        anomaly_map_mode: AnomalyMapMode = "harmonic",
    ) -> None:
        super().__init__(teacher)
        check_choice("embedding_input", embedding_input, EmbeddingInput)
        check_choice("anomaly_map_mode", anomaly_map_mode, AnomalyMapMode)
        self.embedding_input = embedding_input
        self.anomaly_map_mode = anomaly_map_mode
        channels, reductions = teacher.channels, teacher.reductions
        # The decoder has one residual block per stage, not the two of RD4AD, to make up for the second student.
        self.encoder = EncoderStudent(channels, reductions, final_relu=teacher.final_relu)
        self.embedding = BottleneckEmbedding(channels, reductions, inputs=2 if embedding_input == "both" else 1)
        self.decoder = DecoderStudent(
            self.embedding.width, channels, reductions, depth=1, final_relu=teacher.final_relu
        )
        self.use_fast_layout()

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
        finest = features.teacher[0]
        layers = [upsample(self._select_map(*layer), finest) for layer in zip(*features, strict=True)]
        joined = geometric_mean(torch.cat(layers, dim=1), layer_weights(len(layers)))
        anomaly_map = upsample(joined, images)
        return InferenceBatch(anomaly_map=anomaly_map, pred_score=anomaly_map.amax(dim=(-3, -2, -1)))

    def layer_distances(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Distances of both students, see :meth:`DistillationModel.layer_distances`."""
        teacher, *students = self.features(images)
        names = ("encoder student", "decoder student")
        return {
            name: [cosine_distance(*pair) for pair in zip(student, teacher, strict=True)]
            for name, student in zip(names, students, strict=True)
        }

    def _select_map(self, target: Tensor, encoder: Tensor, decoder: Tensor) -> Tensor:
        """Reported distances ``(N, 1, h, w)`` of one layer, from its features."""
        # Clamp: rounding can make distances zero or slightly negative, and the denominator must stay positive.
        first, second = (cosine_distance(student, target).clamp_min(1e-5) for student in (encoder, decoder))
        if self.anomaly_map_mode == "harmonic":
            return 2 * first * second / (first + second)
        return first if self.anomaly_map_mode == "encoder" else second

"""Network of DMDD: teacher, student with two branches, segmentation head."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_dmdd.models.components import (
    BottleneckEmbedding,
    DecoderStudent,
    DistanceNormalizer,
    DistillationModel,
    MixedBatchNorm2d,
    Teacher,
    check_choice,
    conv_bn,
    cosine_distance,
    geometric_mean,
    matching_distance,
    upsample,
)
from anomalib_dmdd.models.dmdd.segmentation_head import SegmentationHead

AnomalyMapMode = Literal["head_x_normality", "head", "sum", "normality", "abnormality"]


class DmddFeatures(NamedTuple):
    """Features of normal images I and their anomalous copies I_a, shallow to deep."""

    teacher: Sequence[Tensor]
    """T(I), maps ``(N, C_k, h_k, w_k)``; the others have the same shapes."""
    normality: Sequence[Tensor]
    """N(I)."""
    abnormality: Sequence[Tensor]
    """A(I)."""
    anomalous_teacher: Sequence[Tensor]
    """T(I_a)."""
    anomalous_normality: Sequence[Tensor]
    """N(I_a)."""
    anomalous_abnormality: Sequence[Tensor]
    """A(I_a)."""
    logits: Tensor
    """Output of the head for I, then for I_a: ``(2 N, 1, h_1, w_1)``."""


class Decouple(nn.Module):
    """Two 1x1 convolutions that separate the student's features of one layer into two branches.

    The abnormality branch does not train the decoder: its gradient makes the decoder forget what is normal.

    Args:
        channels: Channels of the layer.
        final_relu: Whether a ReLU keeps the features non-negative, and so ``1 - cos`` in the range of a mask.

    Example:
        >>> normality, abnormality = Decouple(channels=8)(torch.rand(2, 8, 4, 4))
        >>> normality.shape == abnormality.shape == (2, 8, 4, 4)
        True
    """

    def __init__(self, channels: int, final_relu: bool = True) -> None:
        super().__init__()
        # Equal to the paper's one convolution to 2 C channels and a split, but each branch has its own gradient.
        self.normality, self.abnormality = (
            nn.Sequential(conv_bn(channels, channels, kernel=1), nn.ReLU(inplace=True) if final_relu else nn.Identity())
            for _ in range(2)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Normality and abnormality features, both of the input's shape ``(N, C, h, w)``."""
        return self.normality(features), self.abnormality(features.detach())


class DmddModel(DistillationModel):
    """Decouple student-teacher network with a segmentation head.

    Args:
        teacher: The frozen pre-trained network.
        anomaly_map_mode: The map that evaluation returns. ``head_x_normality`` multiplies the map of the head by the
            geometric mean of the normality distances. ``head`` is the map of the head alone, as in the paper. ``sum``
            adds all distances. ``normality`` and ``abnormality`` add the distances of one branch.

    Raises:
        ValueError: If the mode is unknown.

    Example:
        >>> model = DmddModel(Teacher("resnet18", pre_trained=False)).eval()
        >>> model(torch.rand(2, 3, 64, 96)).anomaly_map.shape
        torch.Size([2, 1, 64, 96])
    """

    def __init__(self, teacher: Teacher, anomaly_map_mode: AnomalyMapMode = "head_x_normality") -> None:
        super().__init__(teacher)
        check_choice("anomaly_map_mode", anomaly_map_mode, AnomalyMapMode)
        self.anomaly_map_mode = anomaly_map_mode
        channels, reductions = teacher.channels, teacher.reductions
        self.embedding = BottleneckEmbedding(channels, reductions, dropout=0.2)
        self.decoder = DecoderStudent(self.embedding.width, channels, reductions, final_relu=teacher.final_relu)
        self.decouple = nn.ModuleList(Decouple(channel, teacher.final_relu) for channel in channels)
        for deepest in (self.embedding.compress, self.decoder.stages[0]):  # the smallest maps, where it costs least
            MixedBatchNorm2d.convert(deepest)
        self.normalizer = DistanceNormalizer(maps=2 * len(channels))
        self.head = SegmentationHead(maps=2 * len(channels))
        self.use_fast_layout()

    def student(self, teacher: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Normality and abnormality features of each layer from the features of the teacher."""
        decoded = self.decoder(self.embedding(teacher))
        branches = [decouple(features) for decouple, features in zip(self.decouple, decoded, strict=True)]
        return [normality for normality, _ in branches], [abnormality for _, abnormality in branches]

    def distance_maps(self, teacher: list[Tensor], normality: list[Tensor], abnormality: list[Tensor]) -> Tensor:
        """Distances of both branches at the finest resolution, ``(N, 2 * layers, h_1, w_1)``."""
        distance = matching_distance if self.training else cosine_distance
        maps = [distance(branch, target) for branch, target in zip(normality, teacher, strict=True)]
        maps += [distance(branch, target) for branch, target in zip(abnormality, teacher, strict=True)]
        finest = (teacher[0].shape[-2], teacher[0].shape[-1])
        # Corners are not aligned here, because the head compares the layers at one place.
        return torch.cat([maps[0], *(F.interpolate(coarse, finest, mode="bilinear") for coarse in maps[1:])], dim=1)

    def forward(self, images: Tensor, anomalous: Tensor | None = None) -> InferenceBatch | DmddFeatures:
        """Features for the loss in training mode, anomaly maps in evaluation mode.

        Args:
            images: Normalised images ``(N, 3, H, W)``.
            anomalous: The same images with simulated anomalies; needed in training mode, ignored otherwise.

        Raises:
            ValueError: If ``anomalous`` is missing in training mode.
        """
        if self.training:
            if anomalous is None:
                raise ValueError("In training mode DmddModel needs the anomalous copies of the images as well.")
            return self._features_of_pairs(images, anomalous)
        maps = self._normalized_distances(images)
        anomaly_map = upsample(self._select_map(maps), images)
        return InferenceBatch(anomaly_map=anomaly_map, pred_score=anomaly_map.amax(dim=(-3, -2, -1)))

    def layer_distances(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Normalised distances of both branches, see :meth:`DistillationModel.layer_distances`."""
        normality, abnormality = self._normalized_distances(images).chunk(2, dim=1)
        layers = normality.shape[1]
        return {
            "normality": list(normality.chunk(layers, dim=1)),
            "abnormality": list(abnormality.chunk(layers, dim=1)),
        }

    def _normalized_distances(self, images: Tensor) -> Tensor:
        teacher = self.teacher(images)
        normalized: Tensor = self.normalizer(self.distance_maps(teacher, *self.student(teacher)))
        return normalized  # (N, 2 * layers, h_1, w_1)

    def _features_of_pairs(self, images: Tensor, anomalous: Tensor) -> DmddFeatures:
        """Features of normal images and their anomalous copies, both ``(N, 3, H, W)``."""
        # Both pass in one batch. With statistics of their own, anomalous images would be normalised like normal ones,
        # and the normality branch would not learn the difference.
        both = torch.cat([images, anomalous])  # (2 N, 3, H, W)
        teacher = self.teacher(both)  # per layer (2 N, C_k, h_k, w_k)
        normality, abnormality = self.student(teacher)
        with torch.no_grad():  # the head must not shape the distances that it reads
            maps = self.distance_maps(teacher, normality, abnormality)  # (2 N, 2 layers, h_1, w_1)
            self.normalizer.update(maps[: len(images)])
        logits = self.head(self.normalizer(maps))  # (2 N, 1, h_1, w_1)
        count = len(images)
        return DmddFeatures(
            teacher=[features[:count] for features in teacher],
            normality=[features[:count] for features in normality],
            abnormality=[features[:count] for features in abnormality],
            anomalous_teacher=[features[count:] for features in teacher],
            anomalous_normality=[features[count:] for features in normality],
            anomalous_abnormality=[features[count:] for features in abnormality],
            logits=logits,
        )

    def _select_map(self, maps: Tensor) -> Tensor:
        """Reported map ``(N, 1, h, w)`` of normalised distances ``(N, 2 * layers, h, w)``."""
        normality, abnormality = maps.chunk(2, dim=1)
        if self.anomaly_map_mode == "normality":
            return normality.sum(1, keepdim=True)
        if self.anomaly_map_mode == "abnormality":
            return abnormality.sum(1, keepdim=True)
        if self.anomaly_map_mode == "sum":
            return maps.sum(1, keepdim=True)
        logits = self.head(maps.to(self.head.sum.weight.dtype))
        head: Tensor = logits.float().sigmoid()  # half precision would make scores equal
        return head if self.anomaly_map_mode == "head" else head * geometric_mean(normality)

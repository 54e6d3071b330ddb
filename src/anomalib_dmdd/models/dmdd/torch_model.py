"""The network of DMDD: teacher, student with two branches, segmentation head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_dmdd.models.network import Network
from anomalib_dmdd.parts import (
    BottleneckEmbedding,
    DecoderStudent,
    NormalScale,
    Teacher,
    convolution,
    cosine_distance,
    geometric_mean,
    normalize_as_members,
    upsample,
)

AnomalyMap = Literal["head", "sum", "both", "normality", "abnormality"]


class DmddFeatures(NamedTuple):
    """What the loss needs of the normal images I and the anomalous ones I_a, each shallow to deep."""

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
    """The head's answer to I, then to I_a: ``(2 N, 1, h_1, w_1)``."""


class Decouple(nn.Module):
    """The branches of one scale: a 1x1 convolution expands the student's features, which are then split in two.

    "Expand, then separate" is the paper's; normalisation and activation are our choice, and so is that the abnormality
    branch does not train the decoder: pulled by it, the decoder forgets what is normal (measured, see the README).

    Args:
        channels: Channels of the scale.
        signed: Whether the teacher's features can be negative. If not, a ReLU keeps ``1 - cos`` in the range of a mask.
    """

    def __init__(self, channels: int, signed: bool = False) -> None:
        super().__init__()
        # Two convolutions to C channels are one to 2 C and its split, but each has its own gradient.
        self.normality, self.abnormality = (
            nn.Sequential(convolution(channels, channels, kernel=1), nn.Identity() if signed else nn.ReLU(inplace=True))
            for _ in range(2)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Normality and abnormality features, both of the input's shape ``(N, C, h, w)``."""
        return self.normality(features), self.abnormality(features.detach())


class SegmentationHead(nn.Module):
    """Multi-perception segmentation head: several receptive fields, then channel and spatial attention.

    The paper names the fusion of anomaly maps by several attentions; its form is our choice: a weighted sum
    of the maps, corrected by what the attentions see. The maps are expected on one scale, high normal distances at 1.

    Args:
        maps: Number of distance maps that come in.
        width: Channels inside.

    Example:
        >>> SegmentationHead(maps=6)(torch.rand(2, 6, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, maps: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(maps, width), nn.ReLU(inplace=True))
        quarter = width // 4
        self.fields = nn.ModuleList(
            [
                nn.Conv2d(width, quarter, 1, bias=False),
                *(nn.Conv2d(width, quarter, 3, padding=step, dilation=step, bias=False) for step in (1, 3, 6)),
            ]
        )
        self.fuse = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.attention = CbamModule(width, rd_ratio=1 / 4, spatial_kernel_size=7)
        self.correction = nn.Conv2d(width, 1, 1)
        self.sum = nn.Conv2d(maps, 1, 1)
        # It starts as the sum of the maps, so that a distance that no simulated anomaly had is still an anomaly.
        nn.init.zeros_(self.correction.weight)
        nn.init.constant_(self.sum.weight, 3.0 / maps)
        nn.init.constant_(self.sum.bias, -4.0)  # type: ignore[arg-type]  # it has a bias

    def forward(self, maps: Tensor) -> Tensor:
        """Logits ``(N, 1, h, w)`` of "this position is anomalous" from distance maps ``(N, maps, h, w)``."""
        stem = self.stem(maps)
        fused = self.fuse(torch.cat([field(stem) for field in self.fields], dim=1))
        logits: Tensor = self.sum(maps) + self.correction(stem + self.attention(fused))
        return logits


class DmddModel(Network):
    """Decouple student-teacher network with its segmentation head.

    Args:
        backbone: Name of a timm ``features_only`` CNN.
        layers: Its layers; by default those with strides 4, 8 and 16.
        pre_trained: Use timm's ImageNet weights for the teacher.
        teacher_weights: A local file with them.
        anomaly_map: Which map is reported: the ``head``'s (the paper's), the ``sum`` of all distances, ``both`` (the
            head's times the geometric mean of the normality distances: the head says where, the distances how much,
            beyond what the head can say), or the sum of one branch, ``normality`` or ``abnormality``.

    Raises:
        ValueError: If timm has no such backbone, or the backbone no such layers.
    """

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        anomaly_map: AnomalyMap = "both",
    ) -> None:
        super().__init__()
        self.anomaly_map = anomaly_map
        self.teacher = Teacher(backbone, layers, pre_trained, teacher_weights)
        channels, reductions, signed = self.teacher.channels, self.teacher.reductions, self.teacher.signed
        self.multiple = 2 * reductions[-1]
        self.embedding = BottleneckEmbedding(channels, reductions, dropout=0.2)
        self.decoder = DecoderStudent(self.embedding.width, channels, reductions, signed=signed)
        self.decouple = nn.ModuleList(Decouple(channel, signed) for channel in channels)
        for part in (self.embedding.compress, self.decoder.stages[0]):  # the smallest maps, where it costs least
            normalize_as_members(part)
        self.scale = NormalScale(maps=2 * len(channels))
        self.head = SegmentationHead(maps=2 * len(channels))
        self.to(memory_format=torch.channels_last)  # the layout in which convolutions are fastest

    def student(self, teacher: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Normality and abnormality features of each scale from the teacher's features."""
        decoded = self.decoder(self.embedding(teacher))
        branches = [decouple(features) for decouple, features in zip(self.decouple, decoded, strict=True)]
        return [normality for normality, _ in branches], [abnormality for _, abnormality in branches]

    def distance_maps(self, teacher: list[Tensor], normality: list[Tensor], abnormality: list[Tensor]) -> Tensor:
        """The distances of both branches from the teacher at the finest resolution, ``(N, 2 * layers, h_1, w_1)``."""
        maps = [cosine_distance(branch, target) for branch, target in zip(normality, teacher, strict=True)]
        maps += [cosine_distance(branch, target) for branch, target in zip(abnormality, teacher, strict=True)]
        finest = (teacher[0].shape[-2], teacher[0].shape[-1])
        # Cells at their place in the grid, not with the corners aligned: the head compares what is seen at one place.
        return torch.cat([maps[0], *(F.interpolate(distance, finest, mode="bilinear") for distance in maps[1:])], dim=1)

    def forward(self, images: Tensor, anomalous: Tensor | None = None) -> InferenceBatch | DmddFeatures:
        """Features for the loss in training mode, anomaly maps in evaluation mode.

        Args:
            images: Normalised images ``(N, 3, H, W)``.
            anomalous: In training, the same images with simulated anomalies.
        """
        if self.training and anomalous is not None:
            return self._pair(images, anomalous)
        teacher = self.teacher(images)
        maps = self.scale(self.distance_maps(teacher, *self.student(teacher)))
        anomaly_map = upsample(self._report(maps), (images.shape[-2], images.shape[-1]))
        return InferenceBatch(anomaly_map=anomaly_map, pred_score=anomaly_map.amax(dim=(-3, -2, -1)))

    def _pair(self, images: Tensor, anomalous: Tensor) -> DmddFeatures:
        # One batch for both: with statistics of their own, the anomalous images are normalised like normal ones, and
        # the normality branch does not learn to tell them apart (measured, see the README beside this file).
        teacher = self.teacher(torch.cat([images, anomalous]))
        normality, abnormality = self.student(teacher)
        with torch.no_grad():  # the head learns to read the distances, it does not shape them
            maps = self.distance_maps(teacher, normality, abnormality)
            self.scale.follow(maps[: len(images)])
        (t, t_a), (n, n_a), (a, a_a) = (
            zip(*(layer.chunk(2) for layer in layers), strict=True) for layers in (teacher, normality, abnormality)
        )
        return DmddFeatures(t, n, a, t_a, n_a, a_a, self.head(self.scale(maps)))

    def _report(self, maps: Tensor) -> Tensor:
        """The map to report, of scaled distances at the finest resolution."""
        normality, abnormality = maps.chunk(2, dim=1)
        if self.anomaly_map == "normality":
            return normality.sum(1, keepdim=True)
        if self.anomaly_map == "abnormality":
            return abnormality.sum(1, keepdim=True)
        if self.anomaly_map == "sum":
            return maps.sum(1, keepdim=True)
        head: Tensor = self.head(maps).sigmoid()
        return head * geometric_mean(normality) if self.anomaly_map == "both" else head

"""Building blocks of the networks: teacher, students, embedding, distances, normalisation; torch and timm only."""

from .batch_norm import MixedBatchNorm2d
from .choices import check_choice
from .distance import cosine_distance, geometric_mean, self_weighted_mean, sum_of_layers, upsample
from .embedding import BottleneckEmbedding
from .masks import ANOMALOUS_CELL, anomalous_area, masked_mean
from .matching import matching_distance
from .model import DistillationModel, evaluation_mode
from .normalizer import DistanceNormalizer
from .residual import conv_bn
from .students import DecoderStudent, EncoderStudent
from .teacher import Teacher

__all__ = [
    "ANOMALOUS_CELL",
    "BottleneckEmbedding",
    "DecoderStudent",
    "DistanceNormalizer",
    "DistillationModel",
    "EncoderStudent",
    "MixedBatchNorm2d",
    "Teacher",
    "anomalous_area",
    "check_choice",
    "conv_bn",
    "cosine_distance",
    "evaluation_mode",
    "geometric_mean",
    "masked_mean",
    "matching_distance",
    "self_weighted_mean",
    "sum_of_layers",
    "upsample",
]

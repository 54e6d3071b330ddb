"""What more than one model is made of: teacher, students, embedding, distances, scale, masks."""

from .distance import cosine_distance, geometric_mean, hard_mean, sum_of_layers, upsample
from .embedding import BottleneckEmbedding
from .masks import ANOMALOUS_CELL, anomalous_area, masked_mean
from .normalization import MemberBatchNorm2d, normalize_as_members
from .residual import convolution
from .scale import NormalScale
from .students import DecoderStudent, encoder_student
from .teacher import Teacher

__all__ = [
    "ANOMALOUS_CELL",
    "BottleneckEmbedding",
    "DecoderStudent",
    "MemberBatchNorm2d",
    "NormalScale",
    "Teacher",
    "anomalous_area",
    "convolution",
    "cosine_distance",
    "encoder_student",
    "geometric_mean",
    "hard_mean",
    "masked_mean",
    "normalize_as_members",
    "sum_of_layers",
    "upsample",
]

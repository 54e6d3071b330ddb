"""What more than one model is made of: teacher, students, embedding, distances, scale, masks."""

from .activation import CappedReLU, cap_activations
from .distance import cosine_distance, flat_cosine_distance, geometric_mean, hard_mean, sum_of_layers, upsample
from .embedding import BottleneckEmbedding
from .masks import ANOMALOUS_CELL, anomalous_area, masked_mean
from .residual import convolution
from .scale import NormalScale
from .students import DecoderStudent, encoder_student
from .teacher import Teacher

__all__ = [
    "ANOMALOUS_CELL",
    "BottleneckEmbedding",
    "CappedReLU",
    "DecoderStudent",
    "NormalScale",
    "Teacher",
    "anomalous_area",
    "cap_activations",
    "convolution",
    "cosine_distance",
    "encoder_student",
    "flat_cosine_distance",
    "geometric_mean",
    "hard_mean",
    "masked_mean",
    "sum_of_layers",
    "upsample",
]

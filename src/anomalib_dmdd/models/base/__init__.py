"""What the three models share in Lightning and Anomalib."""

from .length import DefaultLength
from .mixin import DistillationMixin
from .post_processor import DistillationPostProcessor
from .replicas import zero_of

__all__ = ["DefaultLength", "DistillationMixin", "DistillationPostProcessor", "zero_of"]

"""DSKD: Dual-Student Knowledge Distillation (Yao, Gao; arXiv 2402.00448)."""

from .lightning_model import Dskd
from .post_processor import DskdPostProcessor
from .torch_model import DskdModel

__all__ = ["Dskd", "DskdModel", "DskdPostProcessor"]

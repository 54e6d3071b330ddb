"""DMDD: Dual-Modeling Decouple Distillation (Liu, Wang, Leng, Zhang; ACM MM 2024; arXiv 2408.03888)."""

from .lightning_model import Dmdd
from .post_processor import DmddPostProcessor
from .torch_model import DmddModel

__all__ = ["Dmdd", "DmddModel", "DmddPostProcessor"]

"""DSKD: Dual-Student Knowledge Distillation."""

from .lightning_model import Dskd
from .loss import DskdLoss
from .torch_model import DskdModel

__all__ = ["Dskd", "DskdLoss", "DskdModel"]

"""DMDD: Dual-Modeling Decouple Distillation."""

from .lightning_model import Dmdd
from .loss import DmddLoss
from .torch_model import DmddModel

__all__ = ["Dmdd", "DmddLoss", "DmddModel"]

"""BiKD: bidirectional knowledge distillation."""

from .lightning_model import Bikd
from .loss import BikdLoss
from .torch_model import BikdModel

__all__ = ["Bikd", "BikdLoss", "BikdModel"]

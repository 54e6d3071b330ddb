"""BiKD: bidirectional knowledge distillation (Wang, Wang, Pan, Wang; 2024; doi 10.1007/s00521-024-10172-8)."""

from .lightning_model import Bikd
from .post_processor import BikdPostProcessor
from .torch_model import BikdModel

__all__ = ["Bikd", "BikdModel", "BikdPostProcessor"]

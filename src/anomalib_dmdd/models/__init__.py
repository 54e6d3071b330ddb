"""The three models, one folder each, and what they share."""

from .bikd import Bikd
from .dmdd import Dmdd
from .dskd import Dskd

__all__ = ["Bikd", "Dmdd", "Dskd"]

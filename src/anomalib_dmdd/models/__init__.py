"""The three models, one folder each, their components, and what they share in Lightning.

``__all__`` is the one list of the models. CONTRIBUTING names the few other places that list them.
"""

from .bikd import Bikd
from .dmdd import Dmdd
from .dskd import Dskd

__all__ = ["Bikd", "Dmdd", "Dskd"]

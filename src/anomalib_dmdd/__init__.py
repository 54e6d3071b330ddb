"""DMDD, DSKD and BiKD: knowledge-distillation anomaly detection for Anomalib.

The public names are imported on first use, so that ``anomalib_dmdd.plugin`` stays cheap to load.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import DemoParts as DemoParts
    from .data import MVTec as MVTec
    from .models import Bikd as Bikd
    from .models import Dmdd as Dmdd
    from .models import Dskd as Dskd

_HOME = {"Dmdd": "models", "Dskd": "models", "Bikd": "models", "MVTec": "data", "DemoParts": "data"}

__all__ = ["Bikd", "DemoParts", "Dmdd", "Dskd", "MVTec"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names beside what is loaded."""
    return sorted({*globals(), *_HOME})

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
    from .synthesis import AnomalySimulator as AnomalySimulator

_HOME = {
    "AnomalySimulator": "synthesis",
    "Bikd": "models",
    "DemoParts": "data",
    "Dmdd": "models",
    "Dskd": "models",
    "MVTec": "data",
}

__all__ = ["AnomalySimulator", "Bikd", "DemoParts", "Dmdd", "Dskd", "MVTec", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  # not needed to load the plugin

        return version("anomalib-dmdd")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names beside what is loaded."""
    return sorted({*globals(), *_HOME, "__version__"})

"""Data modules: MVTec AD under a short name, and procedurally drawn parts."""

from .demo_parts import DemoParts
from .mvtec import MVTec

__all__ = ["DemoParts", "MVTec"]

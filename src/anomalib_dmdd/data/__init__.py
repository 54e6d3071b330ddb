"""Data modules: the short name of MVTec AD, and parts that are drawn instead of downloaded."""

from .demo_parts import DemoParts
from .mvtec import MVTec

__all__ = ["DemoParts", "MVTec"]

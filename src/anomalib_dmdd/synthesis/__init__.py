"""Mild augmentation and simulated anomalies for batches of normal images."""

from .augmentation import MildAugmentation
from .simulator import AnomalySimulator

__all__ = ["AnomalySimulator", "MildAugmentation"]

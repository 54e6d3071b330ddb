"""Changes of normal images, batched on their device: mild augmentation and simulated anomalies with masks."""

from .augmentation import MildAugmentation
from .simulator import AnomalySimulator

__all__ = ["AnomalySimulator", "MildAugmentation"]

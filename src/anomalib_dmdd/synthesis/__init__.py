"""Simulated anomalies: normal images -> (anomalous images, masks), batched, on the device of the batch."""

from .simulator import AnomalySimulator

__all__ = ["AnomalySimulator"]

"""Models small enough to train in seconds; a module of its own, so that other processes can import it."""

from typing import Any

import torch
from anomalib.models import AnomalibModule

import anomalib_dmdd.models

MODELS = anomalib_dmdd.models.__all__


def build(name: str, size: tuple[int, int] = (64, 64), **settings: Any) -> AnomalibModule:
    """A model with the smallest of timm's residual networks as teacher, with random weights, on small images."""
    torch.manual_seed(0)
    cls = getattr(anomalib_dmdd, name)
    quick = {"backbone": "test_resnet", "pre_trained": False, "visualizer": False, "check_training_images": False}
    settings = {"pre_processor": cls.configure_pre_processor(size), **quick, **settings}
    return cls(**settings)

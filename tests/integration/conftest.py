"""What the integration tests share: a drawing of parts, and models small enough to train in seconds."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.engine import Engine
from anomalib.models import AnomalibModule

import anomalib_dmdd.models
from anomalib_dmdd import DemoParts

os.environ["HF_HUB_OFFLINE"] = "1"
MODELS = anomalib_dmdd.models.__all__


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a complete drawing of DemoParts."""
    root = tmp_path_factory.mktemp("data") / "DemoParts"
    DemoParts(root=root).prepare_data()
    return root


@pytest.fixture
def parts(demo_root: Path) -> DemoParts:
    """DemoParts in batches of four."""
    return DemoParts(root=demo_root, train_batch_size=4, eval_batch_size=16, num_workers=0)


def build(name: str, size: tuple[int, int] = (64, 64), **settings: Any) -> AnomalibModule:
    """A model with a random ResNet18 as teacher, on small images."""
    torch.manual_seed(0)
    cls = getattr(anomalib_dmdd, name)
    settings = {"backbone": "resnet18", "pre_trained": False, "visualizer": False, **settings}
    return cls(pre_processor=cls.configure_pre_processor(size), **settings)


@pytest.fixture
def engine(tmp_path: Path) -> Callable[..., Engine]:
    """A quiet Engine on the CPU that writes to the test's own folder."""

    def make(**trainer: Any) -> Engine:
        quiet = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}
        return Engine(default_root_dir=tmp_path / "results", logger=False, **quiet, **trainer)

    return make

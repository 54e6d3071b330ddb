"""What all tests share: an offline hub, one thread, and a drawing of parts that is made once."""

import os
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from anomalib_dmdd import DemoParts

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)  # many are slower than one where other tests run beside


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Root of a complete drawing of DemoParts, shared by all processes of the test run."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    root = shared / "DemoParts"
    with FileLock(shared / "DemoParts.lock"):
        DemoParts(root=root).prepare_data()
    return root

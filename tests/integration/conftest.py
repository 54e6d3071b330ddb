"""What the integration tests share: drawn parts in batches, and a quiet Engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anomalib.engine import Engine

from anomalib_dmdd import DemoParts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder as slow: they train, or start programs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slow")


@pytest.fixture
def parts(demo_root: Path) -> DemoParts:
    """DemoParts in batches of four."""
    return DemoParts(root=demo_root, train_batch_size=4, eval_batch_size=16, num_workers=0)


@pytest.fixture
def engine(tmp_path: Path) -> Callable[..., Engine]:
    """A quiet Engine on the CPU that writes to the test's own folder, and looks at one batch to validate or test."""

    def make(**trainer: Any) -> Engine:
        quiet = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}
        short = {"limit_val_batches": 1, "limit_test_batches": 1}
        return Engine(default_root_dir=tmp_path / "results", logger=False, **quiet | short | trainer)

    return make

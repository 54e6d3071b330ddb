"""A short training finds the defects of the drawn parts, even with random weights in the teacher."""

from collections.abc import Callable
from pathlib import Path

import pytest
from anomalib.engine import Engine
from lightning import seed_everything
from small_models import build

from anomalib_dmdd import DemoParts


@pytest.mark.parametrize(("name", "side", "steps"), [("Dmdd", 96, 160), ("Dskd", 64, 240), ("Bikd", 96, 160)])
def test_defects_are_found(name: str, side: int, steps: int, demo_root: Path, engine: Callable[..., Engine]) -> None:
    seed_everything(0)
    parts = DemoParts(root=demo_root, train_batch_size=8)
    model = build(name, size=(side, side))
    run = engine(max_steps=steps, check_val_every_n_epoch=1000, limit_val_batches=1.0, limit_test_batches=1.0)
    run.fit(model, datamodule=parts)
    (metrics,) = run.test(model, datamodule=parts, verbose=False)
    assert metrics["image_AUROC"] >= 0.9

"""A short training with a real teacher finds the defects of the drawn parts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from anomalib.engine import Engine
from conftest import MODELS, build
from lightning import seed_everything

from anomalib_dmdd import DemoParts

WEIGHTS = Path(__file__).parents[3] / "shared/weights/resnet18_layers1to3.safetensors"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs ImageNet weights of ResNet18 in ../shared/weights")
@pytest.mark.parametrize("name", MODELS)
def test_defects_are_found(name: str, demo_root: Path, engine: Callable[..., Engine]) -> None:
    seed_everything(0)
    parts = DemoParts(root=demo_root, train_batch_size=8, eval_batch_size=16, num_workers=0)
    model = build(name, size=(128, 128), backbone="resnet18.tv_in1k", teacher_weights=WEIGHTS)
    run = engine(max_steps=120, check_val_every_n_epoch=1000)
    run.fit(model, datamodule=parts)
    (metrics,) = run.test(model, datamodule=parts, verbose=False)
    assert metrics["image_AUROC"] >= 0.9

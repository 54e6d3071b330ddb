"""After a training, training images that are not good are named, and nothing else has changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning import seed_everything
from PIL import Image
from small_models import build
from torchvision.transforms.v2 import CenterCrop

DEFECTIVE = "chip.png"


@pytest.fixture
def mixed(demo_root: Path, tmp_path: Path) -> Path:
    """Folder of thirty good parts and a chipped one."""
    folder = tmp_path / "mixed/good"
    folder.mkdir(parents=True)
    for path in sorted((demo_root / "flange/train/good").iterdir())[:30]:
        shutil.copy(path, folder)
    shutil.copy(demo_root / "flange/test/chip/000.png", folder / DEFECTIVE)
    return folder


def trained(folder: Path, engine: Callable[..., Engine], steps: int, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """Train on a folder; the folder of the run, and all that a training may leave behind."""
    seed_everything(0)
    data = Folder(
        "mixed", normal_dir=folder, train_batch_size=4, num_workers=0, test_split_mode="none", val_split_mode="none"
    )
    run, model = engine(max_steps=steps), build("Dskd", **settings)
    run.fit(model, datamodule=data)
    checkpoint = torch.load(run.best_model_path, weights_only=False)
    modes = {name: module.training for name, module in model.named_modules()}
    left = {"tensors": checkpoint["state_dict"] | {"random": torch.get_rng_state()}, "modes": modes}
    return Path(run.trainer.default_root_dir), left


def test_a_defect_among_the_good_images_is_named(
    mixed: Path, engine: Callable[..., Engine], caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = trained(mixed, engine, steps=24, check_training_images=True)
    table = pd.read_csv(folder / "training_images.csv")
    assert [Path(file).name for file in table["file"][table["stands_out"]]] == [DEFECTIVE]
    assert table["raw_score"].is_monotonic_decreasing
    warning = next(text for text in caplog.messages if "have scores far above the others" in text)
    assert str(mixed / DEFECTIVE) in warning


def test_training_images_are_scored_as_test_images_are(mixed: Path, engine: Callable[..., Engine]) -> None:
    for path in sorted(mixed.iterdir())[:5]:  # of other sizes than the rest of their batch
        Image.open(path).resize((90, 150)).save(path)
    crop = {"val_augmentations": CenterCrop(80), "test_augmentations": CenterCrop(80)}
    splits = {"normal_dir": mixed, "normal_test_dir": mixed, "val_split_mode": "same_as_test"}
    data = Folder("mixed", **splits, **crop, num_workers=0, eval_batch_size=4)
    run = engine(max_steps=2, limit_test_batches=1.0)
    run.train(build("Dskd", check_training_images=True), datamodule=data)
    folder = Path(run.trainer.default_root_dir)
    trained, tested = (pd.read_csv(folder / f"{name}.csv") for name in ("training_images", "predictions"))
    scores = trained.merge(tested, on="file")
    assert len(scores) == len(trained) == 31
    torch.testing.assert_close(*(torch.tensor(scores[f"raw_score_{side}"].to_numpy()) for side in "xy"))


def test_nothing_but_the_table_tells_that_they_were_scored(mixed: Path, engine: Callable[..., Engine]) -> None:
    folder, scored = trained(mixed, engine, steps=2, check_training_images=True)
    assert (folder / "training_images.csv").exists()
    folder, unscored = trained(mixed, engine, steps=2)
    assert not (folder / "training_images.csv").exists()
    torch.testing.assert_close(scored["tensors"], unscored["tensors"], rtol=0, atol=0)
    assert scored["modes"] == unscored["modes"]

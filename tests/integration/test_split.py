"""A folder that is split at random: images that were trained on are no test."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from anomalib.data import Folder, ImageBatch
from anomalib.engine import Engine
from lightning import LightningDataModule, seed_everything
from small_models import build
from torch.utils.data import DataLoader

from anomalib_dmdd.models.base import trained_images
from anomalib_dmdd.report.command import main

EngineFactory = Callable[..., Engine]
WARNING = "images to validate or test with were trained on"


@pytest.fixture
def folder(demo_root: Path) -> Callable[..., Folder]:
    """A folder of good and one of defective images, split with a seed or at random."""
    root = demo_root / "flange" / "test"
    names = {"name": "parts", "root": root, "normal_dir": "good", "abnormal_dir": "chip"}
    sizes = {"train_batch_size": 4, "eval_batch_size": 16, "num_workers": 0}
    return lambda **settings: Folder(**names | sizes | settings)


def test_another_split_is_noticed(
    folder: Callable[..., Folder], engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    first = engine(max_epochs=1, limit_train_batches=2)
    first.train(build("Dskd"), datamodule=folder(seed=0))
    checkpoint = {"ckpt_path": first.best_model_path}
    engine().test(build("Dskd"), datamodule=folder(seed=0), **checkpoint)
    engine(max_epochs=2, limit_train_batches=2).train(build("Dskd"), datamodule=folder(seed=0), **checkpoint)
    assert WARNING not in caplog.text
    for command in ("test", "validate", "fit"):
        caplog.clear()
        other = folder(seed=1)
        second = engine(max_epochs=2, limit_train_batches=2)
        getattr(second, command)(model=build("Dskd"), datamodule=other, **checkpoint)
        assert WARNING in caplog.text, command
    resumed = torch.load(second.best_model_path, weights_only=True)[trained_images.IMAGES_KEY].tolist()
    assert {trained_images.number(path) for path in other.train_data.samples["image_path"]} < set(resumed), (
        "and the first ones"
    )


def test_one_folder_to_train_and_to_validate_with_is_noticed(
    folder: Callable[..., Folder], engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    engine(max_steps=1).fit(build("Dskd"), datamodule=folder(seed=0, normal_test_dir="good"))
    assert WARNING in caplog.text


def test_a_name_that_is_not_utf8_can_be_trained_with(demo_root: Path, engine: EngineFactory, tmp_path: Path) -> None:
    shutil.copytree(demo_root / "flange/test", tmp_path / "parts")
    images = sorted((tmp_path / "parts").rglob("*.png"))
    unusual = os.fsdecode("größe".encode("latin-1")) + ".png"
    for image in images[:: len(images) // 3]:
        image.rename(image.with_name(f"{image.stem}{unusual}"))
    data = Folder(name="parts", root=tmp_path / "parts", normal_dir="good", abnormal_dir="chip", num_workers=0, seed=0)
    run = engine(max_steps=1)
    (row,) = run.train(build("Dskd", visualizer=True), datamodule=data)
    assert row["image_AUROC"] >= 0
    table = pd.read_csv(next(tmp_path.rglob("predictions.csv")), encoding_errors="surrogateescape")
    assert all(Path(file).is_file() for file in table["file"])
    assert main([str(tmp_path / "results")]) == 0


def test_processes_that_split_differently_are_refused(
    folder: Callable[..., Folder], engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_images, "gather_objects", lambda own: [own, [*own[:2], "another test"]])
    with pytest.raises(ValueError, match="data: the processes have split the images differently"):
        engine(max_steps=1).fit(build("Dskd"), datamodule=folder(seed=0))


def test_a_folder_is_known_elsewhere(folder: Callable[..., Folder], tmp_path: Path) -> None:
    first, other = folder(seed=0), folder(seed=1)
    shutil.copytree(first.root, tmp_path / "copy")
    copy = folder(seed=0, root=tmp_path / "copy")
    for data in (first, other, copy):
        data.setup()
    digests = [
        [trained_images.digest_of(getattr(data, f"{name}_data")) for name in trained_images.SPLITS]
        for data in (first, other, copy)
    ]
    assert digests[0] == digests[2], "as on two machines"
    assert digests[0][0] != digests[1][0]


def test_what_is_not_trained_is_not_noted(folder: Callable[..., Folder], engine: EngineFactory) -> None:
    model, run = build("Dskd"), engine(max_steps=1)
    run.fit(model, datamodule=folder(seed=0))
    noted = model.trained_on
    assert noted
    run.fit(model, datamodule=folder(seed=1))
    assert model.trained_on == noted, "the length was reached before"
    engine(max_steps=2).fit(model, datamodule=folder(seed=1))
    assert model.trained_on > noted


def test_other_data_modules_are_left_alone(engine: EngineFactory) -> None:
    class Loader(LightningDataModule):
        name, category = "loader", ""
        train_data = SimpleNamespace(samples=[("0.png", 0)])

        def train_dataloader(self) -> DataLoader:
            return DataLoader(range(2), collate_fn=lambda _: ImageBatch(image=torch.rand(4, 3, 64, 64)))

    model = build("Dskd")
    engine(max_steps=1).fit(model, datamodule=Loader())
    assert not model.trained_on


def test_the_seed_of_everything_splits(folder: Callable[..., Folder]) -> None:
    def trained(seed: int) -> list[str]:
        seed_everything(seed, verbose=False)
        data = folder()
        data.setup()
        return list(data.train_data.samples["image_path"])

    assert trained(3) == trained(3) != trained(4)

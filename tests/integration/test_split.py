"""A folder that is split at random: images that were trained on are no test."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning import seed_everything
from small_models import build

from anomalib_dmdd.models.base import split

EngineFactory = Callable[..., Engine]
WARNING = "images to validate or test with were trained on"


@pytest.fixture
def folder(demo_root: Path) -> Callable[..., Folder]:
    """A folder of good and one of defective images, split with a seed or at random."""
    root = demo_root / "flange" / "test"
    names = {"name": "parts", "root": root, "normal_dir": "good", "abnormal_dir": "chip"}
    sizes = {"train_batch_size": 4, "eval_batch_size": 16, "num_workers": 0}
    return lambda seed=None: Folder(**names, **sizes, seed=seed)


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
    resumed = torch.load(second.best_model_path, weights_only=True)[split.IMAGES_KEY].tolist()
    assert {split.number(path) for path in other.train_data.samples["image_path"]} < set(resumed), "and the first ones"


def test_processes_that_split_differently_are_refused(
    folder: Callable[..., Folder], engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "gather_objects", lambda own: [own, own[1:]])
    with pytest.raises(ValueError, match="data: the processes have split the images differently"):
        engine(max_steps=1).fit(build("Dskd"), datamodule=folder(seed=0))


def test_the_seed_of_everything_splits(folder: Callable[..., Folder]) -> None:
    def trained(seed: int) -> list[str]:
        seed_everything(seed, verbose=False)
        data = folder()
        data.setup()
        return list(data.train_data.samples["image_path"])

    assert trained(3) == trained(3) != trained(4)

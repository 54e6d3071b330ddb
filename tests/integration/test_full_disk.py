"""A full disk costs the new checkpoint, never the earlier one."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.engine import Engine
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, Trainer
from small_models import build

from anomalib_dmdd import DemoParts

EngineFactory = Callable[..., Engine]
MEGABYTE = 2**20


@pytest.fixture
def fill_disk() -> Iterator[Callable[[], None]]:
    """From its call to the end of the test no file grows beyond a megabyte: writing then fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="Windows has no limit of the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FillDisk(Callback):
    """Fills the disk after the first epoch."""

    def __init__(self, fill_disk: Callable[[], None]) -> None:
        self.fill_disk = fill_disk

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            self.fill_disk()


def test_a_full_disk_keeps_the_earlier_checkpoint(
    fill_disk: Callable[[], None], parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    run = engine(max_epochs=2, limit_train_batches=1, limit_val_batches=1, callbacks=[FillDisk(fill_disk)])
    with pytest.raises(OSError, match=r"No checkpoint was written \(.*\), an earlier .*model.ckpt'$") as error:
        run.fit(build("Dskd"), datamodule=parts)
    assert "\n" not in str(error.value)
    (path,) = tmp_path.rglob("weights/lightning/*")
    assert path.name == "model.ckpt"
    assert path.stat().st_size > MEGABYTE
    assert torch.load(path, weights_only=True)["global_step"] == 1


def test_checkpoints_need_no_room_in_the_temporary_folder(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    run = engine(max_steps=1, limit_val_batches=1)
    run.fit(build("Dskd"), datamodule=parts)
    assert torch.load(run.best_model_path, weights_only=True)["global_step"] == 1


def test_a_plugin_of_the_user_writes_the_checkpoints(parts: DemoParts, engine: EngineFactory) -> None:
    class Own(TorchCheckpointIO):
        """Counts what it writes."""

        written = 0

        def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            self.written += 1
            super().save_checkpoint(*args, **kwargs)

    own = Own()
    engine(max_steps=1, limit_val_batches=1, plugins=[own]).fit(build("Dskd"), datamodule=parts)
    assert own.written > 0

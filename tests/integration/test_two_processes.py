"""Training on two processes, which must end with one model and its thresholds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from small_models import build

from anomalib_dmdd import Dskd

THRESHOLDS = ("_image_threshold", "_pixel_threshold")


class Record(Callback):
    """Writes the thresholds of each process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        buffers = dict(pl_module.post_processor.named_buffers())
        torch.save({name: buffers[name] for name in THRESHOLDS}, self.folder / f"{trainer.global_rank}.pt")


def test_thresholds_are_those_of_one_process(demo_root: Path, tmp_path: Path, engine: Callable[..., Engine]) -> None:
    (tmp_path / "nine/good").mkdir(parents=True)
    for path in sorted(next(demo_root.rglob("train/good")).glob("*.png"))[:9]:
        shutil.copy(path, tmp_path / "nine/good")
    settings = {"normal_dir": "good", "root": tmp_path / "nine", "val_split_mode": "none", "seed": 1}
    data = Folder("nine", train_batch_size=4, num_workers=0, **settings)
    run = engine(max_epochs=1, devices=2, strategy="ddp_spawn", callbacks=[Record(tmp_path)])
    # Three images are held out, so one process validates a copy.
    run.fit(build("Dskd", check_training_images=True), datamodule=data)

    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    trained = Dskd.load_from_checkpoint(run.best_model_path, visualizer=False)
    data = Folder("nine", train_batch_size=4, num_workers=0, **settings)
    engine(max_epochs=1, limit_train_batches=0).fit(trained, datamodule=data)  # only holds out the same images
    assert len(data.val_data) == 3
    scored = pd.read_csv(Path(run.trainer.default_root_dir) / "training_images.csv")
    assert sorted(scored["file"]) == sorted(data.train_data.samples["image_path"])
    for buffer in trained.post_processor.buffers():
        buffer.fill_(torch.nan)
    engine().validate(trained, datamodule=data)
    for name in THRESHOLDS:
        value = trained.post_processor.get_buffer(name)
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6, msg=name)  # batches of another size
        assert torch.equal(first[name], second[name]), name

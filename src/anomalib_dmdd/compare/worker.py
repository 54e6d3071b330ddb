"""One run in its own process: ``python -m anomalib_dmdd.compare.worker FOLDER`` does what ``FOLDER/run.json`` says.

Leaves ``result.json`` and ``maps.npz`` there, and the weights where they are wanted. ``stage`` says what it is doing.
"""

import json
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from anomalib.callbacks.checkpoint import ModelCheckpoint
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import read_image
from anomalib.deploy import CompressionType, ExportType
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from .components import build_data, find_class, prepare
from .maps import save_maps
from .measure import accuracy, build_evaluator, count_parameters, peak_memory, time_openvino, time_torch
from .plan import GIVEN_TO_MODEL, Run


class Stage(Callback):
    """Writes what is being done, and how far training is, for the process that watches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0.0

    def say(self, what: str) -> None:
        """Write it."""
        self.path.write_text(what)

    def on_train_batch_end(self, trainer: Trainer, _module: LightningModule, *_: Any) -> None:
        """Say how far training is, at most once a second."""
        if time.monotonic() - self.written < 1:
            return
        self.written = time.monotonic()
        done = [trainer.global_step / trainer.max_steps] if trainer.max_steps > 0 else []
        if trainer.max_epochs and trainer.max_epochs > 0:
            done.append(trainer.fit_loop.epoch_progress.current.completed / trainer.max_epochs)
        self.say(f"training {max(done):.0%}" if done else "training")


def build_model(run: Run) -> AnomalibModule:
    """Build the model with the common image size, evaluator and no visualizer."""
    cls = find_class(run.model["class_path"], AnomalibModule)
    size = (run.image_size, run.image_size)
    return cls(
        **prepare(cls, run.model["init_args"], GIVEN_TO_MODEL),
        pre_processor=cls.configure_pre_processor(size),
        evaluator=build_evaluator(),
        visualizer=False,
    )


def train_and_measure(run: Run, folder: Path, stage: Stage) -> dict[str, Any]:
    """Train, test and measure.

    Args:
        run: What to run.
        folder: Where its files go.
        stage: Told what is being done.

    Returns:
        The columns of this run's row in the table.
    """
    torch.set_num_threads(run.threads)
    seed_everything(run.seed, workers=True, verbose=False)
    model = build_model(run)
    datamodule = build_data(run.data["class_path"], run.data["init_args"])
    with TemporaryDirectory(dir=folder) as scratch:
        engine = Engine(
            callbacks=[stage, ModelCheckpoint(save_top_k=0)],  # no selection: the last step is tested, and saved below
            default_root_dir=scratch,
            accelerator=run.accelerator,
            devices=1,
            logger=False,
            enable_progress_bar=False,
            **{"check_val_every_n_epoch": sys.maxsize} | run.trainer,
        )
        row = train_and_test(engine, model, datamodule, run.seed, stage)
        model.evaluator = model.configure_evaluator()  # ours holds a buffer that the model as such has no place for
        engine.trainer.save_checkpoint(folder / "model.ckpt", weights_only=True)  # no optimizer state
        row["checkpoint_mb"] = (folder / "model.ckpt").stat().st_size / 1e6
        save_maps(engine, model, datamodule, run.image_size, folder / "maps.npz")
        stage.say("timing")
        return row | measure(engine, model, datamodule, run, folder)


def train_and_test(
    engine: Engine,
    model: AnomalibModule,
    datamodule: AnomalibDataModule,
    seed: int,
    stage: Stage,
) -> dict[str, Any]:
    """Train, set the thresholds in one validation, and test the last step."""
    stage.say("training")
    seed_everything(seed, workers=True, verbose=False)  # splits and batches do not depend on how the model was built
    start = time.perf_counter()
    engine.fit(model, datamodule=datamodule)
    seconds = time.perf_counter() - start
    device = engine.trainer.strategy.root_device
    row = {"train_seconds": seconds, "device": str(device), **peak_memory(device)}
    row |= {"steps": engine.trainer.global_step, "epochs": engine.trainer.current_epoch}
    stage.say("setting thresholds")
    engine.validate(model, datamodule=datamodule, verbose=False)
    stage.say("testing")
    return row | accuracy(engine, model, datamodule)


def measure(
    engine: Engine,
    model: AnomalibModule,
    datamodule: AnomalibDataModule,
    run: Run,
    folder: Path,
) -> dict[str, Any]:
    """Count parameters and time single images, in torch and in OpenVINO."""
    image = resize(read_image(datamodule.test_data.samples.image_path.iloc[0], as_tensor=True), [run.image_size] * 2)
    model.to(engine.trainer.strategy.root_device).eval()
    image = image[None].to(model.device)
    row: dict[str, Any] = {"parameters_m": count_parameters(model, image) / 1e6}
    row |= {f"torch_{name}": value for name, value in time_torch(model, image, run.timed_passes).items()}
    return row | export(engine, model.cpu(), datamodule, run, folder, image)


def export(
    engine: Engine,
    model: AnomalibModule,
    datamodule: AnomalibDataModule,
    run: Run,
    folder: Path,
    image: Tensor,
) -> dict[str, Any]:
    """Export to OpenVINO and time it; not every model can be exported, and its accuracy still counts."""
    row: dict[str, Any] = {}
    for precision in run.openvino:
        try:
            path = engine.export(
                model,
                ExportType.OPENVINO,
                export_root=folder,
                model_file_name=f"model_{precision.lower()}",
                input_size=(run.image_size, run.image_size),
                compression_type=CompressionType.INT8_PTQ if precision == "INT8" else None,
                datamodule=datamodule,
            )
            times = time_openvino(path, image, run.timed_passes, run.threads, precision)
            row |= {f"openvino_{precision.lower()}_{name}": value for name, value in times.items()}
        except Exception as error:  # noqa: BLE001, PERF203  # whatever an exporter raises
            traceback.print_exc()
            row["error"] = f"OpenVINO {precision} failed: {brief(error)}"
    return row


def brief(error: Exception) -> str:
    """First line of an error, as it fits into a table."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def main(folder: Path) -> int:
    """Do the run of a folder and write its result, also if it fails."""
    start = (folder / "run.json").stat().st_mtime  # written as this process was started: imports count, too
    stage = Stage(folder / "stage")
    stage.say("loading")
    run = Run(**json.loads((folder / "run.json").read_text()))
    try:
        result = {"status": "ok", **train_and_measure(run, folder, stage)}
    except Exception as error:  # noqa: BLE001  # whatever a model does wrong is one row of the table
        traceback.print_exc()
        result = {"status": "failed", "error": brief(error)}
    result["run_seconds"] = time.time() - start
    unfinished = folder / "result.json.unfinished"
    unfinished.write_text(json.dumps(result, indent=2))
    unfinished.replace(folder / "result.json")
    return 0 if result["status"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Process of one run: ``python -m anomalib_dmdd.compare.worker FOLDER`` does what ``FOLDER/run.json`` says.

It writes ``result.json``, ``maps.npz`` and the weights there, and to ``stage`` what it is doing.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
import torch
from anomalib.callbacks.checkpoint import ModelCheckpoint
from anomalib.data import AnomalibDataModule
from anomalib.deploy import CompressionType, ExportType
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader

from . import measure
from .launcher import write_result
from .plan import Run, build
from .versions import code_version, images_version

EXAMPLES = 4  # test images whose maps are kept for the picture


class Stage(Callback):
    """Tells the watching process what is being done, and the progress of the training."""

    def __init__(self, path: Path) -> None:
        self.say = path.write_text

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Write the share of the steps or epochs that is done, whichever is more."""
        lengths = [(trainer.global_step, trainer.max_steps), (trainer.current_epoch, trainer.max_epochs or -1)]
        done = [count / length for count, length in lengths if length > 0]
        self.say(f"training {max(done):.0%}" if done else "training")


def build_model(run: Run) -> AnomalibModule:
    """Build the model with the common image size and evaluator, and without a visualizer."""

    def call(cls: type[AnomalibModule], **arguments: Any) -> AnomalibModule:
        pre_processor = cls.configure_pre_processor((run.image_size, run.image_size))
        return cls(**arguments, pre_processor=pre_processor, evaluator=measure.build_evaluator(), visualizer=False)

    return build(AnomalibModule, run.model, call)


def train_and_measure(run: Run, folder: Path, stage: Stage) -> dict[str, Any]:
    """Train, test and measure one run, and return the measured columns of its row."""
    if (code := code_version(run.model, run.data)) != run.code:
        raise RuntimeError(f"The code has changed from {run.code} to {code}. Start the comparison again.")
    if run.images and images_version(build(AnomalibDataModule, run.data)) != run.images:
        raise RuntimeError("The images have changed. Start the comparison again.")
    torch.set_num_threads(run.cores)
    seed_everything(run.seed, workers=True, verbose=False)
    model = build_model(run)
    datamodule = build(AnomalibDataModule, run.data)
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
        seed_everything(run.seed, workers=True, verbose=False)  # batches do not depend on how the model was built
        row = train_and_test(engine, model, datamodule, stage)
        model.evaluator = model.configure_evaluator()  # ours has a buffer that a loaded model has no place for
        engine.trainer.save_checkpoint(folder / "model.ckpt", weights_only=True)  # no optimizer state
        row["checkpoint_mb"] = (folder / "model.ckpt").stat().st_size / 1e6
        save_maps(engine, model, datamodule, folder / "maps.npz")
        stage.say("timing")
        model.to(engine.trainer.strategy.root_device).eval()
        image = datamodule.test_data[0].image[None].to(model.device)  # (1, 3, image_size, image_size) in [0, 1]
        row["parameters_m"] = measure.count_parameters(model, image) / 1e6
        row |= {f"torch_{name}": value for name, value in measure.time_torch(model, image, run.timed_passes).items()}
        stage.say("exporting")
        return row | export(engine, model.cpu(), datamodule, run, folder)


def train_and_test(engine: Engine, model: AnomalibModule, data: AnomalibDataModule, stage: Stage) -> dict[str, Any]:
    """Train, set the thresholds in one validation, and test the last step."""
    stage.say("training")
    start = time.perf_counter()
    engine.fit(model, datamodule=data)
    row: dict[str, Any] = {"train_seconds": time.perf_counter() - start, "threads": torch.get_num_threads()}
    device = engine.trainer.strategy.root_device
    row |= {"device": str(device), **measure.peak_memory(device)}
    row |= {"steps": engine.trainer.global_step, "epochs": engine.trainer.current_epoch}
    stage.say("setting thresholds")
    engine.validate(model, datamodule=data, verbose=False)
    stage.say("testing")
    return row | measure.accuracy(engine, model, data)


def save_maps(engine: Engine, model: AnomalibModule, datamodule: AnomalibDataModule, path: Path) -> None:
    """Save the maps of the first test image of each kind."""
    first = datamodule.test_data.samples.reset_index(drop=True).drop_duplicates("label")
    good = first["label_index"] == 0
    examples = datamodule.test_data.subsample([*first.index[~good][: EXAMPLES - 1], *first.index[good]])
    images = torch.stack([example.image for example in examples])  # (N, 3, image_size, image_size) in [0, 1]
    loader = DataLoader(examples, batch_size=EXAMPLES, collate_fn=examples.collate_fn)
    (batch,) = engine.trainer.predict(model, dataloaders=loader)
    order = batch.gt_label.int().argsort(descending=True, stable=True).cpu()
    arrays = {"map": batch.anomaly_map, "mask": batch.gt_mask}
    np.savez_compressed(
        path,
        image=(255 * images[order]).byte().permute(0, 2, 3, 1).numpy(),
        path=[str(batch.image_path[index]) for index in order],
        score=batch.pred_score.flatten()[order].cpu().numpy(),
        **{name: values[order].squeeze(1).cpu().numpy() for name, values in arrays.items() if values is not None},
    )


def export(engine: Engine, model: AnomalibModule, data: AnomalibDataModule, run: Run, folder: Path) -> dict[str, Any]:
    """Export to OpenVINO, time and test the files; a failure is only reported."""
    row: dict[str, Any] = {}
    errors = []
    raw = not getattr(getattr(model, "post_processor", None), "enable_normalization", True)
    for precision in run.openvino:
        try:
            path = engine.export(
                model,
                ExportType.OPENVINO,
                export_root=folder,
                model_file_name=f"model_{precision.lower()}",
                input_size=(run.image_size, run.image_size),
                # Measured one by one. The file of PatchCore can get a fixed batch of two instead of any number.
                onnx_kwargs={"dynamic_axes": None},
                compression_type=CompressionType.INT8_PTQ if precision == "INT8" else None,
                datamodule=data,
            )
            measured = measure.measure_export(path, data, run, precision, raw=raw)
            row |= {f"openvino_{precision.lower()}_{name}": value for name, value in measured.items()}
        except Exception as error:  # noqa: BLE001, PERF203  # whatever an exporter raises
            traceback.print_exc()
            errors.append(f"OpenVINO {precision} failed: {brief(error)}")
    return row | ({"error": "; ".join(errors)} if errors else {})


def brief(error: Exception) -> str:
    """First line of an error, short enough for a table.

    jsonargparse names what it tried first, and the cause, such as an image size that a model refuses, in its list.
    """
    first, *rest = str(error).splitlines() or [""]
    if first.startswith("Exception from src/") and rest:  # OpenVINO names its own files first, and the cause last
        first = next((line.strip() for line in reversed(rest) if line.strip()), first)
    if first.startswith("Does not validate against any of the Union"):
        first = next((line.removeprefix("  - ") for line in reversed(rest) if line.startswith("  - ")), first)
    return f"{type(error).__name__}: {first}"[:300]


def main(folder: Path) -> int:
    """Do the run of a folder and write its result, also if it fails."""
    start = (folder / "run.json").stat().st_mtime  # written just before this process started: imports count, too
    stage = Stage(folder / "stage")
    stage.say("loading")
    run = Run(**json.loads((folder / "run.json").read_text()))
    try:
        result = {"status": "ok", **train_and_measure(run, folder, stage)}
    except Exception as error:  # noqa: BLE001  # whatever a model raises becomes one row of the table
        traceback.print_exc()
        result = {"status": "failed", "error": brief(error)}
    result["run_seconds"] = time.time() - start
    write_result(folder, result)
    return 0 if result["status"] == "ok" else 1


def end_with_parent() -> None:
    """End this process when the launcher ends, which closes its input."""
    os.read(0, 1)  # not sys.stdin, whose lock would disturb the end of a finished run
    os._exit(1)


if __name__ == "__main__":
    Thread(target=end_with_parent, daemon=True).start()
    sys.exit(main(Path(sys.argv[1])))

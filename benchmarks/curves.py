r"""Accuracy over the steps of one training, and the time of the processor until each point.

    python benchmarks/curves.py Dmdd path/to/images --sets screw tile --steps 5000 --points 400 1000 2500

The sets are those of development.py, and the drawn parts in IMAGES/parts. At each point, and at the end, the model is
tested as it is then. Rows go to FOLDER/curves.csv. The checkpoint of the last point stays in FOLDER, and the same
command continues from it.

Learning rates follow the whole length and fall to zero at its end. So an early point is no result of a short training.
Time counts the training alone, without the tests. Use one thread (OMP_NUM_THREADS=1), or it counts them all.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import anomalib.models
import pandas as pd
import torch
from anomalib.callbacks.checkpoint import ModelCheckpoint
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC
from anomalib.models import AnomalibModule
from development import BASELINES, METRICS, OURS, SETS
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch.nn.functional import interpolate

import anomalib_dmdd
from anomalib_dmdd.models.base import DistillationPostProcessor
from anomalib_dmdd.models.base.evaluator import bounded

FOLDERS = SETS | {"flange": "parts"}
"""Categories and the folders that they lie in; ``DemoParts(root=IMAGES / "parts")`` draws the last one."""
RUN = ["model", "category", "image_size", "precision", "steps", "seed"]
"""Columns that name a training."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    trained = [name for name in OURS | BASELINES if name != "Patchcore"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=trained)
    parser.add_argument("images", type=Path)
    parser.add_argument("--sets", nargs="+", default=["screw", "tile"], choices=FOLDERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--points", type=int, nargs="*", default=[400, 1000, 2500])
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--out", type=Path, default=Path("results/curves"))
    return parser.parse_args()


@torch.no_grad()
def accuracy(module: AnomalibModule, data: MVTecAD) -> dict[str, float]:
    """Metrics of raw scores and maps of the test images, as shares from 0 to 1, in single precision."""
    pixels: dict[str, Any] = {"fields": ["anomaly_map", "gt_mask"]}
    metrics = [AUROC(fields=["pred_score", "gt_label"]), AUROC(**pixels), AUPRO(**pixels, fpr_limit=0.3)]
    module.eval()
    for index, batch in enumerate(data.test_dataloader()):
        images = module.pre_processor.transform(batch.image.to(module.device))
        masks = interpolate(batch.gt_mask[:, None].float(), images.shape[-2:])[:, 0].bool()
        found = module.validation_step(batch.update(image=images, gt_mask=masks), index)
        if isinstance(post := module.post_processor, DistillationPostProcessor):
            smooth = post.smooth(found.anomaly_map)
            found.update(anomaly_map=smooth, pred_score=post.image_score(smooth))
        found.update(anomaly_map=bounded(found.anomaly_map), pred_score=bounded(found.pred_score))
        for metric in metrics:
            metric.update(found)
    module.train()
    return {name: round(float(metric.compute()), 4) for name, metric in zip(METRICS, metrics, strict=True)}


class Curve(Callback):
    """Tests the model at some steps, writes a row each time, and keeps a checkpoint to continue from.

    Args:
        run: Values of the columns that name the training.
        points: Steps to test after.
        csv: Table that the rows are added to.
        checkpoint: File of the last point.
        seconds: Time of the training before it was continued.
    """

    def __init__(self, run: dict[str, Any], points: set[int], csv: Path, checkpoint: Path, seconds: float) -> None:
        self.run, self.points, self.csv, self.checkpoint = run, points, csv, checkpoint
        self.seconds, self.started = seconds, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        del trainer, pl_module
        self.started = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: AnomalibModule, *_: Any) -> None:
        """Test where a point is reached."""
        if trainer.global_step not in self.points:
            return
        self.seconds += time.process_time() - self.started
        row = {"step": trainer.global_step, **accuracy(pl_module, trainer.datamodule)}
        row |= {"train_seconds": round(self.seconds, 1)}
        trainer.save_checkpoint(self.checkpoint)
        add(self.csv, self.run | row)
        self.started = time.process_time()


def add(csv: Path, row: dict[str, Any]) -> None:
    """Add a row to a table and show it."""
    table = pd.DataFrame([row])
    table.to_csv(csv, index=False, mode="a", header=not csv.exists())
    print(table.to_string(index=False), flush=True)


def build(name: str, size: int) -> AnomalibModule:
    """A model of ours or of Anomalib, as development.py trains it."""
    ours = name in OURS
    cls = getattr(anomalib_dmdd if ours else anomalib.models, name)
    settings = (OURS | BASELINES)[name] | ({"check_training_images": False} if ours else {})
    pre_processor = cls.configure_pre_processor((size, size))
    model: AnomalibModule = cls(**settings, pre_processor=pre_processor, evaluator=False, visualizer=False)
    return model


def train(args: argparse.Namespace, category: str, seed: int) -> None:
    """One training, or what is left of it."""
    csv, points = args.out / "curves.csv", {*args.points, args.steps}
    run = dict(zip(RUN, (args.model, category, args.image_size, args.precision, args.steps, seed), strict=True))
    rows = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=[*RUN, "step", "train_seconds"])
    done = rows[(rows[RUN] == list(run.values())).all(axis=1)]
    if args.steps in set(done["step"]):
        return
    checkpoint = args.out / ("_".join(map(str, run.values())) + ".ckpt")
    before = done["train_seconds"].max() if len(done) else 0.0
    seed_everything(seed, workers=True, verbose=False)
    model = build(args.model, args.image_size)
    root = args.images / FOLDERS[category]
    data = MVTecAD(root=root, category=category, train_batch_size=16, num_workers=0)
    engine = Engine(
        callbacks=[Curve(run, points, csv, checkpoint, before), ModelCheckpoint(save_top_k=0)],
        default_root_dir=args.out / "runs",
        logger=False,
        max_steps=args.steps,
        max_epochs=-1,
        precision=args.precision,
        check_val_every_n_epoch=sys.maxsize,
        enable_progress_bar=False,
    )
    seed_everything(seed, workers=True, verbose=False)
    engine.fit(model, datamodule=data, ckpt_path=checkpoint if len(done) else None)


def main() -> None:
    """Run what is left to do."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    for category in args.sets:
        for seed in args.seeds:
            train(args, category, seed)


if __name__ == "__main__":
    main()

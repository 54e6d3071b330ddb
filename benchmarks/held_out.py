"""Categories without some of their test images: training there, and accuracy on what is left."""

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from anomalib.data import ImageBatch, ImageItem, MVTecAD
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC
from anomalib.models import AnomalibModule

Item = TypeVar("Item")


def parser_of(description: str | None, models: Sequence[str]) -> argparse.ArgumentParser:
    """A parser of the category and the settings of its trainings."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", type=Path, help="folder of a category in the layout of MVTec AD")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--model", default="Dmdd", choices=models)
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--precision", default="bf16-mixed")
    return parser


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Columns that name the settings of a training."""
    names = ("model", "backbone", "category", "image_size", "precision", "steps")
    return {name: getattr(args, name) for name in names} | {"category": args.category.name}


def run_missing(csv: Path, runs: Iterable[dict[str, Any]], rows_of: Callable[[dict[str, Any]], Any]) -> None:
    """Run what a table lacks, and add its rows.

    Args:
        csv: The table, made if it is missing.
        runs: Columns that name each run.
        rows_of: Does a run, and returns the further columns of each of its rows.
    """
    csv.parent.mkdir(parents=True, exist_ok=True)
    for run in runs:
        if csv.exists() and tuple(run.values()) in set(pd.read_csv(csv)[[*run]].itertuples(index=False, name=None)):
            continue
        rows = pd.DataFrame([run | row for row in rows_of(run)])
        rows.to_csv(csv, index=False, mode="a", header=not csv.exists())
        print(rows.to_string(index=False))


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` evenly spaced items, in their order.

    Raises:
        ValueError: If there are fewer.

    Example:
        >>> evenly_spaced("abcdef", 3)
        ['a', 'c', 'e']
    """
    if count > len(items):
        raise ValueError(f"{count} were asked for, but there are only {len(items)}.")
    return [items[index * len(items) // count] for index in range(count)]


def mask_of(image: Path) -> Path:
    """Mask of a defective test image in the layout of MVTec AD."""
    category, kind = image.parents[2], image.parent.name
    return category / "ground_truth" / kind / f"{image.stem}_mask.png"


def copy_without(category: Path, root: Path, held_out: Sequence[Path]) -> None:
    """Copy a category below a new root, without some of its defective test images and their masks.

    Args:
        category: Folder in the layout of MVTec AD.
        root: New folder. What it held is deleted.
        held_out: Test images of the category that are not copied.
    """
    left_out = {*held_out, *map(mask_of, held_out)}

    def skip(folder: str, files: list[str]) -> list[str]:
        return [name for name in files if Path(folder, name) in left_out]

    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(category, root / category.name, ignore=skip)


def train_and_predict(model: AnomalibModule, root: Path, args: argparse.Namespace) -> tuple[Path, list[ImageItem], int]:
    """Train on a category below a root, and predict its test images.

    Args:
        model: The untrained model.
        root: Root of a copy of the category.
        args: Settings ``category``, ``steps``, ``precision`` and ``out``.

    Returns:
        Folder of the run, the predicted images, and the seconds of the training.
    """
    data = MVTecAD(root=root, category=args.category.name, train_batch_size=16, eval_batch_size=32, num_workers=0)
    engine = Engine(
        default_root_dir=args.out / "runs",
        logger=False,
        max_steps=args.steps,
        precision=args.precision,
        enable_progress_bar=False,
    )
    start = time.monotonic()
    engine.fit(model, datamodule=data)
    seconds = round(time.monotonic() - start)
    folder = Path(engine.trainer.default_root_dir)
    items = [item for batch in engine.predict(model, dataloaders=data.test_dataloader()) for item in batch.items]
    return folder, items, seconds


def accuracy(items: Sequence[ImageItem]) -> dict[str, Any]:
    """Number of predicted images, their image AUROC and AUPRO as shares from 0 to 1."""
    batch = ImageBatch.collate(items)
    row: dict[str, Any] = {"images": len(items)}
    for name, metric in (
        ("image_AUROC", AUROC(["pred_score", "gt_label"])),
        ("pixel_AUPRO", AUPRO(["anomaly_map", "gt_mask"])),
    ):
        metric.update(batch)
        row[name] = round(float(metric.compute()), 4)
    return row

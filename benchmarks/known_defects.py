r"""Measure what a few known defects of one kind teach: accuracy on unseen defects of that kind and of the others.

    python benchmarks/known_defects.py path/to/images/tile blowhole --counts 0 1 3 10 --seeds 0

The folder is a category in the layout of MVTec AD. The largest count of the kind is taken out of the test images, also
where fewer or none are trained with, so all runs are tested on the same images. Each test is of all good images and the
defects of one kind. Rows are added to FOLDER/known_defects.csv; those that are there are not measured again.
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC
from lightning import seed_everything

import anomalib_dmdd

RUN = ["model", "backbone", "category", "kind", "image_size", "steps", "known", "seed"]
"""Columns that name a run."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", type=Path, help="folder of a category in the layout of MVTec AD")
    parser.add_argument("kind", help="kind of the known defects, a folder of its test images")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 1, 3, 10], help="numbers of known defects")
    parser.add_argument("--held_out", type=int, default=10, help="defects that are never tested")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--model", default="Dmdd", choices=["Dmdd", "Bikd"])
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--out", type=Path, default=Path("results/known_defects"))
    args = parser.parse_args()
    if not (args.category / "test" / args.kind).is_dir():
        parser.error(f"There is no folder {args.category / 'test' / args.kind}.")
    if max(args.counts) > args.held_out:
        parser.error(f"--counts: {max(args.counts)} is more than the {args.held_out} defects that are held out.")
    return args


def split(args: argparse.Namespace, known: int, seed: int) -> tuple[Path, Path]:
    """Copy the category without the held-out defects, and the known ones beside it.

    Returns:
        Root of the new category, and the folder of the known defects.
    """
    root = args.out / "data"
    shutil.rmtree(root, ignore_errors=True)
    images = sorted((args.category / "test" / args.kind).iterdir())
    held_out = [images[index * len(images) // args.held_out] for index in range(args.held_out)]
    order = torch.randperm(args.held_out, generator=torch.Generator().manual_seed(seed)).tolist()
    names = {path.stem for path in held_out}

    def skip(folder: str, files: list[str]) -> list[str]:
        same_kind = Path(folder).name == args.kind
        return [name for name in files if same_kind and Path(name).stem.removesuffix("_mask") in names]

    shutil.copytree(args.category, root / args.category.name, ignore=skip)
    teaching = root / "known"
    for path in (held_out[index] for index in order[:known]):
        mask = args.category / "ground_truth" / args.kind / f"{path.stem}_mask.png"
        for source, folder in ((path, teaching / args.kind), (mask, teaching / "ground_truth" / args.kind)):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder)
    return root, teaching


def train_and_test(args: argparse.Namespace, known: int, seed: int) -> list[dict[str, Any]]:
    """One training and its rows, one for each kind of defect."""
    root, teaching = split(args, known, seed)
    seed_everything(seed, workers=True)
    settings = {"known_defects": str(teaching)} if known else {}
    model = getattr(anomalib_dmdd, args.model)(
        backbone=args.backbone, image_size=args.image_size, visualizer=False, evaluator=False, **settings
    )
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
    batches = engine.predict(model, dataloaders=data.test_dataloader())
    run = dict(zip(RUN, run_key(args, known, seed), strict=True))
    return [run | row | {"train_seconds": seconds} for row in by_kind(batches)]


def by_kind(batches: list[ImageBatch]) -> list[dict[str, Any]]:
    """Image AUROC and AUPRO of each kind of defect, each with all good images."""
    items = [item for batch in batches for item in batch.items]
    kinds = [Path(item.image_path).parent.name for item in items]
    rows = []
    for kind in sorted(set(kinds) - {"good"}):
        chosen = [item for item, of in zip(items, kinds, strict=True) if of in {kind, "good"}]
        batch = ImageBatch.collate(chosen)
        row: dict[str, Any] = {"tested": kind, "images": len(chosen)}
        for name, metric in (
            ("image_AUROC", AUROC(["pred_score", "gt_label"])),
            ("pixel_AUPRO", AUPRO(["anomaly_map", "gt_mask"])),
        ):
            metric.update(batch)
            row[name] = round(float(metric.compute()), 4)
        rows.append(row)
    return rows


def run_key(args: argparse.Namespace, known: int, seed: int) -> tuple[Any, ...]:
    """Values of the columns that name a run."""
    setting = (args.model, args.backbone, args.category.name, args.kind, args.image_size, args.steps)
    return (*setting, known, seed)


def main() -> None:
    """Run what is left to do, and add a row for each kind of defect."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    csv = args.out / "known_defects.csv"
    done = set(pd.read_csv(csv)[RUN].itertuples(index=False, name=None)) if csv.exists() else set()
    for seed in args.seeds:
        for known in args.counts:
            if run_key(args, known, seed) in done:
                continue
            rows = pd.DataFrame(train_and_test(args, known, seed))
            rows.to_csv(csv, index=False, mode="a", header=not csv.exists())
            print(rows.to_string(index=False))


if __name__ == "__main__":
    main()

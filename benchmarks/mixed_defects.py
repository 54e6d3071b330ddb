r"""Measure what defective images among the good training images cost, and how many of them the log names.

    python benchmarks/mixed_defects.py path/to/images/tile --shares 0 0.05 0.1 --seeds 0

The folder is a category in the layout of MVTec AD. Defects of all kinds are taken out of the test images and added to
the good training images, until they are the given share of these. The images of the largest share are never tested, so
all runs are tested on the same images. Rows are added to FOLDER/mixed_defects.csv; those that are there are not
measured again.
"""

import argparse
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from held_out import accuracy, copy_without, evenly_spaced, parser_of, run_missing, settings_of, train_and_predict
from lightning import seed_everything

import anomalib_dmdd


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, ["Dmdd", "Dskd", "Bikd"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.05, 0.1], help="of the training images")
    parser.add_argument("--out", type=Path, default=Path("results/mixed_defects"))
    args = parser.parse_args()
    if not (args.category / "train" / "good").is_dir():
        parser.error(f"There is no folder {args.category / 'train' / 'good'}.")
    if not all(0 <= share < 1 for share in args.shares):
        parser.error("--shares: each must be at least 0 and less than 1.")
    return args


def counts(args: argparse.Namespace) -> dict[float, int]:
    """Number of added images for each share."""
    good = len(list((args.category / "train" / "good").iterdir()))
    return {share: round(good * share / (1 - share)) for share in args.shares}


def mix(args: argparse.Namespace, share: float, seed: int) -> tuple[Path, set[str]]:
    """Copy the category, with a share of defective images among the good ones for training.

    Returns:
        Root of the new category, and the names of the added images.
    """
    count = counts(args)
    defects = sorted(path for path in (args.category / "test").glob("*/*") if path.parent.name != "good")
    held_out = evenly_spaced(defects, max(count.values()))
    order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(seed)).tolist()
    root = args.out / "data"
    copy_without(args.category, root, held_out)
    added = set()
    for path in (held_out[index] for index in order[: count[share]]):
        name = f"mixed_{path.parent.name}_{path.name}"
        shutil.copy(path, root / args.category.name / "train" / "good" / name)
        added.add(name)
    return root, added


def train_and_test(args: argparse.Namespace, run: dict[str, Any]) -> list[dict[str, Any]]:
    """One training and its result."""
    root, added = mix(args, run["share"], run["seed"])
    seed_everything(run["seed"], workers=True)
    model = getattr(anomalib_dmdd, args.model)(
        backbone=args.backbone, image_size=args.image_size, visualizer=False, evaluator=False
    )
    folder, items, seconds = train_and_predict(model, root, args)
    scores = pd.read_csv(folder / "training_images.csv")  # the highest first
    scores["mixed"] = [Path(file).name in added for file in scores["file"]]
    named = {
        "mixed": len(added),
        "first": int(scores["mixed"][: len(added)].sum()),
        "named": int(scores["stands_out"].sum()),
        "named_mixed": int((scores["stands_out"] & scores["mixed"]).sum()),
    }
    return [accuracy(items) | named | {"train_seconds": seconds}]


def main() -> None:
    """Run what is left to do, and add a row for each run."""
    args = arguments()
    fixed = settings_of(args) | {"held_out": max(counts(args).values())}
    runs = [fixed | {"share": share, "seed": seed} for seed in args.seeds for share in args.shares]
    run_missing(args.out / "mixed_defects.csv", runs, partial(train_and_test, args))


if __name__ == "__main__":
    main()

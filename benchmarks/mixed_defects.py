r"""Measure what defective images among the good training images cost, and how many of them the log names.

    python benchmarks/mixed_defects.py path/to/images/tile --shares 0 0.05 0.1 --seeds 0

The folder is a category in the layout of MVTec AD. Defects of all kinds are taken out of the test images and added to
the good training images, until they are the given share of these. The images of the largest share are never tested, so
all runs are tested on the same images. Rows are added to FOLDER/mixed_defects.csv; those that are there are not
measured again.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from held_out import accuracy, copy_without, evenly_spaced, train_and_predict
from lightning import seed_everything

import anomalib_dmdd

RUN = ["model", "backbone", "category", "image_size", "precision", "steps", "held_out", "share", "seed"]
"""Columns that name a run."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", type=Path, help="folder of a category in the layout of MVTec AD")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.05, 0.1], help="of the training images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--model", default="Dmdd", choices=["Dmdd", "Dskd", "Bikd"])
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--precision", default="bf16-mixed")
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


def train_and_test(args: argparse.Namespace, share: float, seed: int) -> dict[str, Any]:
    """One training and its row."""
    root, added = mix(args, share, seed)
    seed_everything(seed, workers=True)
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
    run = dict(zip(RUN, run_key(args, share, seed), strict=True))
    return run | accuracy(items) | named | {"train_seconds": seconds}


def run_key(args: argparse.Namespace, share: float, seed: int) -> tuple[Any, ...]:
    """Values of the columns that name a run."""
    training = (args.model, args.backbone, args.category.name, args.image_size, args.precision, args.steps)
    return (*training, max(counts(args).values()), share, seed)


def main() -> None:
    """Run what is left to do, and add a row for each run."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    csv = args.out / "mixed_defects.csv"
    done = set(pd.read_csv(csv)[RUN].itertuples(index=False, name=None)) if csv.exists() else set()
    for seed in args.seeds:
        for share in args.shares:
            if run_key(args, share, seed) in done:
                continue
            row = pd.DataFrame([train_and_test(args, share, seed)])
            row.to_csv(csv, index=False, mode="a", header=not csv.exists())
            print(row.to_string(index=False))


if __name__ == "__main__":
    main()

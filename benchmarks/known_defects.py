r"""Measure what a few known defects of one kind teach: accuracy on unseen defects of that kind and of the others.

    python benchmarks/known_defects.py path/to/images/tile blowhole --counts 0 1 3 10 --seeds 0

The folder is a category in the layout of MVTec AD. The largest count of the kind is taken out of the test images, also
where fewer or none are trained with, so all runs are tested on the same images. Each test is of all good images and the
defects of one kind. Rows are added to FOLDER/known_defects.csv; those that are there are not measured again.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from held_out import accuracy, copy_without, evenly_spaced, mask_of, train_and_predict
from lightning import seed_everything

import anomalib_dmdd

RUN = ["model", "backbone", "category", "kind", "image_size", "precision", "steps", "held_out", "known", "seed"]
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
    images = sorted((args.category / "test" / args.kind).iterdir())
    held_out = evenly_spaced(images, args.held_out)
    order = torch.randperm(args.held_out, generator=torch.Generator().manual_seed(seed)).tolist()
    copy_without(args.category, root, held_out)
    teaching = root / "known"
    for path in (held_out[index] for index in order[:known]):
        for source, folder in ((path, teaching / args.kind), (mask_of(path), teaching / "ground_truth" / args.kind)):
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
    _, items, seconds = train_and_predict(model, root, args)
    kinds = [Path(item.image_path).parent.name for item in items]
    run = dict(zip(RUN, run_key(args, known, seed), strict=True))
    rows = []
    for kind in sorted(set(kinds) - {"good"}):
        chosen = [item for item, of in zip(items, kinds, strict=True) if of in {kind, "good"}]
        rows.append(run | {"tested": kind} | accuracy(chosen) | {"train_seconds": seconds})
    return rows


def run_key(args: argparse.Namespace, known: int, seed: int) -> tuple[Any, ...]:
    """Values of the columns that name a run."""
    images = (args.category.name, args.kind, args.image_size)
    return (args.model, args.backbone, *images, args.precision, args.steps, args.held_out, known, seed)


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

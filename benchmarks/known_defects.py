r"""Measure what a few known defects of one kind teach: accuracy on unseen defects of that kind and of the others.

    python benchmarks/known_defects.py path/to/images/tile blowhole --counts 0 1 3 10 --seeds 0

The folder is a category in the layout of MVTec AD. The largest count of the kind is taken out of the test images, also
where fewer or none are trained with, so all runs are tested on the same images. Each test is of all good images and the
defects of one kind. Rows are added to FOLDER/known_defects.csv; those that are there are not measured again.
"""

import argparse
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from held_out import (
    accuracy,
    copy_without,
    evenly_spaced,
    mask_of,
    parser_of,
    run_missing,
    settings_of,
    train_and_predict,
)
from lightning import seed_everything

import anomalib_dmdd


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, ["Dmdd", "Bikd"])
    parser.add_argument("kind", help="kind of the known defects, a folder of its test images")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 1, 3, 10], help="numbers of known defects")
    parser.add_argument("--held_out", type=int, default=10, help="defects that are never tested")
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


def train_and_test(args: argparse.Namespace, run: dict[str, Any]) -> list[dict[str, Any]]:
    """One training and its results, one for each kind of defect."""
    root, teaching = split(args, run["known"], run["seed"])
    seed_everything(run["seed"], workers=True)
    settings = {"known_defects": str(teaching)} if run["known"] else {}
    model = getattr(anomalib_dmdd, args.model)(
        backbone=args.backbone, image_size=args.image_size, visualizer=False, evaluator=False, **settings
    )
    _, items, seconds = train_and_predict(model, root, args)
    kinds = [Path(item.image_path).parent.name for item in items]
    rows = []
    for kind in sorted(set(kinds) - {"good"}):
        chosen = [item for item, of in zip(items, kinds, strict=True) if of in {kind, "good"}]
        rows.append({"tested": kind} | accuracy(chosen) | {"train_seconds": seconds})
    return rows


def main() -> None:
    """Run what is left to do, and add a row for each kind of defect."""
    args = arguments()
    fixed = settings_of(args) | {"kind": args.kind, "held_out": args.held_out}
    runs = [fixed | {"known": known, "seed": seed} for seed in args.seeds for known in args.counts]
    run_missing(args.out / "known_defects.csv", runs, partial(train_and_test, args))


if __name__ == "__main__":
    main()

r"""Decide about a variant of a model on the six development sets: paired differences from the present default.

    python benchmarks/development.py path/to/images --variants "Dmdd without dropout" --seeds 0 1 2

The folder holds mvtec/screw, mvtec/hazelnut, tiles/tile, tiles/tile_uneven, cookie/cookie and boards/board in the
layout of MVTec AD. The same command continues where it was stopped; changed code starts new runs.

A variant is taken if its mean gain in image AUROC or AUPRO is more than two standard errors, if no metric loses more
than one in the mean, and if no set loses more than two of its own. Without --variants the present models and three of
Anomalib are run, for the tables of the documents; --models names others. Every row goes to
FOLDER/development.csv.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from variants import VARIANTS

SETS = {
    "screw": "mvtec",
    "hazelnut": "mvtec",
    "tile": "tiles",
    "tile_uneven": "tiles",
    "cookie": "cookie",
    "board": "boards",
}
"""Category and the folder that it lies in."""

METRICS = ["image_AUROC", "pixel_AUROC", "pixel_AUPRO"]
OURS = {name: {"backbone": "resnet18.tv_in1k"} for name in ("Dmdd", "Dskd", "Bikd")}
BASELINES = {name: {"backbone": "resnet18"} for name in ("ReverseDistillation", "Stfpm", "Patchcore")}
FIELD: dict[str, dict[str, Any]] = {
    "Padim": {"backbone": "resnet18"},
    "Dfm": {"backbone": "resnet18", "layer": "layer3"},
    "Cfa": {"backbone": "resnet18"},
    "Fastflow": {"backbone": "resnet18"},
    "Supersimplenet": {"backbone": "resnet18.tv_in1k"},
}
"""Arguments of the models; all start from the same ImageNet weights."""

BY_EPOCHS = "Supersimplenet"
"""Its schedule needs the number of epochs."""
BATCH = 16


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--variants", nargs="+", default=[], choices=VARIANTS, metavar="NAME", help=", ".join(VARIANTS))
    known = [*OURS, *BASELINES, *FIELD]
    parser.add_argument("--models", nargs="+", default=[*OURS, *BASELINES], choices=known, help=", ".join(known))
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="runs at a time, a thread each")
    parser.add_argument("--out", type=Path, default=Path("results/development"))
    args = parser.parse_args()
    folders = [_folder(args, name) / "train" / "good" for name in args.sets]
    if missing := [str(folder) for folder in folders if not any(folder.glob("*"))]:
        parser.error(f"No images in {', '.join(missing)}.")
    return args


def _folder(args: argparse.Namespace, category: str) -> Path:
    folder: Path = args.images / SETS[category] / category
    return folder


def models(names: Sequence[str], variants: Sequence[str], steps: int, good_images: int) -> list[dict[str, Any]]:
    """Entries of a comparison: variants beside their defaults, or the named models.

    Models without a student keep single precision, Anomalib's default.
    """
    names = list(dict.fromkeys(name.split()[0] for name in variants)) or names
    known = OURS | BASELINES | FIELD
    entries = [{"class_path": name, "label": name, "init_args": known[name]} for name in names]
    for name in variants:
        settings = OURS[name.split()[0]] | VARIANTS[name].get("init_args", {})
        entries.append({**VARIANTS[name], "label": name, "init_args": settings})
    epochs = max(1, round(steps / math.ceil(good_images / BATCH)))
    for entry in entries:
        length = {"max_epochs": epochs} if entry["label"] == BY_EPOCHS else {"max_steps": steps, "max_epochs": -1}
        single = entry["label"] in FIELD or entry["label"] == "Patchcore"
        entry["train_batch_size"] = BATCH
        entry["trainer"] = {"precision": "32-true" if single else "bf16-mixed"} | length | entry.get("trainer", {})
    return entries


def run(args: argparse.Namespace, category: str) -> pd.DataFrame:
    """Compare the models on one set, or what is left to do of it."""
    out = args.out / f"{category}_{args.image_size}_{args.steps}"
    out.mkdir(parents=True, exist_ok=True)
    good_images = len(list((_folder(args, category) / "train" / "good").iterdir()))
    settings = {
        "models": models(args.models, args.variants, args.steps, good_images),
        "data": {
            "class_path": "MVTecAD",
            "category": [category],
            "init_args": {"root": str((args.images / SETS[category]).resolve()), "num_workers": 0},
        },
        "seeds": args.seeds,
        "image_size": args.image_size,
        "threads": 1,
        "openvino": [],
        "timed_passes": 5,
        "keep_weights": False,
        "out": str(out),
    }
    config = out / "compare.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "anomalib_dmdd", "compare", "--config", str(config)]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (out / "log.txt").open("a") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": paths}, check=False)  # noqa: S603
    if done.returncode > 1:
        sys.exit(f"{category}: the comparison stopped with exit code {done.returncode}, see {out / 'log.txt'}")
    return pd.read_csv(out / "results.csv")


def differences(rows: pd.DataFrame, variant: str) -> pd.DataFrame:
    """Gain of a variant over its default in percent: one row for each set and for the mean of all.

    Pairs are runs of one set and seed. The sets are fixed, so the error of the mean comes from the seeds alone.

    Example:
        >>> both = {"category": "a", "seed": [0, 1], "pixel_AUROC": 0.9, "pixel_AUPRO": 0.8}
        >>> base = pd.DataFrame(both | {"model": "Dmdd", "image_AUROC": [0.5, 0.6]})
        >>> other = pd.DataFrame(both | {"model": "Dmdd new", "image_AUROC": [0.6, 0.9]})
        >>> differences(pd.concat([base, other]), "Dmdd new").loc["mean", ["image_AUROC", "image_AUROC error"]].tolist()
        [20.0, 10.0]
    """
    tables = rows.pivot_table(index=["category", "seed"], columns="model", values=METRICS)
    columns: dict[str, pd.Series[float]] = {}
    for metric in METRICS:
        gains = 100 * (tables[metric][variant] - tables[metric][variant.split(maxsplit=1)[0]]).dropna()
        by_set = gains.groupby("category").agg(["mean", "sem"])
        mean_error = (by_set["sem"] ** 2).sum(min_count=1) ** 0.5 / len(by_set)
        columns[metric] = pd.concat([by_set["mean"], pd.Series({"mean": by_set["mean"].mean()})]).round(2)
        columns[f"{metric} error"] = pd.concat([by_set["sem"], pd.Series({"mean": mean_error})]).round(2)
    return pd.DataFrame(columns)


def is_taken(gains: pd.DataFrame) -> bool:
    """Whether the rule at the top of this file takes a variant."""
    mean, sets = gains.loc["mean"], gains.drop(index="mean")
    gained = any(mean[metric] > 2 * mean[f"{metric} error"] for metric in ("image_AUROC", "pixel_AUPRO"))
    kept = all(mean[metric] >= -mean[f"{metric} error"] for metric in METRICS)
    return gained and kept and all((sets[metric] >= -2 * sets[f"{metric} error"]).all() for metric in METRICS)


def main() -> None:
    """Run what is left to do, write all rows, print the differences."""
    args = arguments()
    with ThreadPoolExecutor(args.processes) as pool:
        rows = pd.concat(pool.map(lambda category: run(args, category), args.sets))
    rows = rows[rows["status"] == "ok"]
    csv = args.out / "development.csv"
    known = [pd.read_csv(csv)] if csv.exists() else []
    run_of = ["model", "category", "seed", "steps", "image_size", "code"]
    pd.concat([*known, rows]).drop_duplicates(run_of, keep="last").to_csv(csv, index=False)
    if not args.variants:
        print((100 * rows.pivot_table(index="model", columns="category", values=METRICS)).round(1).to_string())
    for variant in args.variants:
        gains = differences(rows, variant)
        decision = "taken" if is_taken(gains) else "not taken"
        print(f"\n{variant}, {len(args.seeds)} seeds: {decision}\n{gains.to_string()}")
    print(f"\nRows: {csv}")


if __name__ == "__main__":
    main()

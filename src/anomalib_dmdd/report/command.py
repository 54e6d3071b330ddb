"""The command ``anomalib-dmdd report``: a page of tested images, with a slider for the threshold."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import track

from anomalib_dmdd.inspector import common_folder

from .page import render
from .pictures import DISTANCES, STRIP, find_sources, make_pictures, read_explanations
from .tables import find_runs, folder_name, read_run

COMMAND = "python inspector.py model.xml IMAGES"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse what cannot work."""
    parser = argparse.ArgumentParser("anomalib-dmdd report", description=__doc__)
    parser.add_argument("results", type=Path, help="folder of results, such as 'results', or of one run")
    parser.add_argument("--out", type=Path, help="the page; by default report.html in the folder of results")
    args = parser.parse_args(arguments)
    if not args.results.is_dir():
        parser.error(f"There is no folder {args.results}.")
    args.out = args.out or args.results / "report.html"
    if args.out.suffix.lower() not in {".html", ".htm"}:
        parser.error(f"--out must be an .html file, not {args.out}.")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its folder of pictures.

    Returns:
        Exit code.
    """
    args = parse(arguments)
    folder = args.out.with_name(f"{args.out.stem}_files")
    try:
        table, older = read_images(args.results)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as drawn:  # an older page keeps its pictures until all are drawn
            images = draw_all(table, Path(drawn), folder.name)
            data = {
                "title": f"{args.results}: {len(images)} images",
                "command": "" if (table["raw_score"] == table["score"]).all() else COMMAND,  # it refuses raw scores
                "threshold": float(table["threshold"].iloc[0]),
                "thresholds": different_thresholds(table),
                "images": images,
            }
            page = render(data)
            replace_pictures(folder, Path(drawn))
        args.out.write_text(page, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in older:
        print(f"Left out, because there is a newer version: {path}")
    if missing := sum(not image["pictures"] for image in images):
        print(f"{missing} of {len(images)} images have no picture: neither image nor picture of Anomalib was found.")
    warn_of_thresholds(table)
    print(f"Written: {args.out}, with its pictures in {folder}")
    return 0


def read_images(results: Path) -> tuple[pd.DataFrame, list[Path]]:
    """Images of all runs, the highest score first, and the folders of older versions.

    Raises:
        ValueError: If there is no table, no image, or a table is broken.
    """
    runs, older = find_runs(results)
    explanations = read_explanations(results)
    tables = []
    for name, folder in runs.items():
        table = read_run(folder)
        if table.empty:
            continue
        files = [Path(file) for file in table["file"]]
        root = common_folder(file.parent for file in files)
        sources = find_sources(table, folder, explanations)
        table["sources"] = pd.Series(sources, table.index, dtype=object)
        tables.append(table.assign(run=name, folder=[folder_name(file, root) for file in files]))
    if not tables:
        raise ValueError(f"The tables in {results} hold no images.")
    return pd.concat(tables).sort_values("score", ascending=False, kind="stable", ignore_index=True), older


def different_thresholds(table: pd.DataFrame) -> dict[str, float]:
    """Threshold of each run, for images of all runs; empty if all have the same."""
    thresholds = table.groupby("run")["threshold"].first()
    different = thresholds.nunique() > 1
    return {str(run): float(value) for run, value in thresholds.items()} if different else {}


def warn_of_thresholds(table: pd.DataFrame) -> None:
    """Say which scores cannot be judged by one threshold."""
    if different := different_thresholds(table):
        named = ", ".join(f"{run} {threshold:g}" for run, threshold in different.items())
        print(f"The runs have different thresholds: {named}. Choose a run on the page to judge it by its own.")
    for run, raw in table.groupby("run")["raw_threshold"].unique().items():
        if len(raw) > 1:
            print(f"{run}: its images were scored with different thresholds, so their scores cannot be compared.")


def replace_pictures(folder: Path, drawn: Path) -> None:
    """Move new pictures into the folder of an older page, in place of its own."""
    for old in folder.glob("*-?.jpg"):
        old.unlink()
    for new in list(drawn.iterdir()):
        new.rename(folder / new.name)


def draw_all(table: pd.DataFrame, folder: Path, shown_as: str) -> list[dict[str, Any]]:
    """Write the pictures of all images, and describe each for the page.

    Args:
        table: The images.
        folder: Where the pictures are written.
        shown_as: Name of their folder in the page.
    """
    # Pillow and NumPy leave the interpreter to other threads while they work.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        described = pool.map(lambda row: describe(row, folder, shown_as), table.itertuples())
        return list(track(described, "Drawing", len(table), console=Console(stderr=True), transient=True))


def describe(row: Any, folder: Path, shown_as: str) -> dict[str, Any]:  # noqa: ANN401  # a named tuple
    """Write the pictures of a row of the table, and describe it for the page."""
    thumbnail, names = make_pictures(row.sources, row.pixel_threshold, folder, f"{row.Index + 1:05d}")
    return {
        "file": row.file,
        "name": Path(row.file).name,
        "run": row.run,
        "folder": row.folder,
        "score": row.score,
        "known": None if pd.isna(row.known_anomalous) else bool(row.known_anomalous),
        "thumbnail": thumbnail,
        "pictures": [
            {"title": title, "source": f"{shown_as}/{name}", "wide": title in {STRIP, DISTANCES}}
            for title, name in names.items()
        ],
    }

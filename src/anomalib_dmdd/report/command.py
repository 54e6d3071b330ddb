"""The command ``anomalib-dmdd report``: a page of tested images, with a slider for the threshold."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import track

from .page import render
from .pictures import DISTANCES, STRIP, find_sources, make_pictures, read_explanations
from .tables import common_folder, find_runs, folder_name, read_run

COMMAND = "python inspector.py model.xml IMAGES"


def arguments(line: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse what cannot work."""
    parser = argparse.ArgumentParser("anomalib-dmdd report", description=__doc__)
    parser.add_argument("results", type=Path, help="folder of results, such as 'results', or of one run")
    parser.add_argument("--out", type=Path, help="the page; by default report.html in the folder of results")
    args = parser.parse_args(line)
    if not args.results.is_dir():
        parser.error(f"There is no folder {args.results}.")
    args.out = args.out or args.results / "report.html"
    if args.out.suffix.lower() not in {".html", ".htm"}:
        parser.error(f"--out must be an .html file, not {args.out}.")
    return args


def main(line: Sequence[str] | None = None) -> int:
    """Write the page and its folder of pictures.

    Returns:
        Exit code.
    """
    args = arguments(line)
    try:
        table, older = read_images(args.results)
        images = add_pictures(table, args.results, args.out)
        data = {
            "title": f"{args.results}: {len(images)} images",
            "command": COMMAND,
            "threshold": float(table["threshold"].iloc[0]),
            "images": images,
        }
        args.out.write_text(render(data), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for folder in older:
        print(f"Left out, because there is a newer version: {folder}")
    if missing := sum(not image["pictures"] for image in images):
        print(f"{missing} of {len(images)} images have no picture: neither image nor picture of Anomalib was found.")
    print(f"Written: {args.out}, with its pictures in {picture_folder(args.out)}")
    return 0


def read_images(results: Path) -> tuple[pd.DataFrame, list[Path]]:
    """Images of all runs, the highest score first, and the folders that are left out."""
    runs, older = find_runs(results)
    tables = []
    for name, folder in runs.items():
        table = read_run(folder)
        if table.empty:
            continue
        files = [Path(file) for file in table["file"]]
        root = common_folder(files)
        tables.append(table.assign(run=name, run_folder=folder, folder=[folder_name(file, root) for file in files]))
    if not tables:
        raise ValueError(f"The tables in {results} hold no images.")
    return pd.concat(tables).sort_values("score", ascending=False, kind="stable", ignore_index=True), older


def picture_folder(page: Path) -> Path:
    """Folder of the full pictures, beside the page."""
    return page.with_name(f"{page.stem}_files")


def add_pictures(table: pd.DataFrame, results: Path, page: Path) -> list[dict[str, Any]]:
    """Write all pictures, and describe each image for the page."""
    explanations = read_explanations(results)
    sources = {
        (name, source.image): source
        for (name, folder), rows in table.groupby(["run", "run_folder"])
        for source in find_sources(rows["file"], rows["mask"], folder, explanations)
    }
    folder = picture_folder(page)
    folder.mkdir(parents=True, exist_ok=True)

    def describe(row: Any) -> dict[str, Any]:  # noqa: ANN401  # a named tuple
        stem = f"{row.Index + 1:05d}"
        thumbnail, names = make_pictures(sources[row.run, Path(row.file)], row.pixel_threshold, folder, stem)
        return {
            "file": row.file,
            "name": Path(row.file).name,
            "run": row.run,
            "folder": row.folder,
            "score": row.score,
            "known": None if pd.isna(row.known_anomalous) else bool(row.known_anomalous),
            "thumbnail": thumbnail,
            "pictures": [
                {"title": title, "source": f"{folder.name}/{name}", "wide": title in {STRIP, DISTANCES}}
                for title, name in names.items()
            ],
        }

    # Pillow and NumPy leave the interpreter to other threads while they work.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        described = pool.map(describe, table.itertuples())
        return list(track(described, "Drawing", len(table), console=Console(stderr=True), transient=True))

"""Tables of scores of all runs in a folder of results."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from anomalib_dmdd.inspector import absolute, below

EXPLAINED = "explained.csv"
"""Table of the pictures of ``anomalib-dmdd explain``."""
NEEDED = ("file", "score")
OPTIONAL: dict[str, float | None] = {"known_anomalous": None, "mask": None, "raw_score": None, "raw_threshold": None}
OPTIONAL |= {"threshold": 0.5, "pixel_threshold": 0.5}


def find_runs(results: Path) -> tuple[dict[str, Path], list[Path]]:
    """Folders with a table of scores.

    Args:
        results: Folder of results, or of one run.

    Returns:
        The folder of each run by its name, and the folders of older versions, which are left out.

    Raises:
        ValueError: If there is no table.
    """
    folders = sorted({path.parent for path in _tables(results.rglob("predictions*.csv"))})
    if not folders:
        raise ValueError(
            f"There is no predictions.csv with scores in {results} or below. 'anomalib test' and 'anomalib predict' "
            "write it for the models of this package. Give the folder that they name."
        )
    newest: dict[Path, Path] = {}
    for folder in sorted(folders, key=_version):
        key = folder.parent if _version(folder) >= 0 and folder != results else folder
        newest[key] = folder
    older = [folder for folder in folders if folder not in newest.values()]
    names = {key.relative_to(results).as_posix(): folder for key, folder in sorted(newest.items())}
    return {results.resolve().name if name == "." else name: folder for name, folder in names.items()}, older


def _tables(paths: Iterable[Path]) -> list[Path]:
    """Those that are written; a command that is still running has an empty one."""
    return [path for path in paths if path.stat().st_size]


def _version(folder: Path) -> int:
    """Number of a folder such as ``v3``, else -1."""
    match = re.fullmatch(r"v(\d+)", folder.name)
    return int(match[1]) if match else -1


def read_run(folder: Path) -> pd.DataFrame:
    """Newest score of each image of a run.

    A later table replaces the scores of an earlier one. Labels stay known, which a prediction does not write.

    Args:
        folder: Folder with ``predictions.csv``, ``predictions_2.csv`` and so on.

    Returns:
        Columns ``file``, ``score`` and those of :data:`OPTIONAL`.

    Raises:
        ValueError: If a file is not such a table.
    """
    paths = sorted(_tables(folder.glob("predictions*.csv")), key=lambda path: (len(path.name), path.name))
    table: pd.DataFrame = pd.concat(map(_read_table, paths)).groupby("file", sort=False, as_index=False).last()
    for name, value in OPTIONAL.items():
        if name not in table:
            table[name] = value
    # Raw scores without a threshold: nothing is called defective.
    table["threshold"] = table["threshold"].replace(math.inf, max(1.0, table["score"].max()))
    table["pixel_threshold"] = table["pixel_threshold"].replace(math.inf, 1.0)
    return table


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype={"file": str, "mask": str}, encoding_errors="surrogateescape")
    except (ValueError, OSError) as error:  # the errors of pandas are ValueErrors
        raise ValueError(f"{path} cannot be read: {error}") from error
    if missing := [name for name in NEEDED if name not in table]:
        raise ValueError(f"{path} is not a table of scores: it has no column {' and '.join(missing)}.")
    for name in [name for name in ("score", "raw_score") if name in table]:
        scores = pd.to_numeric(table[name], errors="coerce")
        finite = scores[np.isfinite(scores)]
        table[name] = scores.clip(upper=finite.max() if len(finite) else 1.0)  # the page cannot hold infinity
    if table["score"].isna().any():
        raise ValueError(f"{path} is broken: a score is not a number.")
    return table


def folder_name(file: Path, root: Path | None) -> str:
    """Folder of a file, relative to a common folder or named like it.

    Example:
        >>> [folder_name(Path(file), Path("/parts")) for file in ("/parts/test/good/1.png", "/parts/1.png")]
        ['test/good', 'parts']
    """
    folder = absolute(file).parent
    return folder.name if folder == root else below(root, folder).as_posix()

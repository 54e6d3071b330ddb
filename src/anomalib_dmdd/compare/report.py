"""``results.md``: the tables as a person reads them."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from .plan import Run
from .table import (
    COSTS,
    LATENCIES,
    METRICS,
    Column,
    accuracy_column,
    best,
    complete_models,
    latency_column,
    pareto,
    summarise,
)

HOW = """## How it was measured

- All models: the same images at {size} x {size} pixels, the same seeds, one evaluator; the last step is tested.
- Thresholds come from Anomalib's validation images. Where these are the test images (the default for MVTec AD), F1 is
  optimistic, for all models alike; the other metrics need no threshold. AUPRO goes up to a false positive rate of 0.3.
- Mean over categories and seeds, ± standard deviation over seeds of the mean over categories. **Bold**: best as shown.
- Training: wall clock with loading of images. Memory: the most until training ended, {memory}.
- Params: all numbers that inference reads: weights, statistics and memory banks. File: the checkpoint
  on disk, without optimizer state.
- Latency: one image from pre- to post-processing, median (first to third quartile) of {passes} passes after 10 to
  warm up, CPU threads: {threads}. Torch on {device}, OpenVINO on the CPU.
"""
MEMORY = {
    "GPU": "what torch allocated on the GPU",
    "process": "of the whole process, libraries included, without workers that load images",
}


def markdown(runs: Sequence[Run], rows: pd.DataFrame, environment: dict[str, Any]) -> str:
    """Write all tables.

    Args:
        runs: All planned runs.
        rows: Those that came to an end, see `collect`.
        environment: See `versions.environment`.
    """
    done = f"{len(rows)} of {len(runs)} runs" if len(rows) < len(runs) else f"{len(runs)} runs"
    parts = [
        "# Comparison",
        f"{done}, {environment['date'][:10]}, {environment['cpu']}"
        + "".join(f", {gpu}" for gpu in environment["gpus"]),
        summary(runs, rows),
        *(_by_category(rows, column) for column in METRICS if rows["category"].nunique() > 1),
        _failures(runs, rows),
        _how(runs, rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(runs: Sequence[Run], rows: pd.DataFrame) -> str:
    """Write what most people want to know: which model to use, and the means per model."""
    means, spreads = summarise(rows)
    candidates = complete_models(rows, runs)
    parts = [
        verdict(means, candidates),
        _table("Accuracy, %", means, spreads, METRICS, candidates),
        _table("Cost", means, spreads, COSTS, candidates),
    ]
    return "\n\n".join(part for part in parts if part)


def verdict(means: pd.DataFrame, candidates: Sequence[str]) -> str:
    """Say in a sentence or two which model to use."""
    means = means.loc[[model for model in means.index if model in candidates]]
    if len(means) < 2:  # noqa: PLR2004  # nothing to compare
        return ""
    accuracy, latency = accuracy_column(means), latency_column(means)
    top, fast = means[accuracy.name].idxmax(), means[latency.name].idxmin()
    about_top = f"{accuracy.title} {accuracy.text(means[accuracy.name].max())}"
    about_fast = f"{latency.text(means[latency.name].min())} ms per image"
    if top == fast:
        return f"**{top}** is the most accurate ({about_top}) and the fastest ({about_fast})."
    text = f"Most accurate: **{top}** ({about_top}). Fastest: **{fast}** ({about_fast})."
    between = [model for model in pareto(means, accuracy.name, latency.name) if model not in {top, fast}]
    return text + (f" Between them: {', '.join(between)}." if between else "")


def _table(
    title: str,
    means: pd.DataFrame,
    spreads: pd.DataFrame,
    columns: Sequence[Column],
    candidates: Sequence[str],
) -> str:
    """One row per model."""
    columns = [column for column in columns if means[column.name].notna().any()]
    if not columns:
        return ""
    lines = [[model + ("" if model in candidates else " (incomplete)")] for model in means.index]
    for column in columns:
        marked = best(means, column, candidates)
        for line, model in zip(lines, means.index, strict=True):
            text = _with_spread(column, means.loc[model], spreads.loc[model])
            line.append(f"**{text}**" if model in marked else text)
    return f"## {title}\n\n" + _grid(["model", *(column.title for column in columns)], lines)


def _with_spread(column: Column, mean: pd.Series, spread: pd.Series) -> str:
    text = column.text(mean[column.name])
    if column in LATENCIES and pd.notna(mean[column.name]):
        return f"{text} ({column.text(mean[column.name + '_p25'])} to {column.text(mean[column.name + '_p75'])})"
    return text if pd.isna(spread[column.name]) else f"{text} ± {column.text(spread[column.name])}"


def _by_category(rows: pd.DataFrame, column: Column) -> str:
    """One row per category, one column per model."""
    fine = rows[rows["status"] == "ok"]
    if fine[column.name].isna().all():
        return ""
    cells = fine.groupby(["category", "model"], sort=False)[column.name]
    mean, spread = cells.mean().unstack(), cells.std().unstack()
    models = list(dict.fromkeys(fine["model"]))
    lines = []
    for category in dict.fromkeys(fine["category"]):
        marked = best(mean.loc[[category]].T.set_axis([column.name], axis=1), column, models)
        texts = []
        for model in models:
            value, deviation = mean.at[category, model], spread.at[category, model]
            text = column.text(value) + ("" if pd.isna(deviation) else f" ± {column.text(deviation)}")
            texts.append(f"**{text}**" if model in marked else text)
        lines.append([category, *texts])
    return f"## {column.title} per category, %\n\n" + _grid(["category", *models], lines)


def _failures(runs: Sequence[Run], rows: pd.DataFrame) -> str:
    titles = {run.id: run.title for run in runs}
    failed = rows[rows["error"] != ""]
    if failed.empty:
        return ""
    lines = [f"- {titles[row.run]}: {row.error} (log: `runs/{row.run}/log.txt`)" for row in failed.itertuples()]
    return "## What failed\n\n" + "\n".join(lines)


def _how(runs: Sequence[Run], rows: pd.DataFrame) -> str:
    run = runs[0]
    return HOW.format(
        size=run.image_size,
        passes=run.timed_passes,
        threads=run.threads,
        memory=", ".join(MEMORY[kind] for kind in rows["memory_of"].dropna().unique()) or "not known",
        device=", ".join(rows["device"].dropna().unique()) or "no device",
    )


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))

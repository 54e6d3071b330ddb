"""Tables of the results: ``results.csv`` with a row per run, ``results.md`` with means per model."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .launcher import result_of
from .plan import Run

MIN_SEEDS = 3  # fewer say too little about the spread to call a model the best


@dataclass(frozen=True)
class Column:
    """A measured column: name in the CSV file, heading, format."""

    name: str
    title: str
    higher_is_better: bool = False
    scale: float = 1.0
    digits: int = 1

    def text(self, mean: float, spread: float | None = None) -> str:
        """Write a mean, and its spread if there is one."""
        text = "-" if pd.isna(mean) else f"{self.scale * mean:.{self.digits}f}"
        return text if pd.isna(spread) else f"{text} ± {self.scale * (spread or 0):.{self.digits}f}"


def _percent(name: str, title: str) -> Column:
    return Column(name, title, higher_is_better=True, scale=100)


METRICS = (
    _percent("image_AUROC", "image AUROC"),
    _percent("image_F1Score", "image F1"),
    _percent("pixel_AUROC", "pixel AUROC"),
    _percent("pixel_AUPR", "pixel AP"),
    _percent("pixel_AUPRO", "AUPRO"),
)
EXPORTS = tuple(
    _percent(f"openvino_{precision.lower()}_{metric.name}", f"{precision} {metric.title}")
    for precision in ("FP32", "INT8")
    for metric in (METRICS[0], METRICS[4])
)
LATENCIES = tuple(
    Column(f"{name}_ms", f"{title}, ms")
    for name, title in (("torch", "torch"), ("openvino_fp32", "OpenVINO FP32"), ("openvino_int8", "OpenVINO INT8"))
)
COSTS = (
    Column("train_seconds", "training, s"),
    Column("peak_memory_mb", "memory, MB", digits=0),
    Column("parameters_m", "params, M"),
    Column("checkpoint_mb", "file, MB"),
    *LATENCIES,
)
COLUMNS = (*METRICS, *EXPORTS, *COSTS)
QUARTILES = [f"{column.name}_{quartile}" for column in LATENCIES for quartile in ("p25", "p75")]
IDENTITY = ["model", "category", "seed", "status", "error"]
SETTINGS = ["steps", "epochs", "device", "memory_of", "threads", "image_size", "run_seconds", "run", "code"]

HOW = """## How it was measured

- All models see the same images at {size} x {size} pixels. The last training step is tested.
- Values are means over categories and seeds, ± the standard deviation over seeds of the mean over categories.
  **Bold** marks the best model, if there are at least {seeds} seeds.
- F1 is optimistic for all models if the validation images are the test images. Other metrics need no threshold.
  AUPRO is integrated up to a false positive rate of 0.3.
- Accuracy is measured in torch on scores that are not clipped. Exported files are tested as they are.
  Anomalib clips normalised scores to [0, 1], also in the files of its models.
- Training time includes loading images. Memory is the peak until training ended ({memory}).
- Params counts all numbers that inference reads, including memory banks. File is the checkpoint without optimizer.
- Latency is the median of {passes} passes of one image after 10 to warm up, with {threads} CPU threads, from pre- to
  post-processing. Torch ran on {device}, OpenVINO on the CPU.
"""


def collect(runs: Sequence[Run], out: Path) -> pd.DataFrame:
    """Gather the results that exist, one row per run, in the order of the plan."""
    rows = []
    for run in runs:
        if (result := result_of(run, out)) is not None:
            identity = {"model": run.label, "category": run.category, "seed": run.seed, "error": ""}
            settings = {"threads": run.threads, "image_size": run.image_size, "run": run.id, "code": run.code}
            rows.append(identity | result | settings)
    names = [*IDENTITY, *(column.name for column in COLUMNS), *QUARTILES, *SETTINGS]
    table: pd.DataFrame = pd.DataFrame(rows).reindex(columns=names)
    return table


def summarise(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean over categories and seeds, and standard deviation over seeds, of each model.

    The spread is that of the mean over categories, because that is what changes when everything is repeated.

    Returns:
        Two frames with a row per model: means, and spreads (NaN with fewer than two seeds).
    """
    names = [column.name for column in COLUMNS]
    numbers: pd.DataFrame = rows[rows["status"] == "ok"].astype(dict.fromkeys(names, float))
    by_seed = numbers.groupby(["model", "seed"], sort=False)[names].mean()
    by_model = by_seed.groupby("model", sort=False)
    means: pd.DataFrame = by_model.mean()
    return means, by_model.std()


def complete_models(rows: pd.DataFrame, planned: Sequence[Run]) -> list[str]:
    """Models all of whose runs succeeded; only their means can be compared."""
    fine = set(rows.loc[rows["status"] == "ok", "run"])
    missing = {run.label for run in planned if run.id not in fine}
    return [label for label in dict.fromkeys(run.label for run in planned) if label not in missing]


def candidates(rows: pd.DataFrame, planned: Sequence[Run]) -> list[str]:
    """Models that may be called the best: the complete ones, if there are enough seeds."""
    return complete_models(rows, planned) if len({run.seed for run in planned}) >= MIN_SEEDS else []


def best(means: pd.Series, column: Column, among: Collection[str]) -> set[str]:
    """Models with the best mean as the table shows it; equal ones share the mark.

    >>> means = pd.Series({"a": 4.04, "b": 4.0, "c": 9.0})
    >>> sorted(best(means, Column("torch_ms", "torch, ms"), ["a", "b", "c"]))
    ['a', 'b']
    """
    values = means[means.index.isin(among)].dropna()
    if len(values) < 2:  # noqa: PLR2004  # a single model is compared with nothing
        return set()
    shown = (column.scale * values).round(column.digits)
    return set(shown.index[shown == (shown.max() if column.higher_is_better else shown.min())])


def pareto(means: pd.DataFrame, accuracy: str, latency: str) -> list[str]:
    """Models that no other model beats in accuracy without being slower, the fastest first."""
    front: list[str] = []
    reached = float("-inf")
    known = means[[accuracy, latency]].dropna().sort_values([latency, accuracy], ascending=[True, False])
    for model, value in known[accuracy].items():
        if value > reached:
            front.append(str(model))
            reached = value
    return front


def latency_column(means: pd.DataFrame) -> Column:
    """Latency to compare by: OpenVINO FP32 if all models have it, else torch."""
    return LATENCIES[1] if len(means) and means["openvino_fp32_ms"].notna().all() else LATENCIES[0]


def accuracy_column(means: pd.DataFrame) -> Column:
    """Accuracy by which models are compared: AUPRO if there are masks, else image AUROC."""
    return METRICS[4] if len(means) and means["pixel_AUPRO"].notna().all() else METRICS[0]


def markdown(runs: Sequence[Run], rows: pd.DataFrame, environment: dict[str, Any]) -> str:
    """Write all tables of the planned runs and the finished rows; see `collect` and `versions.environment`."""
    done = f"{len(rows)} of {len(runs)} runs" if len(rows) < len(runs) else f"{len(runs)} runs"
    where = ", ".join([environment["date"][:10], environment["cpu"], *environment["gpus"]])
    titles = {run.id: run.title for run in runs}
    failed = [row for row in rows.itertuples() if row.error]
    failures = [f"- {titles[str(row.run)]}: {row.error} (log: `runs/{row.run}/log.txt`)" for row in failed]
    how = HOW.format(
        size=runs[0].image_size,
        seeds=MIN_SEEDS,
        passes=runs[0].timed_passes,
        threads=runs[0].threads,
        memory=", ".join(f"of the {kind}" for kind in rows["memory_of"].dropna().unique()) or "not known",
        device=", ".join(rows["device"].dropna().unique()) or "no device",
    )
    parts = [
        f"# Comparison\n\n{done}, {where}. Code: {', '.join(dict.fromkeys(run.code for run in runs))}",
        summary(runs, rows),
        *(_by_category(rows, column, candidates(rows, runs)) for column in METRICS if rows["category"].nunique() > 1),
        "\n".join(["## What failed\n", *failures]) if failures else "",
        how.strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(runs: Sequence[Run], rows: pd.DataFrame) -> str:
    """Write which model to use, and the means per model."""
    means, spreads = summarise(rows)
    complete, among = complete_models(rows, runs), candidates(rows, runs)
    parts = [verdict(means, among)]
    if not among and len(complete) > 1:
        parts = [f"No best model is named, because that takes at least {MIN_SEEDS} seeds."]
    titles = {model: model if model in complete else f"{model} (incomplete)" for model in means.index}
    tables = {"Accuracy, %": METRICS, "Accuracy of the exported OpenVINO files, %": EXPORTS, "Cost": COSTS}
    for title, columns in tables.items():
        measured = [column for column in columns if means[column.name].notna().any()]
        cells = [_cells(column, means[column.name], spreads[column.name], among) for column in measured]
        if cells:
            parts.append(_table(title, pd.concat(cells, axis=1).rename(index=titles).rename_axis("model")))
    return "\n\n".join(part for part in parts if part)


def verdict(means: pd.DataFrame, among: Collection[str]) -> str:
    """Say in a sentence or two which model to use."""
    means = means[means.index.isin(among)]
    if len(means) < 2:  # noqa: PLR2004  # nothing to compare
        return ""
    accuracy, latency = accuracy_column(means), latency_column(means)
    top, fast = means[accuracy.name].idxmax(), means[latency.name].idxmin()
    text = f"Most accurate: **{top}** ({accuracy.title} {accuracy.text(means[accuracy.name].max())})."
    text += f" Fastest: **{fast}** ({latency.text(means[latency.name].min())} ms per image)."
    between = [model for model in pareto(means, accuracy.name, latency.name) if model not in {top, fast}]
    return text + (f" Between them: {', '.join(between)}." if between else "")


def _cells(column: Column, means: pd.Series, spreads: pd.Series, among: Collection[str]) -> pd.Series:
    """Text of each model, the best ones in bold."""
    marked = best(means, column, among)
    texts = [column.text(mean, spread) for mean, spread in zip(means, spreads, strict=True)]
    bold = [f"**{text}**" if model in marked else text for model, text in zip(means.index, texts, strict=True)]
    return pd.Series(bold, index=means.index, name=column.title)


def _table(title: str, cells: pd.DataFrame) -> str:
    align = ["left", *("right" for _ in cells.columns)]
    return f"## {title}\n\n{cells.to_markdown(disable_numparse=True, colalign=align)}"


def _by_category(rows: pd.DataFrame, column: Column, among: Collection[str]) -> str:
    """One row per category, one column per model."""
    fine = rows[rows["status"] == "ok"]
    if fine[column.name].isna().all():
        return ""
    groups = fine.groupby(["category", "model"], sort=False)[column.name]
    order = {"index": fine["category"].unique(), "columns": fine["model"].unique()}
    means, spreads = groups.mean().unstack().reindex(**order), groups.std().unstack().reindex(**order)
    cells = {name: _cells(column, means.loc[name], spreads.loc[name], among) for name in means.index}
    return _table(f"{column.title} per category, %", pd.DataFrame(cells).T.rename_axis("category"))

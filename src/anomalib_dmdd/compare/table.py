"""Tables of the results: ``results.csv`` with a row per run, ``results.md`` with means per model."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .launcher import result_of
from .plan import Run

MIN_SEEDS = 3  # fewer say too little about the spread to call a model the best

# Measured columns in the CSV file and their headings. Metrics and exports are fractions there and percent elsewhere.
METRICS = {
    "image_AUROC": "image AUROC",
    "image_F1Score": "image F1",
    "pixel_AUROC": "pixel AUROC",
    "pixel_AUPR": "pixel AP",
    "pixel_AUPRO": "AUPRO",
}
EXPORTS = {
    f"openvino_{precision.lower()}_{name}": f"{precision} {METRICS[name]}"
    for precision in ("FP32", "INT8")
    for name in ("image_AUROC", "pixel_AUPRO")
}
LATENCIES = {"torch_ms": "torch, ms", "openvino_fp32_ms": "OpenVINO FP32, ms", "openvino_int8_ms": "OpenVINO INT8, ms"}
COSTS = {
    "train_seconds": "training, s",
    "peak_memory_mb": "memory, MB",
    "parameters_m": "params, M",
    "checkpoint_mb": "file, MB",
    **LATENCIES,
}
PERCENT = [*METRICS, *EXPORTS]
COLUMNS = [*PERCENT, *COSTS]
QUARTILES = [f"{name}_{quartile}" for name in LATENCIES for quartile in ("p25", "p75")]
IDENTITY = ["model", "category", "seed", "status", "error"]
SETTINGS = ["steps", "epochs", "device", "memory_of", "threads", "image_size", "run_seconds", "run", "code"]

HOW = """## How it was measured

- All models see the same images at {size} x {size} pixels. The last training step is tested.
- Values are means over categories and seeds, ± the standard deviation over seeds of the mean over categories.
  **Bold** marks the best model, if there are at least {seeds} seeds.
- F1 is optimistic if the validation images are the test images. AUPRO ends at a false positive rate of 0.3.
- Accuracy is measured in torch on scores that are not clipped. Exported files are tested as they are.
  Anomalib clips normalised scores to [0, 1], also in the files of its models.
- Training time includes loading images. Memory is the peak until training ended ({memory}).
- Params counts all numbers that inference reads, including memory banks. File is the checkpoint without optimizer.
- Latency is the median of {passes} passes of one image after 10 to warm up, with {threads} CPU threads, from pre- to
  post-processing. Torch ran on {device}, OpenVINO on the CPU.
"""


def collect(runs: Sequence[Run], out: Path) -> pd.DataFrame:
    """Gather the results that exist, one row per run, in the order of the plan."""
    rows = [
        {"model": run.label, "category": run.category, "seed": run.seed, "error": "", "threads": run.threads, **result}
        | {"image_size": run.image_size, "run": run.id, "code": run.code}
        for run in runs
        if (result := result_of(run, out))
    ]
    table: pd.DataFrame = pd.DataFrame(rows).reindex(columns=[*IDENTITY, *COLUMNS, *QUARTILES, *SETTINGS])
    return table


def write(runs: Sequence[Run], out: Path, environment: dict[str, Any]) -> pd.DataFrame:
    """Write ``results.csv`` and ``results.md``, and return the rows."""
    rows = collect(runs, out)
    rows.to_csv(out / "results.csv", index=False)
    (out / "results.md").write_text(markdown(runs, rows, environment), encoding="utf-8")
    return rows


def summarise(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean over categories and seeds, and standard deviation over seeds, of each model.

    The spread is that of the mean over categories, because that is what changes when everything is repeated. A column
    that a model lacks in a category where others have it is NaN, because its mean would be over easier categories.

    Returns:
        Two frames with a row per model: means, and spreads (NaN with fewer than two seeds).
    """
    numbers = _numbers(rows)
    there = numbers[COLUMNS].notna().groupby([numbers["model"], numbers["category"]], sort=False).any()
    started = pd.MultiIndex.from_product([rows["model"].unique(), rows["category"].unique()], names=there.index.names)
    there = there.reindex(started, fill_value=False)  # all runs of a model and category can have failed
    lacks = (there.groupby("category").transform("any") & ~there).groupby("model", sort=False).any()
    by_model = numbers.groupby(["model", "seed"], sort=False)[COLUMNS].mean().groupby("model", sort=False)
    return by_model.mean().mask(lacks), by_model.std().mask(lacks)


def _numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that succeeded, accuracies in percent."""
    numbers: pd.DataFrame = rows[rows["status"] == "ok"].astype(dict.fromkeys(COLUMNS, float))
    numbers[PERCENT] *= 100
    return numbers


def complete_models(rows: pd.DataFrame, planned: Sequence[Run]) -> list[str]:
    """Models all of whose runs succeeded; only their means can be compared."""
    fine = set(rows.loc[rows["status"] == "ok", "run"])
    missing = {run.label for run in planned if run.id not in fine}
    return [label for label in dict.fromkeys(run.label for run in planned) if label not in missing]


def candidates(rows: pd.DataFrame, planned: Sequence[Run]) -> list[str]:
    """Models that may be called the best: the complete ones, if there are enough seeds."""
    return complete_models(rows, planned) if len({run.seed for run in planned}) >= MIN_SEEDS else []


def best(means: pd.DataFrame, among: Collection[str], *, highest: bool) -> pd.DataFrame:
    """Mark the best mean of each column, as rounded in the table.

    >>> means = pd.DataFrame({"torch_ms": [4.04, 4.0, 9.0]}, index=["a", "b", "c"])
    >>> best(means, ["a", "b", "c"], highest=False)["torch_ms"].tolist()
    [True, True, False]
    """
    shown = means.round(1)[means.index.isin(among)]
    reached = shown.max() if highest else shown.min()
    several = shown.count() > 1  # a single model is compared with nothing
    marks: pd.DataFrame = ((shown == reached) & several).reindex(means.index, fill_value=False)
    return marks


def pareto(means: pd.DataFrame, accuracy: str, latency: str) -> list[str]:
    """Models that no other model beats in accuracy without being slower, the fastest first."""
    known = means[[accuracy, latency]].dropna().sort_values([latency, accuracy], ascending=[True, False])[accuracy]
    return [str(model) for model in known.index[known > known.cummax().shift(fill_value=float("-inf"))]]


def compared(means: pd.DataFrame) -> tuple[str, str]:
    """Accuracy and latency to compare by; AUPRO and OpenVINO if all models have them."""
    everywhere = means.notna().all()
    accuracy = "pixel_AUPRO" if everywhere["pixel_AUPRO"] else "image_AUROC"
    return accuracy, "openvino_fp32_ms" if everywhere["openvino_fp32_ms"] else "torch_ms"


def markdown(runs: Sequence[Run], rows: pd.DataFrame, environment: dict[str, Any]) -> str:
    """Write all tables of the planned runs and the finished rows; see `collect` and `versions.environment`."""
    done = f"{len(rows)} of {len(runs)} runs" if len(rows) < len(runs) else f"{len(runs)} runs"
    where = ", ".join([environment["date"][:10], environment["cpu"], *environment["gpus"]])
    failures = [
        f"- {row.model}, {row.category}, seed {row.seed}: {row.error} (log: `runs/{row.run}/log.txt`)"
        for row in rows[rows["error"] != ""].itertuples()
    ]
    how = HOW.format(
        size=runs[0].image_size,
        seeds=MIN_SEEDS,
        passes=runs[0].timed_passes,
        threads=" or ".join(f"{count:g}" for count in rows["threads"].dropna().unique()) or "all",
        memory=", ".join(f"of the {kind}" for kind in rows["memory_of"].dropna().unique()) or "not known",
        device=", ".join(rows["device"].dropna().unique()) or "no device",
    )
    parts = [
        f"# Comparison\n\n{done}, {where}. Code: {', '.join(dict.fromkeys(run.code for run in runs))}",
        summary(runs, rows),
        *(_by_category(rows, name, candidates(rows, runs)) for name in METRICS if rows["category"].nunique() > 1),
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
    if means[[*METRICS]].isna().all(axis=None):
        parts = ["No accuracy is known. It takes good and defective test images."]
    titles = {model: model if model in complete else f"{model} (incomplete)" for model in means.index}
    tables = {"Accuracy, %": METRICS, "Accuracy of the exported OpenVINO files, %": EXPORTS, "Cost": COSTS}
    for title, columns in tables.items():
        cells = _cells(means[[*columns]], spreads[[*columns]], among, highest=columns is not COSTS)
        parts.append(_table(title, cells.rename(index=titles, columns=columns)))
    return "\n\n".join(part for part in parts if part)


def verdict(means: pd.DataFrame, among: Collection[str]) -> str:
    """Say in a sentence or two which model to use."""
    means = means[means.index.isin(among)]
    accuracy, latency = compared(means)
    if len(means[accuracy].dropna()) < 2:  # noqa: PLR2004  # nothing to compare
        return ""
    top, fast = means[accuracy].idxmax(), means[latency].idxmin()
    text = f"Most accurate: **{top}** ({METRICS[accuracy]} {means[accuracy].max():.1f})."
    text += f" Fastest: **{fast}** ({means[latency].min():.1f} ms per image)."
    between = [model for model in pareto(means, accuracy, latency) if model not in {top, fast}]
    return text + (f" Between them: {', '.join(between)}." if between else "")


def _by_category(rows: pd.DataFrame, name: str, among: Collection[str]) -> str:
    """One row per category, one column per model."""
    groups = _numbers(rows).groupby(["model", "category"], sort=False)[name]
    means, spreads = groups.mean().unstack(sort=False), groups.std().unstack(sort=False)
    return _table(f"{METRICS[name]} per category, %", _cells(means, spreads, among, highest=True).T)


def _cells(means: pd.DataFrame, spreads: pd.DataFrame, among: Collection[str], *, highest: bool) -> pd.DataFrame:
    """Text of each mean and its spread, the best of each column in bold."""
    means = means.dropna(axis="columns", how="all")
    spreads = spreads[means.columns]
    texts = means.map("{:.1f}".format, na_action="ignore").fillna("-")
    texts = texts.where(spreads.isna(), texts + " ± " + spreads.map("{:.1f}".format))
    marked: pd.DataFrame = texts.mask(best(means, among, highest=highest), "**" + texts + "**")
    return marked


def _escaped(label: object) -> str:
    return str(label).replace("|", "\\|")


def _table(title: str, cells: pd.DataFrame) -> str:
    cells = cells.rename(index=_escaped, columns=_escaped)
    align = ["left", *("right" for _ in cells.columns)]
    return "" if cells.empty else f"## {title}\n\n{cells.to_markdown(disable_numparse=True, colalign=align)}"

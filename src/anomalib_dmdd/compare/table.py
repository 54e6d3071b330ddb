"""Results as a table: one row per run, means with their spread per model, and which model is best."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .plan import Run
from .launcher import result_of


@dataclass(frozen=True)
class Column:
    """A measured column: its name in the CSV file, its heading, and how it is written."""

    name: str
    title: str
    higher_is_better: bool = False
    scale: float = 1.0
    digits: int = 1

    def text(self, value: float) -> str:
        """Write a value as tables show it."""
        return "-" if pd.isna(value) else f"{self.scale * value:.{self.digits}f}"


METRICS = (
    Column("image_AUROC", "image AUROC", higher_is_better=True, scale=100),
    Column("image_F1Score", "image F1", higher_is_better=True, scale=100),
    Column("pixel_AUROC", "pixel AUROC", higher_is_better=True, scale=100),
    Column("pixel_AUPR", "pixel AP", higher_is_better=True, scale=100),
    Column("pixel_AUPRO", "AUPRO", higher_is_better=True, scale=100),
)
LATENCIES = (
    Column("torch_ms", "torch, ms"),
    Column("openvino_fp32_ms", "OpenVINO FP32, ms"),
    Column("openvino_int8_ms", "OpenVINO INT8, ms"),
)
COSTS = (
    Column("train_seconds", "training, s"),
    Column("peak_memory_mb", "memory, MB", digits=0),
    Column("parameters_m", "params, M"),
    Column("checkpoint_mb", "file, MB"),
    *LATENCIES,
)
COLUMNS = (*METRICS, *COSTS)
QUARTILES = [f"{column.name}_{quartile}" for column in LATENCIES for quartile in ("p25", "p75")]
IDENTITY = ["model", "category", "seed", "status", "error"]
SETTINGS = ["steps", "epochs", "device", "memory_of", "threads", "image_size", "run_seconds", "run"]


def collect(runs: Sequence[Run], out: Path) -> pd.DataFrame:
    """Gather the results that are there, one row per run, in the order of the plan."""
    rows = []
    for run in runs:
        if (result := result_of(run, out)) is not None:
            identity = {"model": run.label, "category": run.category, "seed": run.seed, "error": ""}
            rows.append(identity | result | {"threads": run.threads, "image_size": run.image_size, "run": run.id})
    names = [*IDENTITY, *(column.name for column in COLUMNS), *QUARTILES, *SETTINGS]
    table: pd.DataFrame = pd.DataFrame(rows).reindex(columns=names)
    return table


def summarise(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean over categories and seeds, and standard deviation over seeds, of each model.

    The spread is that of the mean over categories: what a person would see who repeats everything with another seed.

    Returns:
        Two frames with a row per model: means, and spreads (NaN with fewer than two seeds).
    """
    names = [column.name for column in COLUMNS] + QUARTILES
    numbers: pd.DataFrame = rows[rows["status"] == "ok"].astype(dict.fromkeys(names, float))
    by_seed = numbers.groupby(["model", "seed"], sort=False)[names].mean()
    by_model = by_seed.groupby("model", sort=False)
    means: pd.DataFrame = by_model.mean()
    return means, by_model.std()


def complete_models(rows: pd.DataFrame, planned: Sequence[Run]) -> list[str]:
    """Models all of whose runs are fine; only these can be compared by their means."""
    fine = rows[rows["status"] == "ok"].groupby("model").size()
    wanted = pd.Series([run.label for run in planned]).value_counts()
    return [model for model in wanted.index if fine.get(model, 0) == wanted[model]]


def best(means: pd.DataFrame, column: Column, candidates: Sequence[str]) -> set[str]:
    """Models with the best mean as the table shows it; equal ones share the mark.

    >>> means = pd.DataFrame({"torch_ms": [4.04, 4.0, 9.0]}, index=["a", "b", "c"])
    >>> sorted(best(means, Column("torch_ms", "torch, ms"), ["a", "b", "c"]))
    ['a', 'b']
    """
    values = means.loc[[model for model in means.index if model in candidates], column.name].dropna()
    if len(values) < 2:  # noqa: PLR2004  # one is not the best of anything
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
    """The latency by which models are compared: OpenVINO FP32 where all of them have it, else torch."""
    exported = LATENCIES[1]
    return exported if len(means) and means[exported.name].notna().all() else LATENCIES[0]


def accuracy_column(means: pd.DataFrame) -> Column:
    """The accuracy by which models are compared: AUPRO where there are masks, else image AUROC."""
    return METRICS[4] if len(means) and means["pixel_AUPRO"].notna().all() else METRICS[0]

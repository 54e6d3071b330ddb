# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Accuracy over the length of a training, for tables.py and curves_picture.py."""

from pathlib import Path

import pandas as pd
from performance_tables import DOCS, METRICS

TRAINING = ["category", "steps", "seed"]
REFERENCE = "ReverseDistillation"


def curves(csv: Path = DOCS / "results" / "curves.csv") -> pd.DataFrame:
    """Points of the trainings, with metrics in percent and the time until then.

    Time is the number of steps times that of a step, as a share of ReverseDistillation's whole training. The time of a
    step comes from ``training.csv``, where the models took turns. Variants are left out.
    """
    rows = pd.read_csv(csv)
    rows = rows[~rows["model"].str.contains(" ")]
    rows[[*METRICS]] *= 100
    training = pd.read_csv(DOCS / "results" / "training.csv")
    speed = training[training["precision"] == "bf16-mixed"].set_index("model")["images_per_s_ratio"]
    return rows.assign(time=rows["step"] / rows["model"].map(speed) / rows["steps"])


def lengths(steps: int = 5000) -> str:
    """Accuracy at points of the long trainings, a row per set, model and point."""
    rows = curves()
    rows = rows[(rows["steps"] == steps) & rows["step"].isin([400, 1000, 2500, steps])]
    table = rows.sort_values(["category", "model", "step"])[["category", "model", "step", *METRICS]]
    table[[*METRICS]] = table[[*METRICS]].map("{:.1f}".format)
    table = table.rename(columns=METRICS | {"category": "set"})
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=["left", "left", *["right"] * 4]))


def reached() -> str:
    """When each finished training holds ReverseDistillation's last value, a column per metric."""
    rows = []
    for (category, steps, seed), group in curves().groupby(TRAINING):
        finished = group[group.groupby("model")["step"].transform("max") == steps]
        if (reference := finished[finished["model"] == REFERENCE]).empty:
            continue
        goal = reference.loc[reference["step"].idxmax(), [*METRICS]]
        for model, points in finished.groupby("model"):
            row = {"set": category, "steps": steps, "seed": seed, "model": model}
            rows.append(row | {METRICS[name]: held_from(points, name, goal[name]) for name in METRICS})
    table = pd.DataFrame(rows)
    return str(
        table.to_markdown(
            index=False, disable_numparse=True, colalign=["left", "right", "right", "left", *["right"] * 3]
        )
    )


def held_from(points: pd.DataFrame, metric: str, goal: float) -> str:
    """Time of the first point from which on a metric is never below a goal."""
    points = points.sort_values("step", ascending=False)
    held = points["time"][(points[metric] >= goal).cummin()]
    return "-" if held.empty else f"{held.min():.2f}"

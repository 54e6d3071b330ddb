# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Accuracy over the length of a training, for tables.py and curves_picture.py."""

import pandas as pd
from performance_tables import METRICS, plain, read, training_speed

TRAINING = ["category", "length", "seed"]
REFERENCE = "ReverseDistillation"
LONG = 5000
"""Steps of ReverseDistillation in the long trainings, which have other lengths in other models: 200 epochs of DSKD."""


def curves() -> pd.DataFrame:
    """Points of the trainings, with metrics in percent and the time until then.

    Time is the number of steps times that of a step, as a share of ReverseDistillation's whole training. The time of a
    step comes from ``training.csv``, where the models took turns. Variants are left out. ``length`` is that of
    ReverseDistillation.
    """
    rows = read("curves")
    rows = rows[~rows["model"].str.contains(" ")]
    rows[[*METRICS]] *= 100
    length = rows["steps"].where(rows["steps"] < LONG / 2, LONG)
    return rows.assign(length=length, time=rows["step"] / rows["model"].map(training_speed()) / length)


def lengths() -> str:
    """Accuracy at points of the long trainings, a row per set, model and point."""
    rows = curves()
    rows = rows[(rows["length"] == LONG) & (rows["step"].isin([400, 1000, 2500]) | (rows["step"] == rows["steps"]))]
    table = rows.sort_values(["category", "model", "step"])[["category", "model", "step", *METRICS]]
    table[[*METRICS]] = table[[*METRICS]].map("{:.1f}".format)
    return plain(table.rename(columns=METRICS | {"category": "set"}), left=2)


def reached() -> str:
    """When each finished training holds ReverseDistillation's last value, a column per metric."""
    rows = []
    for (category, _, seed), group in curves().groupby(TRAINING):
        finished = group[group.groupby("model")["step"].transform("max") == group["steps"]]
        if (reference := finished[finished["model"] == REFERENCE]).empty:
            continue
        goal = reference.loc[reference["step"].idxmax(), [*METRICS]]
        for model, points in finished.groupby("model"):
            row = {"set": category, "model": model, "steps": points["steps"].max(), "seed": seed}
            rows.append(row | {METRICS[name]: held_from(points, name, goal[name]) for name in METRICS})
    return plain(pd.DataFrame(rows), left=2)


def held_from(points: pd.DataFrame, metric: str, goal: float) -> str:
    """Time of the first point from which on a metric is never below a goal."""
    points = points.sort_values("step", ascending=False)
    held = points["time"][(points[metric] >= goal).cummin()]
    return "-" if held.empty else f"{held.min():.2f}"

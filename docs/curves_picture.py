# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Draw docs/curves.png from docs/results/curves.csv: accuracy over the time of a training.

python docs/curves_picture.py
"""

from pathlib import Path

import pandas as pd
from curve_tables import REFERENCE, TRAINING, curves
from matplotlib import pyplot as plt
from tables import DOCS, METRICS, MODELS, OURS

SHOWN = ("image_AUROC", "pixel_AUPRO")
BELOW = 15
"""Percent below the median that are drawn; what lies lower is the very start of a training."""


def draw(rows: pd.DataFrame, path: Path) -> None:
    """A row of panels for each set and length, a panel for each metric."""
    groups = list(rows.groupby(TRAINING))
    figure, panels = plt.subplots(len(groups), 2, figsize=(10, 3.5 * len(groups)), layout="constrained", squeeze=False)
    for row, ((category, length, _), group) in zip(panels, groups, strict=True):
        for axes, metric in zip(row, SHOWN, strict=True):
            for model, points in group.sort_values("step").groupby("model"):
                colour, line = f"C{MODELS.index(str(model))}", "-o" if model in OURS else "--"
                axes.plot(points["time"], points[metric], line, color=colour, label=model, ms=3)
            last = group.loc[(group["step"] == length) & (group["model"] == REFERENCE), metric]
            if not last.empty:
                axes.axhline(last.mean(), color="gray", lw=0.8)
            axes.set_ylim(bottom=max(axes.get_ylim()[0], group[metric].median() - BELOW))
            axes.set_title(f"{category}, {length} steps")
            axes.set_xlabel(f"time, {REFERENCE}'s whole training = 1")
            axes.set_ylabel(f"{METRICS[metric]} (%)")
            axes.grid(alpha=0.3)
            axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(curves(), DOCS / "curves.png")

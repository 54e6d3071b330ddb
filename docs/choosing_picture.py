# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Draw docs/choosing.png from the CSV files in docs/results: accuracy against time of one image and of a training.

python docs/choosing_picture.py
"""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from tables import DOCS, METRICS, OURS, choosing

UNTRAINED_SIZE, SIZE = 30, 120
"""Areas in points squared: of a model that is not trained, and of ReverseDistillation's training."""


def draw(table: pd.DataFrame, path: Path) -> None:
    """Two panels, one for detection and one for localisation."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, metric in zip(panels, ("image_AUROC", "pixel_AUPRO"), strict=True):
        colours = ["tab:blue" if name in OURS else "tab:gray" for name in table.index]
        areas = (SIZE * table["training"]).fillna(UNTRAINED_SIZE)
        axes.scatter(table["latency"], table[metric], s=areas, c=colours, alpha=0.7)
        for name, row in table.iterrows():
            is_fast = row["latency"] < 2  # noqa: PLR2004  # to the left, where no other point is
            text = {"xytext": (-12 if is_fast else 15, -4), "ha": "right" if is_fast else "left"}
            axes.annotate(str(name), (row["latency"], row[metric]), textcoords="offset points", **text)
        axes.set_xscale("log")
        axes.set_xticks([2, 3, 5, 10], ["2", "3", "5", "10"])
        axes.minorticks_off()
        axes.margins(x=0.45, y=0.2)
        axes.grid(alpha=0.3)
        axes.set_xlabel("time of one image on a CPU, teacher alone = 1")
        axes.set_ylabel(f"mean {METRICS[metric]} (%)")
    figure.suptitle(f"Mean over {', '.join(table.attrs['sets'])}. Area of a point: time of a training step.")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(choosing(), DOCS / "choosing.png")

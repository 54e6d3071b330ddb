"""Pictures of the results: ``accuracy.png``, ``pareto.png`` and ``maps.png``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot, which would open windows or change the figures of a notebook
from matplotlib.ticker import LogLocator, NullFormatter

from .launcher import folder_of
from .plan import Run
from .table import LATENCIES, METRICS, compared, pareto

MAX_ROWS = 12
THRESHOLD = 0.5  # normalised scores above it are anomalous


def plot_accuracy(means: pd.DataFrame, spreads: pd.DataFrame, path: Path) -> None:
    """Draw bars per metric, with the standard deviation over seeds if there are several."""
    names = [name for name in METRICS if means[name].notna().any()]
    size = (1.2 + 2.6 * len(names), 1.0 + 0.42 * len(means))
    figure = Figure(size)
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        bars = axis.barh(means.index, means[name], xerr=spreads[name].fillna(0))
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
        low = max(0, 10 * np.floor((means[name].min() - 5) / 10))
        axis.set(xlim=(low, 100 + 0.22 * (100 - low)), xticks=[low, (low + 100) / 2, 100])
        axis.set_title(METRICS[name], fontsize=10)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("percent; axes start at different values", fontsize=8)
    _save(figure, path)


def plot_pareto(means: pd.DataFrame, path: Path) -> None:
    """Draw accuracy against latency with a line along the Pareto front."""
    accuracy, latency = compared(means)
    names = list(dict.fromkeys(("image_AUROC", accuracy)))
    figure = Figure((5.6 * len(names), 4.4))
    axes = figure.subplots(1, len(names), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        points = means[[latency, name, "checkpoint_mb"]].dropna()
        front = points.loc[pareto(means, name, latency)]
        axis.plot(front[latency], front[name], color="0.7")
        axis.scatter(points[latency], points[name], s=90, zorder=2)
        for model, *place, size in points.itertuples():
            axis.annotate(f"   {model}, {size:.0f} MB", place, va="center", fontsize=8)
        axis.margins(0.3)
        axis.set_title(f"{METRICS[name]}, %", fontsize=10)
        axis.grid(color="0.93")
        if len(points):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
    figure.supxlabel(f"latency of one image, {LATENCIES[latency]} (log scale; left is faster)", fontsize=9)
    _save(figure, path)


def plot_maps(runs: Sequence[Run], out: Path, path: Path) -> None:
    """Draw image, mask and the map of each model for some test images.

    Normalised maps go from 0 (blue) to 1 (red). A white line encloses the pixels that the model marks as anomalous.
    """
    files = {(run.category, run.label): folder_of(run, out) / "maps.npz" for run in runs if run.seed == runs[0].seed}
    maps = {key: np.load(file) for key, file in files.items() if file.exists()}
    if not maps:
        return
    models = list(dict.fromkeys(model for _, model in maps))
    images = {category: found for (category, _), found in maps.items()}  # the same from any model
    count = max(1, MAX_ROWS // len(images))
    rows = [(category, index) for category in images for index in range(len(images[category]["image"]))[:count]]
    size = (1.55 * (len(models) + 2), 1.62 * len(rows) + 0.5)
    no_ticks: dict[str, Any] = {"xticks": [], "yticks": []}
    figure = Figure(size)
    axes = figure.subplots(len(rows), len(models) + 2, squeeze=False, subplot_kw=no_ticks)
    for line, (category, index) in zip(axes, rows, strict=True):
        _draw_image(line, category, {name: images[category][name][index] for name in images[category]})
        for axis, model in zip(line[2:], models, strict=True):
            if "map" in maps.get((category, model), ()):
                _draw_map(axis, maps[category, model]["map"][index], maps[category, model]["score"][index])
    for axis, title in zip(axes[0], ("image", "mask", *models), strict=True):
        axis.set_title(title, fontsize=9)
    _save(figure, path)


def _draw_image(line: Sequence[Axes], category: str, example: Mapping[str, Any]) -> None:
    file = Path(str(example["path"]))
    line[0].imshow(example["image"])
    line[0].set_ylabel(f"{category}\n{file.parent.name}/{file.stem}", fontsize=8)
    if "mask" in example:
        line[1].imshow(example["mask"], cmap="gray", vmin=0, vmax=1)


def _draw_map(axis: Axes, values: Any, score: float) -> None:  # noqa: ANN401
    axis.imshow(values, cmap="turbo", vmin=0, vmax=1)
    if values.min() < THRESHOLD < values.max():
        axis.contour(values, [THRESHOLD], colors="white", linewidths=0.8)
    axis.set_xlabel(f"score {score:.2f}", fontsize=7, labelpad=2)


def _save(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)

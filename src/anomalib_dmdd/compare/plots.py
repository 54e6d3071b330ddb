"""Pictures of the results: ``accuracy.png``, ``pareto.png`` and ``maps.png``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from .launcher import folder_of
from .plan import Run
from .table import METRICS, Column, accuracy_column, latency_column, pareto

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

MAX_ROWS = 12
THRESHOLD = 0.5  # normalised scores above it are anomalous


def plot_accuracy(means: pd.DataFrame, spreads: pd.DataFrame, path: Path) -> None:
    """Draw bars per metric, with the standard deviation over seeds if there are several."""
    columns = [column for column in METRICS if means[column.name].notna().any()]
    size = (1.2 + 2.6 * len(columns), 1.0 + 0.42 * len(means))
    figure, axes = plt.subplots(1, len(columns), figsize=size, sharey=True, squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        values = column.scale * means[column.name]
        errors = column.scale * spreads[column.name].fillna(0)
        bars = axis.barh(means.index, values, xerr=errors if errors.any() else None, color=_colours(len(means)))
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
        low = max(0, 10 * np.floor((np.nanmin(values) - 5) / 10))
        axis.set_xlim(low, 100 + 0.22 * (100 - low))
        axis.set_xticks([low, (low + 100) / 2, 100])
        axis.set_title(column.title, fontsize=10)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("per cent; axes start at different values", fontsize=8)
    _save(figure, path)


def plot_pareto(means: pd.DataFrame, path: Path) -> None:
    """Draw accuracy against latency with a line along the Pareto front."""
    latency = latency_column(means)
    columns = list(dict.fromkeys((METRICS[0], accuracy_column(means))))
    figure, axes = plt.subplots(1, len(columns), figsize=(5.6 * len(columns), 4.4), squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        _draw_pareto(axis, means, column, latency)
    figure.supxlabel(f"latency of one image, {latency.title} (log scale; left is faster)", fontsize=9)
    _save(figure, path)


def _draw_pareto(axis: Axes, means: pd.DataFrame, column: Column, latency: Column) -> None:
    if means[latency.name].isna().all():
        return
    x, y = means[latency.name], column.scale * means[column.name]
    front = pareto(means, column.name, latency.name)
    axis.plot(x[front], y[front], color="0.7", zorder=1)
    axis.scatter(x, y, s=90, c=_colours(len(means)), zorder=2)
    for model in x.dropna().index:
        text = f"{model}, {means['checkpoint_mb'][model]:.0f} MB"
        axis.annotate(text, (x[model], y[model]), (8, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(0.3)
    axis.set_title(f"{column.title}, %", fontsize=10)
    axis.grid(visible=True, which="both", color="0.93")


def plot_maps(runs: Sequence[Run], out: Path, path: Path) -> None:
    """Draw image, mask and the map of each model for some test images.

    Normalised maps go from 0 (blue) to 1 (red). A white line encloses the pixels that the model marks as anomalous.
    """
    maps: dict[str, dict[str, Any]] = {}
    for run in runs:
        file = folder_of(run, out) / "maps.npz"
        if run.seed == runs[0].seed and file.exists():
            maps.setdefault(run.category, {})[run.label] = np.load(file)
    if not maps:
        return
    models = list(dict.fromkeys(run.label for run in runs if any(run.label in found for found in maps.values())))
    count = max(1, MAX_ROWS // len(maps))
    rows = [
        (category, index)
        for category, found in maps.items()
        for index in range(min(count, len(next(iter(found.values()))["image"])))
    ]
    size = (1.55 * (len(models) + 2), 1.62 * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), len(models) + 2, figsize=size, squeeze=False)
    for line, (category, index) in zip(axes, rows, strict=True):
        _draw_row(line, category, index, models, maps[category])
    for axis, title in zip(axes[0], ("image", "mask", *models), strict=True):
        axis.set_title(title, fontsize=9)
    _save(figure, path)


def _draw_row(line: Sequence[Axes], category: str, index: int, models: Sequence[str], found: dict[str, Any]) -> None:
    for axis in line:
        axis.set(xticks=[], yticks=[])
    any_model = next(iter(found.values()))
    image = Path(str(any_model["path"][index]))
    line[0].imshow(any_model["image"][index])
    line[0].set_ylabel(f"{category}\n{image.parent.name}/{image.stem}", fontsize=8)
    if "mask" in any_model:
        line[1].imshow(any_model["mask"][index], cmap="gray", vmin=0, vmax=1)
    for axis, model in zip(line[2:], models, strict=True):
        if model in found and "map" in found[model]:
            values = found[model]["map"][index]
            axis.imshow(values, cmap="turbo", vmin=0, vmax=1)
            if values.min() < THRESHOLD < values.max():
                axis.contour(values, [THRESHOLD], colors="white", linewidths=0.8)
            axis.set_xlabel(f"score {float(found[model]['score'][index]):.2f}", fontsize=7, labelpad=2)


def _colours(models: int) -> list[Any]:
    """One colour per model, the same in all pictures."""
    palette = plt.get_cmap("tab10" if models <= 10 else "tab20")  # noqa: PLR2004  # the size of the palette
    return [palette(index % palette.N) for index in range(models)]


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)

"""``accuracy.png``, ``pareto.png`` and ``maps.png``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from .plan import Run
from .launcher import folder_of
from .table import METRICS, Column, accuracy_column, latency_column, pareto

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

MAX_ROWS = 12
THRESHOLD = 0.5  # where Anomalib's normalisation puts it


def colours(models: Sequence[str]) -> dict[str, Any]:
    """One colour per model, the same in all pictures."""
    palette = plt.get_cmap("tab10" if len(models) <= 10 else "tab20")  # noqa: PLR2004  # the size of the palette
    return {model: palette(index % palette.N) for index, model in enumerate(models)}


def plot_accuracy(means: pd.DataFrame, spreads: pd.DataFrame, path: Path) -> None:
    """Draw bars per metric, with the standard deviation over seeds where there is one."""
    columns = [column for column in METRICS if means[column.name].notna().any()]
    models = list(means.index)
    colour = colours(models)
    figure, axes = plt.subplots(
        1, len(columns), figsize=(1.2 + 2.6 * len(columns), 1.0 + 0.42 * len(models)), sharey=True, squeeze=False
    )
    for axis, column in zip(axes[0], columns, strict=True):
        values = column.scale * means[column.name]
        errors = column.scale * spreads[column.name].fillna(0)
        axis.barh(models, values, xerr=errors if errors.any() else None, color=[colour[model] for model in models])
        low = max(0, 10 * np.floor((np.nanmin(values) - 5) / 10))
        axis.set_xlim(low, 100 + 0.22 * (100 - low))
        axis.set_xticks([low, (low + 100) / 2, 100])
        for index, (value, error) in enumerate(zip(values, errors, strict=True)):
            if not np.isnan(value):
                axis.text(value + error, index, f" {value:.1f}", va="center", fontsize=9)
        axis.set_title(column.title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("per cent; note where each axis starts", fontsize=8)
    _save(figure, path)


def plot_pareto(means: pd.DataFrame, path: Path) -> None:
    """Draw accuracy against latency, dots as large as the checkpoint; the line joins models that no other one beats."""
    latency = latency_column(means)
    columns = list(dict.fromkeys((METRICS[0], accuracy_column(means))))
    figure, axes = plt.subplots(1, len(columns), figsize=(5.6 * len(columns), 4.4), squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        _draw_pareto(axis, means, column, latency)
    figure.supxlabel(f"latency of one image, {latency.title} (log scale; left is faster)", fontsize=9)
    _save(figure, path)


def _draw_pareto(axis: Axes, means: pd.DataFrame, column: Column, latency: Column) -> None:
    known = means.dropna(subset=[column.name, latency.name])
    if known.empty:
        return
    x, y = known[latency.name], column.scale * known[column.name]
    area = 40 + 760 * known["checkpoint_mb"] / known["checkpoint_mb"].max()
    colour = colours(list(means.index))
    front = pareto(known, column.name, latency.name)
    axis.plot(x[front], y[front], color="0.7", linewidth=1.5, zorder=1)
    axis.scatter(x, y, s=area, c=[colour[model] for model in known.index], alpha=0.75, edgecolors="white", zorder=2)
    for index, model in enumerate(x.sort_values().index):
        side = 1 if index % 2 else -1  # labels of neighbours go to different sides
        axis.annotate(
            f"{model}\n{known.loc[model, 'checkpoint_mb']:.0f} MB",
            (x[model], y[model]),
            xytext=(0, side * (np.sqrt(area[model] / np.pi) + 3)),
            textcoords="offset points",
            ha="center",
            va="bottom" if side > 0 else "top",
            fontsize=8,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    low, high = y.min(), y.max()
    room = max(high - low, 2)
    axis.set_ylim(low - 0.45 * room, high + 0.45 * room)
    axis.set_yticks([tick for tick in axis.get_yticks() if max(0, low - 0.45 * room) <= tick <= 100])  # noqa: PLR2004
    axis.margins(x=0.25)
    axis.set_title(f"{column.title}, %", fontsize=10)
    axis.grid(visible=True, which="both", color="0.93")
    axis.spines[["top", "right"]].set_visible(False)


def plot_maps(runs: Sequence[Run], out: Path, path: Path) -> None:
    """Draw the same test images for all models: image, mask, each model's map.

    Maps go from 0 (blue) to 1 (red) after normalisation; a white line encloses what the model marks as anomalous.
    """
    seed = runs[0].seed
    maps: dict[str, dict[str, Any]] = {}
    for run in runs:
        file = folder_of(run, out) / "maps.npz"
        if run.seed == seed and file.exists():
            maps.setdefault(run.category, {})[run.label] = np.load(file)
    if not maps:
        return
    models = [
        label for label in dict.fromkeys(run.label for run in runs) if any(label in found for found in maps.values())
    ]
    per_category = max(1, MAX_ROWS // len(maps))
    rows = [
        (category, index)
        for category, found in maps.items()
        for index in range(min(per_category, len(next(iter(found.values()))["image"])))
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
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
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
        else:
            axis.text(0.5, 0.5, "no map", ha="center", va="center", fontsize=8, color="0.5")


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)

"""Figures of an explanation and of the scores of several folders."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from anomalib.data.utils import read_image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .explain import Explanation

CELL = 2.7
"""Width and height of a panel in inches."""


def draw_explanation(explanation: "Explanation", threshold: float, highest: Mapping[tuple[str, str], float]) -> Figure:
    """Draw image, anomaly map and all distance maps.

    Args:
        explanation: What is drawn.
        threshold: Normalised threshold of images.
        highest: Upper end of the colour scale of each branch and layer, so that images can be compared.
    """
    branches = list(dict.fromkeys(branch for branch, _ in highest))
    layers = list(dict.fromkeys(layer for _, layer in highest))
    rows, columns = 1 + len(branches), max(3, len(layers))
    figure = Figure((CELL * columns + 0.4, CELL * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    name = "/".join(explanation.path.parts[-2:])
    colour = "firebrick" if explanation.is_defective else "darkgreen"
    title = f"{name}\n{explanation.verdict}: score {explanation.score:.3f}, threshold {threshold:.3f}"
    figure.suptitle(title, fontsize=11, color=colour, parse_math=False)  # a file name may hold dollar signs
    _draw_result(grid[0], explanation)
    for line, branch in zip(grid[1:], branches, strict=True):
        line[0].set_ylabel(branch, fontsize=10)
        for axis, layer in zip(line, layers, strict=False):
            values = explanation.distances[branch, layer]
            drawn = axis.imshow(values, cmap="inferno", vmin=0, vmax=highest[branch, layer])
            _add_scale(axis, drawn)
            axis.set_title(f"{layer}, highest {values.max():.2g}", fontsize=9)
    for axis in grid.flat:
        if not axis.images:
            axis.set_axis_off()
    return figure


def _draw_result(line: NDArray[Any], explanation: "Explanation") -> None:
    """Draw image, anomaly map, and the outline of the marked pixels."""
    pixels = read_image(explanation.path)  # (H, W, 3)
    height, width = pixels.shape[:2]
    frame = (0, width, height, 0)
    line[0].imshow(pixels, extent=frame)
    line[0].set_title("image", fontsize=9)
    values = explanation.anomaly_map
    drawn = line[1].imshow(values, cmap="turbo", vmin=0, vmax=max(1, values.max()), extent=frame)
    _add_scale(line[1], drawn)
    line[1].set_title(f"anomaly map, highest {values.max():.2g}", fontsize=9)
    line[2].imshow(pixels, extent=frame)
    line[2].set_title("marked by the model", fontsize=9)
    mask = explanation.mask
    if mask.any() and not mask.all():
        x, y = (
            (np.arange(count) + 0.5) * side / count
            for count, side in zip(mask.shape[::-1], (width, height), strict=True)
        )
        line[2].contour(x, y, mask, [0.5], colors="red", linewidths=1.2)


def _add_scale(axis: Axes, drawn: AxesImage) -> None:
    """Add a colour bar inside the panel's own space, so that all panels stay aligned."""
    bar = axis.figure.colorbar(drawn, cax=axis.inset_axes((0, -0.09, 1, 0.04)), orientation="horizontal")
    bar.ax.tick_params(labelsize=7)


def draw_histogram(scores: Mapping[str, NDArray[np.float64]], threshold: float) -> Figure:
    """Draw the scores of several folders and the threshold.

    Args:
        scores: Scores ``(N,)`` of each folder, from 0 to 1 unless they are raw.
        threshold: Threshold of images, in the unit of the scores.
    """
    has_threshold = np.isfinite(threshold)  # raw scores may have none
    top = max(1.0, threshold if has_threshold else 0.0, *(values.max() for values in scores.values()))
    figure = Figure((7, 3.6), layout="constrained")
    axis = figure.subplots()
    labels = [f"{name}: {(values > threshold).sum()} of {len(values)} above" for name, values in scores.items()]
    axis.hist(list(scores.values()), bins=40, range=(0, top), stacked=True, label=labels)
    if has_threshold:
        axis.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3f}")
    axis.set(xlim=(0, top), xlabel="score", ylabel="images")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend = axis.legend(fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomalib_dmdd.compare import plots
from anomalib_dmdd.compare.launcher import folder_of
from anomalib_dmdd.compare.plan import Run
from anomalib_dmdd.compare.table import COLUMNS

MakeRun = Callable[..., Run]


def means(models: int, *, masks: bool) -> pd.DataFrame:
    index = [f"Model{number}" for number in range(models)]
    values = pd.DataFrame(50.0, index=index, columns=COLUMNS)
    values["torch_ms"] = np.arange(1.0, models + 1)
    if not masks:
        values[["pixel_AUROC", "pixel_AUPR", "pixel_AUPRO"]] = np.nan
    return values


def test_pictures_with_and_without_masks(tmp_path: Path) -> None:
    for masks in (True, False):
        plots.plot_accuracy(means(3, masks=masks), 0 * means(3, masks=masks), tmp_path / f"accuracy{masks}.png")
        plots.plot_pareto(means(3, masks=masks), tmp_path / f"pareto{masks}.png")
    for name in ("accuracy", "pareto"):
        wide, narrow = (Image.open(tmp_path / f"{name}{masks}.png").width for masks in (True, False))
        assert wide > narrow, "there are fewer panels without masks"


def test_one_model_without_any_latency(tmp_path: Path) -> None:
    only = means(1, masks=True)
    only[["torch_ms", "openvino_fp32_ms"]] = np.nan
    plots.plot_pareto(only, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").exists()


def test_maps_have_a_row_per_image_and_a_column_per_model(make_run: MakeRun, tmp_path: Path) -> None:
    sizes = []
    for models in (1, 3):
        runs = [make_run(f"Model{number}") for number in range(models)]
        for run in runs:
            folder_of(run, tmp_path).mkdir(parents=True, exist_ok=True)
            np.savez(
                folder_of(run, tmp_path) / "maps.npz",
                image=np.zeros((2, 8, 8, 3), "uint8"),
                path=["chip/000.png", "good/000.png"],
                score=np.array([0.7, 0.2]),
                mask=np.zeros((2, 8, 8), bool),
                map=np.linspace(0, 1, 128).reshape(2, 8, 8),
            )
        runs.append(make_run("Failed"))
        plots.plot_maps(runs, tmp_path, tmp_path / "maps.png")
        sizes.append(Image.open(tmp_path / "maps.png").size)
    assert sizes[1][0] - sizes[0][0] == pytest.approx(2 * 1.55 * 150, abs=2), (
        "two more columns; none for a model without maps"
    )
    assert sizes[0][1] == sizes[1][1]

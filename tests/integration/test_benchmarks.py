"""The scripts of the benchmarks folder that need no network and little time, as a person runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from anomalib.engine import Engine
from pictures import read_picture
from PIL import Image
from small_models import build

from anomalib_dmdd import DemoParts

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_picture_of_a_trained_model(
    parts: DemoParts, demo_root: Path, engine: Callable[..., Engine], tmp_path: Path
) -> None:
    training = engine(max_steps=2)
    training.fit(build("Dmdd"), datamodule=parts)
    checkpoint = training.best_model_path

    picture = run("cases.py", "Dmdd", checkpoint, demo_root, "flange", folder=tmp_path)
    missing = run("cases.py", "Dmdd", checkpoint, tmp_path, "screw", folder=tmp_path)

    assert picture.returncode == 0, picture.stderr
    assert picture.stdout.count("score") == 16
    drawn = Image.open(tmp_path / "cases.png").convert("L")
    assert drawn.width > 16 * 64
    labels = (drawn.crop((0, 0, 170, drawn.height)), drawn.crop((170, 0, drawn.width, 32)))
    assert all(label.getextrema() == (0, 255) for label in labels), "black text beside rows and above columns"
    assert missing.returncode == 2
    assert f"There is no folder {tmp_path / 'screw'}." in missing.stderr


def test_a_selection_set_holds_out_images_and_changes_them_within_their_masks(demo_root: Path, tmp_path: Path) -> None:
    made = run("selection_set.py", demo_root, "flange", "selection", "--anomalies", "2", folder=tmp_path)
    again = run("selection_set.py", demo_root, "flange", "selection", folder=tmp_path)
    nothing = run("selection_set.py", demo_root, "flnge", "selection", folder=tmp_path)

    assert made.returncode == 0, made.stderr
    new, source = tmp_path / "selection/flange", demo_root / "flange/train/good"
    trained, good, simulated = (
        sorted((new / split).iterdir()) for split in ("train/good", "test/good", "test/simulated")
    )
    assert sorted(path.name for path in trained + good) == sorted(path.name for path in source.iterdir())
    assert all(path.read_bytes() == (source / path.name).read_bytes() for path in trained + good)
    assert len(simulated) == 2 * len(good)
    assert len(good) == pytest.approx(len(trained + good) / 5, abs=1)
    for path in simulated:
        held_out = new / "test/good" / f"{path.stem.rsplit('_', 1)[0]}.png"
        image, original = (read_picture(file) for file in (path, held_out))
        mask = read_picture(new / "ground_truth/simulated" / f"{path.stem}_mask.png", "L") > 0
        change = (image.int() - original.int()).abs().amax(0, keepdim=True)
        assert change[~mask].max() <= 1, "rounding alone outside of the mask"
        assert change[mask].float().mean() > 10
    assert (again.returncode, nothing.returncode) == (2, 2)
    assert "selection/flange exists; remove it or choose another folder" in again.stderr
    assert f"There is no folder {demo_root / 'flnge/train/good'}." in nothing.stderr

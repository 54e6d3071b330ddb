"""The scripts of the benchmarks folder that need no network and little time, as a person runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from anomalib.engine import Engine
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

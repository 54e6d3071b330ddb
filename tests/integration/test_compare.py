"""The compare command as a person meets it: interrupted, started again, with a failing model, and again for nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from anomalib_dmdd import Dmdd

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

BENCHMARK = Path(__file__).parents[2] / "configs" / "compare" / "anomalib_benchmark.yaml"
PADIM = {"class_path": "Padim", "init_args": {"pre_trained": False}}
BROKEN = {"class_path": "Patchcore", "label": "Broken", "init_args": {"pre_trained": False, "layers": ["layer9"]}}
DMDD = {"class_path": "anomalib_dmdd.Dmdd", "init_args": {"pre_trained": False, "backbone": "test_resnet"}}
PATIENCE = 600


def start(models: list[dict[str, Any]], demo_root: Path, out: Path) -> subprocess.Popen[str]:
    """Start the command on small images for two steps."""
    settings = {
        "models": models,
        "data": {"class_path": "DemoParts", "init_args": {"root": str(demo_root), "train_batch_size": 4}},
        "trainer": {"max_steps": 2},
        "image_size": 64,
        "accelerator": "cpu",
        "threads": 1,  # many are slower than one where others work, too
        "timed_passes": 5,
        "out": str(out),
    }
    config = out.parent / "compare.yaml"
    config.write_text(yaml.safe_dump(settings))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores Ctrl-C
    return subprocess.Popen(
        [sys.executable, "-m", "anomalib_dmdd", "compare", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def processes_of(out: Path) -> list[str]:
    """Command lines of the running processes that work on this comparison."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)  # noqa: S607
    return [line for line in done.stdout.splitlines() if str(out) in line]


@pytest.fixture(scope="module")
def interrupted(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str, pd.DataFrame]:
    """A comparison that was interrupted while its third run was at work."""
    out = tmp_path_factory.mktemp("compare") / "out"
    process = start([PADIM, BROKEN, DMDD], demo_root, out)
    deadline = time.monotonic() + PATIENCE
    while not list(out.glob("runs/Dmdd-*/stage")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    return out, code, output, pd.read_csv(out / "results.csv")


@pytest.fixture(scope="module")
def resumed(interrupted: tuple[Path, int, str, pd.DataFrame], demo_root: Path) -> tuple[Path, int, str, pd.DataFrame]:
    """The same command again."""
    out = interrupted[0]
    os.utime(next(out.glob("runs/Padim-*/result.json")), (1, 1))
    code, output = finish(start([PADIM, BROKEN, DMDD], demo_root, out))
    return out, code, output, pd.read_csv(out / "results.csv").set_index("model")


def test_interrupt_keeps_what_is_finished(interrupted: tuple[Path, int, str, pd.DataFrame]) -> None:
    out, code, output, rows = interrupted
    assert code == 130, output
    assert "Run the same command again to continue" in output
    assert rows[["model", "status"]].to_numpy().tolist() == [["Padim", "ok"], ["Broken", "failed"]]
    assert processes_of(out) == []
    assert not list(out.glob("runs/Dmdd-*/result.json"))


def test_second_start_does_the_rest(resumed: tuple[Path, int, str, pd.DataFrame]) -> None:
    out, code, output, rows = resumed
    assert code == 1, "a model failed"
    assert "1 done in an earlier start" in output
    assert next(out.glob("runs/Padim-*/result.json")).stat().st_mtime == 1, "what was done is not done again"
    assert rows["status"].to_dict() == {"Padim": "ok", "Broken": "failed", "Dmdd": "ok"}
    assert "layer9" in rows.loc["Broken", "error"]
    assert "Broken, flange, seed 0: FAILED" in output
    assert "layer9" in next(out.glob("runs/Patchcore-*/log.txt")).read_text()


def test_every_column_is_measured(resumed: tuple[Path, int, str, pd.DataFrame]) -> None:
    out, _, _, rows = resumed
    fine = rows.loc[["Padim", "Dmdd"]]
    metrics = fine[["image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_AUPR", "pixel_AUPRO"]]
    assert metrics.notna().all(axis=None)
    assert ((metrics >= 0) & (metrics <= 1)).all(axis=None)
    costs = fine[["train_seconds", "peak_memory_mb", "parameters_m", "checkpoint_mb", "torch_ms", "openvino_fp32_ms"]]
    assert (costs > 0).all(axis=None)
    assert fine.loc["Dmdd", "steps"] == 2
    # A float32 export computes what torch computes; on these images clipping changes little.
    assert fine["openvino_fp32_image_AUROC"].to_numpy() == pytest.approx(fine["image_AUROC"].to_numpy(), abs=0.02)
    assert fine["openvino_fp32_pixel_AUPRO"].to_numpy() == pytest.approx(fine["pixel_AUPRO"].to_numpy(), abs=0.02)
    assert rows["code"].notna().all()
    for folder in out.glob("runs/Padim-*"):
        size = (folder / "model.ckpt").stat().st_size / 1e6
        assert fine.loc["Padim", "checkpoint_mb"] == pytest.approx(size)
        # Padim's export holds the same numbers that it was said to read.
        numbers = (folder / "weights" / "openvino" / "model_fp32.bin").stat().st_size / 4e6
        assert fine.loc["Padim", "parameters_m"] == pytest.approx(numbers, rel=0.02)


def test_kept_checkpoint_is_ready_to_use(resumed: tuple[Path, int, str, pd.DataFrame]) -> None:
    (path,) = resumed[0].glob("runs/Dmdd-*/model.ckpt")
    model = Dmdd.load_from_checkpoint(path)
    assert model.input_size == (64, 64)
    assert model.post_processor.image_threshold.isfinite()


def test_folder_is_what_a_person_needs(resumed: tuple[Path, int, str, pd.DataFrame]) -> None:
    out = resumed[0]
    text = (out / "results.md").read_text()
    assert "Broken, flange, seed 0" in text
    assert "| Padim " in text
    assert "| Dmdd " in text
    assert "No best model is named" in text, "one seed is too few"
    for name in ("accuracy", "pareto", "maps"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 200
    first, versions, *_ = json.loads((out / "versions.json").read_text())
    assert first["date"] < versions["date"]
    assert versions["packages"]["anomalib"].startswith("2.7")
    assert versions["settings"]["seeds"] == [0]
    assert versions["code"] in text
    assert "compare.yaml" in versions["command"]


def test_all_models_saw_the_same_test_images(resumed: tuple[Path, int, str, pd.DataFrame]) -> None:
    padim, dmdd = (np.load(next(resumed[0].glob(f"runs/{model}-*/maps.npz"))) for model in ("Padim", "Dmdd"))
    assert [Path(path).parent.name for path in padim["path"]] == ["chip", "scratch", "stain", "good"]
    for name in ("path", "image", "mask"):
        np.testing.assert_array_equal(padim[name], dmdd[name])
    assert padim["mask"][:3].any(axis=(1, 2)).all()
    assert not padim["mask"][3].any()
    assert padim["map"].shape == dmdd["map"].shape == (4, 64, 64)
    assert not np.array_equal(padim["map"], dmdd["map"])


def test_nothing_is_run_when_all_is_done(resumed: tuple[Path, int, str, pd.DataFrame], demo_root: Path) -> None:
    out = resumed[0]
    before = {path: path.stat().st_mtime for path in out.glob("runs/*/*")}
    code, output = finish(start([PADIM, DMDD], demo_root, out))
    assert code == 0, output
    assert before == {path: path.stat().st_mtime for path in out.glob("runs/*/*")}
    assert pd.read_csv(out / "results.csv")["model"].tolist() == ["Padim", "Dmdd"]


def test_mistakes_end_before_anything_is_written(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "anomalib_dmdd",
        "compare",
        "--models",
        "Padim",
        "Patchcor",
        "--out",
        str(tmp_path / "x"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert "Did you mean Patchcore?" in done.stdout
    assert not (tmp_path / "x").exists()


def test_shipped_benchmark_file_runs_in_anomalibs_pipeline(tmp_path: Path, demo_root: Path) -> None:
    settings = yaml.safe_load(BENCHMARK.read_text())
    settings["benchmark"]["model"]["init_args"] = {"backbone": "resnet18", "pre_trained": False}
    settings["benchmark"]["data"]["init_args"] |= {
        "root": str(demo_root),
        "category": "flange",
        "train_batch_size": 2,
        "eval_batch_size": 2,
        "num_workers": 0,
    }
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(settings))
    # The pipeline takes no trainer arguments: all that differs from `anomalib benchmark` is the length of the training.
    program = """
from functools import partial
from anomalib.cli.cli import main
from anomalib.pipelines.benchmark import job

few = {"limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1}
job.Engine = partial(job.Engine, max_epochs=1, **few)
main()
"""
    command = [sys.executable, "-c", program, "benchmark", "--config", "benchmark.yaml"]
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=one, capture_output=True, text=True, check=False, timeout=PATIENCE)
    (results,) = (tmp_path / "runs" / "benchmark").glob("*/results.csv")
    rows = pd.read_csv(results)
    assert rows["model.class_path"].tolist() == ["Dmdd", "Patchcore", "ReverseDistillation"], done.stderr
    assert rows["image_AUROC"].between(0, 1).all()

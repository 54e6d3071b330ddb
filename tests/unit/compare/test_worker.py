import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from jsonargparse import Namespace
from PIL import Image

from anomalib_dmdd.compare import worker
from anomalib_dmdd.compare.plan import Run, plan

MakeSettings = Callable[..., Namespace]


def test_images_that_change_during_a_comparison_are_an_error(make_settings: MakeSettings, tmp_path: Path) -> None:
    (run,) = plan(make_settings(["Padim"]))
    Image.new("RGB", (9, 9), "red").save(tmp_path / "parts" / "bolt" / "train" / "good" / "0.png")
    (tmp_path / "run.json").write_text(json.dumps(asdict(run)))
    assert worker.main(tmp_path) == 1
    assert "images have changed" in json.loads((tmp_path / "result.json").read_text())["error"]


def test_code_that_changes_during_a_comparison_is_an_error(make_run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(asdict(make_run(code="0123456789ab"))))
    assert worker.main(tmp_path) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "failed"
    assert "The code has changed from 0123456789ab" in result["error"]


def test_a_model_that_refuses_the_image_size_is_named_with_the_reason(make_run: Callable[..., Run]) -> None:
    run = make_run(model={"class_path": "anomalib.models.MHPatchcore", "init_args": {}}, image_size=128)
    with pytest.raises(ValueError, match="Union") as raised:
        worker.build_model(run)
    assert worker.brief(raised.value).startswith("ValueError: Image size (128, 128) cannot be smaller than center crop")


def test_an_error_of_openvino_keeps_its_cause() -> None:
    error = RuntimeError("Exception from src/inference/infer_request.cpp:117:\nCheck failed\nThe shapes differ.\n\n")
    assert worker.brief(error) == "RuntimeError: The shapes differ."


class NoEngine:
    """Exports nothing."""

    def export(self, *_: object, **settings: object) -> None:
        raise OSError(settings["model_file_name"])


def test_each_export_that_fails_is_named(make_run: Callable[..., Run], tmp_path: Path) -> None:
    row = worker.export(NoEngine(), None, None, make_run(openvino=["FP32", "INT8"]), tmp_path)
    assert row == {"error": "OpenVINO FP32 failed: OSError: model_fp32; OpenVINO INT8 failed: OSError: model_int8"}


@pytest.mark.parametrize("error", [OSError("no disk\nsecond line"), KeyError(), ValueError("- a list")])
def test_other_errors_keep_their_first_line(error: Exception) -> None:
    assert worker.brief(error) == f"{type(error).__name__}: {error}".splitlines()[0]

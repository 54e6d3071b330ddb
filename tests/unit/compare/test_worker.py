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


@pytest.mark.parametrize("error", [OSError("no disk\nsecond line"), KeyError(), ValueError("- a list")])
def test_other_errors_keep_their_first_line(error: Exception) -> None:
    assert worker.brief(error) == f"{type(error).__name__}: {error}".splitlines()[0]

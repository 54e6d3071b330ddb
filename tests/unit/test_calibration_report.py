"""What the calibration says about new thresholds."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from anomalib_dmdd.calibrate import arguments, report
from anomalib_dmdd.models.base import DistillationPostProcessor


@pytest.mark.parametrize("sensitivity", [0.3, 0.5, 0.9])
def test_the_number_for_an_older_file_gives_the_new_verdicts(
    sensitivity: float, capsys: pytest.CaptureFixture[str]
) -> None:
    post_processor = DistillationPostProcessor(image_sensitivity=sensitivity)
    post_processor.get_buffer("_image_threshold").fill_(3.0)
    old, new = {"image": 2.0, "pixel": 1.0}, {"image": 3.0, "pixel": 1.0}
    report(old, new, SimpleNamespace(val_data=range(10)), post_processor, has_defective=True)
    number = float(re.search(r"--threshold ([\d.]+)", capsys.readouterr().out)[1])

    raw, unused = torch.linspace(0.03, 20.03, 201), torch.tensor(0.0)  # no value lies at a threshold

    def scores(threshold: float) -> torch.Tensor:
        return post_processor._normalize(raw, unused, unused, torch.tensor(threshold))

    assert torch.equal(scores(old["image"]) > number, scores(new["image"]) > 1 - sensitivity)


@pytest.mark.parametrize(("good", "defective"), [("new", "new"), ("new", "new/bad"), ("new/good", "new")])
def test_folders_that_overlap_are_refused(
    good: str, defective: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (good, defective):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(SystemExit, match="2"):
        arguments(["model.ckpt", "--data", str(tmp_path / good), "--defective", str(tmp_path / defective)])
    assert "overlap" in capsys.readouterr().err


def test_the_new_checkpoint_may_lie_beside_the_images(tmp_path: Path) -> None:
    out = tmp_path / "new.ckpt"
    assert arguments(["model.ckpt", "--data", str(tmp_path), "--out", str(out)]).out == out


@pytest.mark.parametrize(("sensitivity", "before"), [(0.0, 1.0), (0.5, float("nan")), (0.5, 0.0)])
def test_no_number_where_no_score_would_do(
    sensitivity: float, before: float, capsys: pytest.CaptureFixture[str]
) -> None:
    post_processor = DistillationPostProcessor(image_sensitivity=sensitivity)
    post_processor.get_buffer("_image_threshold").fill_(3.0)
    old, new = {"image": before, "pixel": 1.0}, {"image": 3.0, "pixel": 1.0}
    report(old, new, SimpleNamespace(val_data=range(10)), post_processor, has_defective=True)
    assert "--threshold" not in capsys.readouterr().out

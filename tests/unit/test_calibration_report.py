"""What the calibration says about new thresholds."""

import re
from pathlib import Path

import pytest
import torch
from small_models import build

from anomalib_dmdd import calibrate
from anomalib_dmdd.calibrate import parse, report
from anomalib_dmdd.models.base import DistillationPostProcessor


@pytest.mark.parametrize("sensitivity", [0.3, 0.5, 0.9])
def test_the_number_for_an_older_file_gives_the_new_verdicts(
    sensitivity: float, capsys: pytest.CaptureFixture[str]
) -> None:
    post_processor = DistillationPostProcessor(image_sensitivity=sensitivity)
    post_processor.get_buffer("_image_threshold").fill_(3.0)
    post_processor.validation_scores, post_processor.validation_labels = torch.ones(10), torch.arange(10) > 6
    old, new = {"image": 2.0, "pixel": 1.0}, {"image": 3.0, "pixel": 1.0}
    report(old, new, post_processor)
    number = float(re.search(r"--threshold ([\d.]+)", capsys.readouterr().out)[1])

    raw, unused = torch.linspace(0.03, 20.03, 201), torch.tensor(0.0)  # no value lies at a threshold

    def scores(threshold: float) -> torch.Tensor:
        return post_processor._normalize(raw, unused, unused, torch.tensor(threshold))

    assert torch.equal(scores(old["image"]) > number, scores(new["image"]) > 1 - sensitivity)


@pytest.mark.parametrize("defective", [0, 20])
def test_flagged_images_are_those_of_the_sensitivity(defective: int, capsys: pytest.CaptureFixture[str]) -> None:
    post_processor = DistillationPostProcessor(image_sensitivity=0.8)  # images above half of the threshold
    post_processor.get_buffer("_image_threshold").fill_(1.0)
    good = torch.linspace(0.4, 0.6, 100)
    post_processor.validation_scores = torch.cat([good, torch.full((defective,), 0.9)])
    post_processor.validation_labels = torch.arange(100 + defective) >= 100
    raw = {"image": 1.0, "pixel": 1.0}
    report(raw, raw, post_processor)
    said = capsys.readouterr().out
    found = f"{defective} of {defective} defective and " if defective else ""
    assert f"They flag {found}50 of 100 good images" in said
    assert "Expect up to 50 %" in said
    scores = post_processor._normalize(good, good, good, torch.tensor(1.0))
    assert int((scores > post_processor.normalized_image_threshold).sum()) == 50


@pytest.mark.parametrize(("good", "defective"), [("new", "new"), ("new", "new/bad"), ("new/good", "new")])
def test_folders_that_overlap_are_refused(
    good: str, defective: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (good, defective):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(SystemExit, match="2"):
        parse(["model.ckpt", "--data", str(tmp_path / good), "--defective", str(tmp_path / defective)])
    assert "overlap" in capsys.readouterr().err


def test_the_new_checkpoint_may_lie_beside_the_images(tmp_path: Path) -> None:
    out = tmp_path / "new.ckpt"
    assert parse(["model.ckpt", "--data", str(tmp_path), "--out", str(out)]).out == out


def test_a_model_that_takes_no_thresholds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build("Dskd", post_processor=DistillationPostProcessor(enable_thresholding=False))
    monkeypatch.setattr(calibrate, "load_trained", lambda _: (model, {}))
    assert calibrate.main(["model.ckpt", "--data", str(tmp_path), "--out", str(tmp_path / "new.ckpt")]) == 2
    assert "it takes no thresholds" in capsys.readouterr().err
    assert not (tmp_path / "new.ckpt").exists()


@pytest.mark.parametrize(("sensitivity", "before"), [(0.0, 1.0), (0.5, float("nan")), (0.5, 0.0)])
def test_no_number_where_no_score_would_do(
    sensitivity: float, before: float, capsys: pytest.CaptureFixture[str]
) -> None:
    post_processor = DistillationPostProcessor(image_sensitivity=sensitivity)
    post_processor.get_buffer("_image_threshold").fill_(3.0)
    post_processor.validation_scores, post_processor.validation_labels = torch.ones(10), torch.arange(10) > 6
    old, new = {"image": before, "pixel": 1.0}, {"image": 3.0, "pixel": 1.0}
    report(old, new, post_processor)
    assert "--threshold" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("good", "defective", "said"),
    [
        ([1.0] * 4 + [5.0], [2.0, 4.0, 6.0], ["They flag 2 of 3", "and 1 of 5 good", "up to 33 %", "rough guess"]),
        ([1.0] * 99, [4.0], ["They flag 1 of 1", "and 0 of 99 good", "up to 1 % of good images to be flagged."]),
        ([1.0] * 99, [], ["quantile of 99 good images", "about 3 % of good images to be flagged."]),
        ([1.0, 2.5, 2.6], [], ["2 of 3 good images lie above the threshold of before"]),
    ],
)
def test_what_to_expect(
    good: list[float], defective: list[float], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    post_processor = DistillationPostProcessor()
    post_processor.validation_scores = torch.tensor([*good, *defective])
    post_processor.validation_labels = torch.tensor([False] * len(good) + [True] * len(defective))
    report({"image": 2.0, "pixel": 2.0}, {"image": 3.0, "pixel": 3.0}, post_processor)
    text = capsys.readouterr().out.replace("\n", " ")
    assert all(part in text for part in said)
    assert ("rough guess" in text) == (len(good) < 50)
    assert ("lie above the threshold of before" in text) == (good[1] > 2)


@pytest.mark.parametrize(("quantile", "images", "few"), [(0.9, 10, False), (0.9, 9, True), (0.995, 100, True)])
def test_few_images_are_few_for_the_quantile(
    quantile: float, images: int, few: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    post_processor = DistillationPostProcessor(normal_quantile=quantile)
    post_processor.validation_scores = torch.ones(images)
    post_processor.validation_labels = torch.zeros(images, dtype=torch.bool)
    report({"image": 2.0, "pixel": 2.0}, {"image": 3.0, "pixel": 3.0}, post_processor)
    said = capsys.readouterr().out
    assert ("rough guess" in said) == few
    assert "defective and" not in said, "there are no defective images"

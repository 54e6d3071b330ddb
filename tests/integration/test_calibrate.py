"""New thresholds for a trained model, by the rules of a training."""

import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from anomalib.engine import Engine
from pictures import read_picture
from small_models import build

from anomalib_dmdd import Bikd, DemoParts
from anomalib_dmdd.calibrate import main


def thresholds(path: Path) -> tuple[float, float]:
    post_processor = Bikd.load_from_checkpoint(path).post_processor
    return post_processor.image_threshold.item(), post_processor.pixel_threshold.item()


def test_thresholds_of_new_images(
    parts: DemoParts,
    demo_root: Path,
    engine: Callable[..., Engine],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, model = engine(max_steps=2), build("Bikd")
    run.fit(model, datamodule=parts)
    model.post_processor._image_threshold.fill_(100.0)  # so that no new threshold equals it by chance
    checkpoint = tmp_path / "model.ckpt"
    run.trainer.save_checkpoint(checkpoint)
    before = checkpoint.read_bytes()
    good, chip = demo_root / "flange/test/good", demo_root / "flange/test/chip"

    assert main([str(checkpoint), "--data", str(good)]) == 0
    said = capsys.readouterr().out
    model.eval()
    scores, chips = image_scores(model, good), image_scores(model, chip)
    calibrated = tmp_path / "model-calibrated.ckpt"
    assert thresholds(calibrated)[0] == pytest.approx(scores.quantile(0.98).item(), rel=1e-3)
    assert f"{len(scores)} good images" in said
    assert checkpoint.read_bytes() == before

    out = tmp_path / "both.ckpt"
    assert main([str(checkpoint), "--data", str(good), "--defective", str(chip), "--out", str(out)]) == 0
    labels = torch.tensor([False] * len(scores) + [True] * len(chips))
    found = f1(torch.cat([scores, chips]), labels, thresholds(out)[0])
    assert found == max(f1(torch.cat([scores, chips]), labels, t) for t in [0.0, *scores.tolist(), *chips.tolist()])
    assert "F1 is highest on" in capsys.readouterr().out
    # The training had masks, these images have none.
    ratio = thresholds(checkpoint)[1] / 100
    for new in (calibrated, out):
        assert thresholds(new)[1] == pytest.approx(ratio * thresholds(new)[0], rel=1e-5)
        assert thresholds(new)[1] < thresholds(new)[0]

    predicting = build("Bikd")
    engine().predict(predicting, data_path=good, ckpt_path=out)
    assert predicting.post_processor.image_threshold.item() == thresholds(out)[0] != thresholds(checkpoint)[0]

    for line, message in (
        ([str(checkpoint), "--data", str(good)], "exists already"),
        ([str(checkpoint), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "x.ckpt")], "no folder"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(line)
        assert message in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(checkpoint), "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "x.ckpt")]) == 2
    assert "error: Found 0" in capsys.readouterr().err
    (tmp_path / "empty/broken.png").write_text("no picture")
    assert main([str(checkpoint), "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "x.ckpt")]) == 2
    assert re.search(r"error: .*broken\.png", capsys.readouterr().err)
    with patch("anomalib_dmdd.calibrate.save_complete", side_effect=PermissionError("no right to write")):
        assert main([str(checkpoint), "--data", str(good), "--out", str(tmp_path / "x.ckpt")]) == 2
    assert "error: no right to write" in capsys.readouterr().err
    assert main([str(tmp_path / "none.ckpt"), "--data", str(good)]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def image_scores(model: Bikd, folder: Path) -> torch.Tensor:
    pictures = torch.stack([read_picture(path) for path in sorted(folder.glob("*.png"))]) / 255
    with torch.no_grad():
        maps = model.model(model.pre_processor.transform(pictures)).anomaly_map
    return model.post_processor.image_score(model.post_processor.smooth(maps))


def f1(scores: torch.Tensor, labels: torch.Tensor, threshold: float) -> float:
    flagged = scores > threshold
    return (2 * (flagged & labels).sum() / (flagged.sum() + labels.sum())).item()

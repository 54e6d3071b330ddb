"""Explanations have the scores of a prediction, and a report of a real run shows them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from pictures import read_picture
from PIL import Image
from sandbox import copy_images
from small_models import build

from anomalib_dmdd import DemoParts
from anomalib_dmdd.report import command, explain


def test_explanations_and_report_of_a_run(
    parts: DemoParts,
    demo_root: Path,
    engine: Callable[..., Engine],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, model = engine(max_steps=2), build("Dmdd", visualizer=True)
    run.fit(model, datamodule=parts)
    checkpoint = Path(run.trainer.default_root_dir) / "weights/lightning/model.ckpt"
    run.trainer.save_checkpoint(checkpoint)
    images = tmp_path / "parts/chip"
    copy_images(demo_root / "flange/test/chip", images, 2)
    next(images.iterdir()).rename(images / "größer.png")
    batches = run.predict(model, data_path=images)
    expected = {Path(path): batch for batch in batches for path in batch.image_path}

    assert explain.main([str(checkpoint), str(images), str(images / "../chip/größer.png")]) == 0
    out = checkpoint.parents[2] / "explanations"
    table = pd.read_csv(out / "explained.csv")
    assert len(table) == len(expected)
    for row in table.itertuples():
        batch = expected[Path(row.file)]
        assert row.score == pytest.approx(batch.pred_score.item(), abs=1e-6)
        assert (row.verdict == "defective") == batch.pred_label.item()
        assert min(read_picture(out / row.picture).shape[1:]) > 500
    assert (
        f"chip: {len(table)} images, {(table['verdict'] == 'defective').sum()} called defective"
        in capsys.readouterr().out
    )
    assert (out / "scores.png").is_file()
    with pytest.raises(SystemExit, match="2"):
        explain.main([str(checkpoint), str(images)])
    assert "explanations already" in capsys.readouterr().err
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    large = next(images.iterdir())
    wrong = {
        broken: "not a readable image",
        tmp_path / "none": "does not exist",
        large: f"{large.name} is not a readable image: Image size",
    }
    out = tmp_path / "some"
    assert explain.main([str(checkpoint), str(broken), str(large), "--out", str(out)]) == 3
    assert "left out" in capsys.readouterr().err
    assert list(pd.read_csv(out / "explained.csv")["file"]) == [str(large)]
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses twice as many
        for path, message in wrong.items():
            assert explain.main([str(checkpoint), str(path), "--out", str(tmp_path / "out")]) == 2
            assert message in capsys.readouterr().err

    (maps,) = tmp_path.glob("results/**/maps")
    for path, batch in expected.items():
        written = read_picture(maps / "chip" / path.name, "L") / 255
        torch.testing.assert_close(written, batch.anomaly_map.reshape(written.shape), atol=0.003, rtol=0)

    assert command.main([str(tmp_path / "results")]) == 0
    page = (tmp_path / "results/report.html").read_text()
    shown = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])["images"]
    assert [image["file"] for image in shown] == list(table.sort_values("score", ascending=False)["file"])
    assert all(
        [picture["title"].split()[0] for picture in image["pictures"]] == ["image", "anomaly", "distances"]
        for image in shown
    )


def test_checkpoints_that_cannot_be_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, other = tmp_path / "broken.ckpt", tmp_path / "other.ckpt"
    broken.write_bytes(b"no checkpoint")
    torch.save({"state_dict": {}}, other)
    for path, message in (
        (tmp_path / "none.ckpt", "no checkpoint"),
        (broken, "not a readable checkpoint"),
        (other, "not a checkpoint of Bikd, Dmdd, Dskd"),
    ):
        assert explain.main([str(path), "images"]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1

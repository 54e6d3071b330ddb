"""Test and predict write one table each, never over another's, and say where; a training says how to go on."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from pictures import read_picture
from small_models import build
from torch.utils.data import DataLoader

from anomalib_dmdd import DemoParts, Dskd
from anomalib_dmdd.models.base import DistillationPostProcessor
from anomalib_dmdd.picture_names import source_of
from anomalib_dmdd.report.pictures import find_sources


class Mine(Dskd):
    """A model of a user."""


def printed_commands(printed: str) -> dict[str, dict[str, str]]:
    """Options of the commands among the printed lines, by subcommand."""
    words = [shlex.split(line)[1:] for line in printed.splitlines() if line.strip().startswith("anomalib ")]
    return {subcommand: dict(zip(options[::2], options[1::2], strict=True)) for subcommand, *options in words}


@pytest.mark.parametrize(("module", "name"), [("their.models", "their.models.Mine"), ("__main__", None)])
def test_commands_name_the_module_of_a_class_of_another_package(
    parts: DemoParts,
    engine: Callable[..., Engine],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    name: str | None,
) -> None:
    monkeypatch.setattr(Mine, "__module__", module)
    engine(max_steps=1, limit_val_batches=1).fit(Mine(backbone="resnet18", pre_trained=False), datamodule=parts)
    printed = capsys.readouterr().out
    assert "Checkpoint: " in printed
    if name is None:
        assert not printed_commands(printed)
    else:
        assert printed_commands(printed)["predict"]["--model"] == name
        assert f"find {name} if its module is on PYTHONPATH" in printed


def test_tables_of_test_and_predict(
    parts: DemoParts,
    demo_root: Path,
    tmp_path: Path,
    engine: Callable[..., Engine],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run, model = engine(max_steps=2, limit_test_batches=1.0), build("Bikd", visualizer=True)
    run.fit(model, datamodule=parts)
    checkpoint = str(Path(run.best_model_path).relative_to(tmp_path))
    after_fit = capsys.readouterr().out
    assert f"Checkpoint: {checkpoint}" in after_fit
    predicts = {"--model": "Bikd", "--ckpt_path": checkpoint, "--data": str(demo_root / "flange/test/stain")}
    assert printed_commands(after_fit) == {"predict": predicts}

    run.test(model, datamodule=parts, verbose=False)
    folder = Path(run.trainer.default_root_dir)
    after_test = capsys.readouterr().out
    root = str(folder.relative_to(tmp_path))
    exports = {"--model": "Bikd", "--ckpt_path": checkpoint, "--export_type": "openvino", "--export_root": root}
    exports["--input_size"] = "[64,64]"
    assert printed_commands(after_test) == {"predict": predicts, "export": exports}
    assert f"Scores of 56 images: {(folder / 'predictions.csv').relative_to(tmp_path)}" in after_test
    assert f"Pictures: {(folder / 'images').relative_to(tmp_path)}" in after_test
    tested = pd.read_csv(folder / "predictions.csv")
    images = sorted(str(path) for path in demo_root.rglob("test/*/*.png"))
    assert sorted(tested["file"]) == images
    assert (tested["known_anomalous"] == [Path(file).parent.name != "good" for file in tested["file"]]).all()
    ratio = tested["raw_score"] / tested["raw_threshold"]
    assert tested["score"].to_numpy() == pytest.approx((ratio**2 / (1 + ratio**2)).to_numpy(), abs=1e-5)
    assert ((tested["score"] > tested["threshold"]) == tested["anomalous"]).all()
    masked = tested[tested["mask"].notna()]
    assert list(masked["known_anomalous"]) == [True] * tested["known_anomalous"].sum()
    assert all(
        Path(mask).stem == f"{Path(file).stem}_mask" for file, mask in zip(masked["file"], masked["mask"], strict=True)
    )

    some = Path(images[0]).parent
    found = run.predict(model, data_path=some)
    assert "Checkpoint" not in capsys.readouterr().out
    (picture,) = (path for path in folder.rglob(f"images/**/{Path(images[0]).name}") if some.name in path.parts)
    corner = read_picture(picture)[:, -40:, :100].int()
    reddish = (corner[0] - corner[1] > 100).any()  # the colour of the verdict
    greenish = (corner[1] - corner[0] > 60).any()
    assert (bool(reddish), bool(greenish)) == ((True, False) if found[0].pred_label else (False, True))
    predicted = pd.read_csv(max(Path(run.trainer.default_root_dir).rglob("predictions*.csv")))
    assert pd.read_csv(folder / "predictions.csv").equals(tested)
    assert len(predicted) == len(list(some.iterdir()))
    assert predicted["known_anomalous"].isna().all()
    assert predicted["score"].to_numpy() == pytest.approx([float(batch.pred_score) for batch in found], abs=1e-6)


def test_images_of_one_name_have_maps_and_pictures_of_their_own(
    demo_root: Path, engine: Callable[..., Engine], tmp_path: Path
) -> None:
    images = [tmp_path / "parts" / line / "good/1.png" for line in ("line1", "line2")]
    for image, source in zip(images, sorted((demo_root / "flange/test").glob("*/000.png")), strict=False):
        image.parent.mkdir(parents=True)
        shutil.copy(source, image)
    model, run = build("Dskd", visualizer=True, evaluator=False), engine()
    for _ in range(2):  # a second prediction replaces the files of the first
        found = {
            path: batch.anomaly_map
            for batch in run.predict(model, dataset=PredictDataset(tmp_path / "parts"))
            for path in batch.image_path
        }
    folder = Path(run.trainer.default_root_dir)
    assert len(list(folder.rglob("maps/**/*.png"))) == len(list(folder.rglob("images/**/*.png"))) == 2
    for source in find_sources(pd.DataFrame({"file": images, "mask": None, "score": 0.0}), folder, {}):
        written = read_picture(source.anomaly_map, "L") / 255
        expected = found[str(source.image)].clamp(0, 1).reshape(written.shape)
        torch.testing.assert_close(written, expected, atol=0.003, rtol=0)
        assert source_of(source.strip) == source.image


def test_a_second_run_of_a_model_draws_into_its_own_folder(parts: DemoParts, engine: Callable[..., Engine]) -> None:
    model = build("Dskd", visualizer=True)
    for _ in range(2):
        run = engine(max_steps=1)
        run.train(model, datamodule=parts)
        assert list((Path(run.trainer.default_root_dir) / "images").rglob("*.png"))


@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError("image file is truncated")])
def test_an_interrupted_prediction_keeps_its_rows(
    end: BaseException, parts: DemoParts, engine: Callable[..., Engine], capsys: pytest.CaptureFixture[str]
) -> None:
    model, run = build("Dskd", evaluator=False), engine()
    parts.setup("test")
    images = parts.test_data.samples["image_path"].tolist()[:4]
    loader = DataLoader(parts.test_data.subsample(range(4)), collate_fn=parts.test_data.collate_fn)
    hook = model.model.register_forward_pre_hook(Mock(side_effect=[None, None, end]))
    with pytest.raises((SystemExit, OSError)):
        run.predict(model, dataloaders=loader)
    table = next(Path(run.trainer.default_root_dir).rglob("predictions.csv"))
    assert pd.read_csv(table)["file"].tolist() == images[:2]
    assert f"Scores of the 2 images until then: {table}" in capsys.readouterr().out
    hook.remove()
    run.predict(model, dataloaders=loader)
    tables = Path(run.trainer.default_root_dir).rglob("predictions*.csv")
    assert sorted(len(pd.read_csv(path)) for path in tables) == [2, 4], "the next one starts anew"


def test_a_post_processor_without_thresholds_and_normalisation(parts: DemoParts, engine: Callable[..., Engine]) -> None:
    raw = DistillationPostProcessor(enable_thresholding=False, enable_normalization=False)
    model, run = build("Bikd", visualizer=True, evaluator=False, post_processor=raw), engine(max_steps=1)
    run.fit(model, datamodule=parts)
    model.model.register_forward_hook(lambda _, __, found: found._replace(anomaly_map=3 * found.anomaly_map))
    run.test(model, datamodule=parts, verbose=False)
    folder = Path(run.trainer.default_root_dir)
    table = pd.read_csv(folder / "predictions.csv")
    assert table["anomalous"].isna().all()
    assert table["score"].tolist() == pytest.approx(table["raw_score"].tolist())
    brightest = table.loc[table["score"].idxmax()]
    assert brightest["score"] > 256 / 255, "would be black in eight bits"
    (drawn,) = (
        path
        for path in folder.rglob("maps/**/*.png")
        if path.stem == Path(brightest["file"]).stem and path.parent.name == Path(brightest["file"]).parent.name
    )
    assert read_picture(drawn, "L").max() == 255

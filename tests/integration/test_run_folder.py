"""A folder of results takes a training after a test or a prediction."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning.pytorch import Callback
from small_models import build

from anomalib_dmdd import DemoParts

EngineFactory = Callable[..., Engine]


@pytest.mark.parametrize("command", ["test", "predict"])
def test_a_training_follows_a_test_or_prediction(
    command: str, parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    limits = {"limit_test_batches": 1, "limit_predict_batches": 1, "limit_val_batches": 1}
    getattr(engine(**limits), command)(build("Dskd"), datamodule=parts)
    (latest,) = tmp_path.rglob("latest")
    assert latest.resolve().name == "v0"
    engine(max_steps=1, **limits).fit(build("Dskd"), datamodule=parts)
    assert latest.resolve().name == "v1"


def test_latest_keeps_leading_to_a_model_after_a_training_that_failed_at_once(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine(max_steps=1, limit_val_batches=1).fit(build("Dmdd"), datamodule=parts)
    (latest,) = tmp_path.rglob("latest")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        engine(max_steps=1).fit(build("Dmdd", known_defects="nowhere"), datamodule=parts)
    shutil.copytree(latest.parent / "v0", latest.parent / "v9_copy")
    latest.with_name("latest_v0").symlink_to("v0")  # as a process leaves it that is killed at that moment
    with pytest.raises(FileNotFoundError, match="nowhere"):
        engine(max_steps=1).fit(build("Dmdd", teacher_weights="nowhere"), datamodule=parts)
    assert latest.resolve().name == "v0"
    assert "leads to v0" in caplog.text


def test_latest_leads_to_a_training_during_which_another_one_failed(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    class SecondStart(Callback):
        def on_train_end(self, *_: object) -> None:
            with pytest.raises(FileNotFoundError, match="nowhere"):
                engine(max_steps=1).fit(build("Dmdd", known_defects="nowhere"), datamodule=parts)

    engine(max_steps=1).fit(build("Dmdd"), datamodule=parts)
    engine(max_steps=1, callbacks=[SecondStart()]).fit(build("Dmdd"), datamodule=parts)
    (latest,) = tmp_path.rglob("latest")
    assert latest.resolve().name == "v1"


def test_latest_keeps_leading_to_a_model_where_nothing_is_left_to_train(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = engine(max_steps=2)
    run.fit(build("Dskd"), datamodule=parts)
    engine(max_steps=2).fit(build("Dskd"), datamodule=parts, ckpt_path=run.best_model_path)
    (latest,) = tmp_path.rglob("latest")
    assert latest.resolve().name == "v0"
    assert "Nothing was trained" in caplog.text


def test_without_defective_images_the_test_says_that_its_metrics_mean_nothing(
    demo_root: Path, engine: EngineFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Folder(name="good", root=demo_root / "flange", normal_dir="train/good", train_batch_size=4, num_workers=0)
    model, run = build("Dskd"), engine(max_steps=1, limit_val_batches=1, limit_test_batches=1)
    run.fit(model, datamodule=good)
    run.test(model, datamodule=good, verbose=False)
    said = capsys.readouterr().out
    assert "No test image is defective" in said
    assert "--data path/to/images" in said, "not the folder of the training images"

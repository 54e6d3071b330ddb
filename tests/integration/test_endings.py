"""However a training ends, the last model is kept, with thresholds of its own or with a mark that it has none."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import Folder, ImageBatch
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
    StochasticWeightAveraging,
    Timer,
)
from small_models import MODELS, build
from torch.utils.data import DataLoader, IterableDataset

from anomalib_dmdd import DemoParts, Dskd
from anomalib_dmdd.models.base import DefaultLength, DistillationPostProcessor
from anomalib_dmdd.models.base.checkpoints.threshold_age import ThresholdAge

EngineFactory = Callable[..., Engine]
COMPLAINTS = ("has no threshold", "thresholds are older than the weights")
SHORT = {"limit_train_batches": 2}


def stopping(monitor: str, **settings: Any) -> EarlyStopping:
    """Early stopping at the first check."""
    mode = "max" if "AUROC" in monitor else "min"
    return EarlyStopping(monitor, stopping_threshold=-1e9 if mode == "max" else 1e9, mode=mode, **settings)


def kept(engine: Engine) -> dict[str, Any]:
    """The checkpoint that a training has left."""
    return torch.load(engine.best_model_path, weights_only=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"callbacks": [stopping("train_loss_epoch")]},
        {"callbacks": [stopping("image_AUROC")]},
        {"callbacks": [stopping("train_loss_epoch", check_on_train_epoch_end=True)], "check_val_every_n_epoch": 5},
        {"max_steps": 3, "check_val_every_n_epoch": 10},
        {"max_steps": 3},
        {"max_epochs": 3, "check_val_every_n_epoch": 2},
        {"max_epochs": 1, "limit_train_batches": 3, "val_check_interval": 2},
        {"max_time": "00:00:00:01", "check_val_every_n_epoch": 1000},
    ],
    ids=["early-loss", "early-auroc", "early-between", "steps-between", "steps", "epochs-between", "batches", "time"],
)
def test_the_last_model_is_kept_with_its_own_thresholds(
    settings: dict[str, Any],
    parts: DemoParts,
    engine: EngineFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Dskd, "default_length", DefaultLength(epochs=30))
    model = build("Dskd", evaluator=Evaluator(val_metrics=[AUROC(["pred_score", "gt_label"], prefix="image_")]))
    run = engine(**SHORT | settings)
    run.fit(model, datamodule=parts)
    checkpoint = kept(run)
    assert checkpoint["global_step"] == run.trainer.global_step > 0
    assert checkpoint["anomalib_dmdd_thresholds"] == dict.fromkeys(("weights", "thresholds"), run.trainer.global_step)
    assert checkpoint["state_dict"]["post_processor._image_threshold"].isfinite()
    assert all(torch.equal(value, checkpoint["state_dict"][key]) for key, value in model.state_dict().items())
    assert not any(complaint in caplog.text for complaint in COMPLAINTS)


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        (EMAWeightAveraging(), "would average thresholds"),
        (StochasticWeightAveraging(1e-3), "would average thresholds"),
        (GradientAccumulationScheduler({0: 2, 1: 1}), "would change the number of steps"),
    ],
)
def test_callbacks_that_spoil_thresholds_or_schedule_are_refused(
    parts: DemoParts, engine: EngineFactory, callback: Callback, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"{type(callback).__name__} {reason}"):
        engine(callbacks=[callback], max_epochs=3).fit(build("Dskd"), datamodule=parts)


def test_files_of_older_steps_stay_and_the_last_one_has_its_thresholds(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    every = {"every_n_train_steps": 2, "save_top_k": -1, "save_last": True}
    stops = stopping("train_loss_epoch", check_on_train_epoch_end=True)
    for stop, steps in ((4, [2, 4]), (5, [2, 4, 5])):
        keeper = ModelCheckpoint(tmp_path / str(stop), "{step}", **every)
        ends = {"limit_train_batches": stop, "max_epochs": 9, "check_val_every_n_epoch": 1000}
        engine(callbacks=[keeper, stops], **ends).fit(build("Dskd"), datamodule=parts)
        found = {path.stem: torch.load(path, weights_only=True) for path in (tmp_path / str(stop)).iterdir()}
        assert {name: content["global_step"] for name, content in found.items()} == {
            **{f"step={step}": step for step in steps},
            "last": stop,
        }
        ages = {name: tuple(content["anomalib_dmdd_thresholds"].values()) for name, content in found.items()}
        assert ages == {"step=2": (2, None), "step=4": (4, 4 if stop == 4 else None)} | (
            {"last": (stop, stop)} | ({"step=5": (5, 5)} if stop == 5 else {})
        )


def test_a_second_training_starts_anew(
    parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dskd, "default_length", DefaultLength(epochs=2))
    model = build("Dskd")
    first = engine(**SHORT)
    first.fit(model, datamodule=parts)
    assert first.trainer.max_epochs == 2
    model.post_processor.get_buffer("_image_threshold").fill_(100.0)
    second = engine(max_epochs=3, **SHORT | {"limit_train_batches": 1}, check_val_every_n_epoch=1000)
    model.threshold_age = ThresholdAge(weights=3, thresholds=3)  # as many steps as the second training has
    second.fit(model, datamodule=parts)
    assert second.trainer.max_epochs == second.trainer.global_step == 3, "the user's length counts"
    assert model.post_processor.image_threshold < 100, "and thresholds are set anew"


@pytest.mark.parametrize(
    ("argument", "trainer", "expected"),
    [
        (None, {}, (20, 2)),
        (None, {"min_epochs": 31}, (31, 4)),
        (None, {"min_steps": 50}, (25, 3)),
        (None, {"check_val_every_n_epoch": 7}, (20, 7)),
        (1, {}, (20, 1)),
        (3, {"max_epochs": 9}, (9, 3)),
        (None, {"max_epochs": 9}, (9, 1)),
        (None, {"callbacks": [Timer()]}, (20, 2)),  # it only reads the clock
    ],
)
def test_length_and_interval_are_the_users(
    argument: int | None,
    trainer: dict[str, Any],
    expected: tuple[int, int],
    parts: DemoParts,
    engine: EngineFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stop(Callback):
        def on_fit_start(self, trainer: Trainer, *_: Any) -> None:
            seen.append((trainer.max_epochs, trainer.check_val_every_n_epoch))
            trainer.limit_train_batches = 0

    seen: list[tuple[int | None, int | None]] = []
    model = build("Dskd", validate_every_n_epochs=argument)
    monkeypatch.setattr(Dskd, "default_length", DefaultLength(epochs=20))
    callbacks = [Stop(), *trainer.get("callbacks", [])]
    engine(**SHORT | trainer | {"callbacks": callbacks}).fit(model, datamodule=parts)
    assert seen == [expected]


class Interrupt(Callback):
    """Raises at a step, as Ctrl-C does."""

    def __init__(self, step: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.step, self.error = step, error

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise self.error


@pytest.mark.parametrize(
    ("name", "step", "complaint"),
    [(name, 1, "has no threshold") for name in MODELS] + [("Dskd", 3, "set at step 2, but the weights")],
)
def test_an_interrupted_training_is_kept_with_a_mark(
    name: str, step: int, complaint: str, parts: DemoParts, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        (run := engine(max_epochs=2, callbacks=[Interrupt(step)], **SHORT)).fit(build(name), datamodule=parts)
    path = next(Path(run.trainer.default_root_dir).rglob("interrupted.ckpt"))
    few = {"limit_predict_batches": 1, "limit_test_batches": 1}
    uses: list[Callable[[AnomalibModule], object]] = [
        lambda model: engine(**few).predict(model, datamodule=parts, ckpt_path=path),
        lambda model: engine(**few).test(model, datamodule=parts, ckpt_path=path),
        lambda model: engine().export(model, "torch", ckpt_path=path),
    ]
    for use in uses:
        caplog.clear()
        use(build(name))
        assert caplog.text.count(complaint) == 1
    caplog.clear()
    run = engine(max_epochs=2, **SHORT)
    run.fit(build(name), datamodule=parts, ckpt_path=path)
    assert run.trainer.global_step == 4
    assert kept(run)["anomalib_dmdd_thresholds"] == {"weights": 4, "thresholds": 4}
    assert not any(complaint in caplog.text for complaint in COMPLAINTS)


def test_a_training_that_is_asked_to_end_does_not_end_as_if_it_were_finished(
    parts: DemoParts, engine: EngineFactory
) -> None:
    ask = LambdaCallback(on_train_batch_start=lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        (run := engine(max_epochs=2, callbacks=[ask], **SHORT)).fit(build("Dskd"), datamodule=parts)
    assert ended.value.code == 143, "128 + SIGTERM, as a shell reports it"
    assert list(Path(run.trainer.default_root_dir).rglob("interrupted.ckpt"))


def test_weights_alone_are_not_kept_as_an_interrupted_training(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    run, path = engine(max_steps=1, **SHORT), tmp_path / "weights.ckpt"
    run.fit(build("Dskd"), datamodule=parts)
    run.trainer.save_checkpoint(path, weights_only=True)
    with pytest.raises(KeyError):
        (again := engine(max_steps=2, **SHORT)).fit(build("Dskd"), datamodule=parts, ckpt_path=path)
    assert not [*Path(again.trainer.default_root_dir).parent.rglob("interrupted.ckpt")]


@pytest.mark.parametrize("hook", ["on_validation_start", "on_validation_end", "on_train_epoch_end"])
def test_a_training_interrupted_after_its_last_step_is_finished(
    parts: DemoParts, engine: EngineFactory, hook: str
) -> None:
    def interrupt(trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    stop = LambdaCallback(**{hook: interrupt})
    with pytest.raises(SystemExit):
        (run := engine(max_steps=3, callbacks=[stop], **SHORT)).fit(build("Dskd"), datamodule=parts)
    path = next(Path(run.trainer.default_root_dir).rglob("interrupted.ckpt"))
    model, again = build("Dskd"), engine(max_steps=3, **SHORT)
    again.fit(model, datamodule=parts, ckpt_path=path)
    assert kept(again)["anomalib_dmdd_thresholds"] == {"weights": 3, "thresholds": 3}
    assert kept(again)["state_dict"]["post_processor._image_threshold"] == model.post_processor.image_threshold
    assert (Path(again.trainer.default_root_dir).parent / "latest").resolve() in Path(again.best_model_path).parents


def test_an_error_in_the_last_validation_does_not_cost_the_model(parts: DemoParts, engine: EngineFactory) -> None:
    class Fail(Callback):
        def on_validation_batch_end(self, *_: Any) -> None:
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # Lightning raises it again as it is
        (run := engine(max_epochs=1, callbacks=[Fail()], **SHORT)).fit(build("Dskd"), datamodule=parts)
    path = next(Path(run.trainer.default_root_dir).rglob("interrupted.ckpt"))
    run = engine(max_epochs=2, **SHORT)
    run.fit(build("Dskd"), datamodule=parts, ckpt_path=path)
    assert kept(run)["anomalib_dmdd_thresholds"] == {"weights": 4, "thresholds": 4}


def test_a_validation_of_a_checkpoint_says_that_its_thresholds_are_lost(
    parts: DemoParts, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    (run := engine(max_epochs=1, **SHORT)).fit(model := build("Dskd"), datamodule=parts)
    with caplog.at_level("INFO"):
        engine(max_epochs=2, **SHORT).fit(build("Dskd"), datamodule=parts, ckpt_path=run.best_model_path)
        engine(**SHORT).validate(model, datamodule=parts)
        assert "are lost" not in caplog.text
        engine(**SHORT).validate(build("Dskd"), datamodule=parts, ckpt_path=run.best_model_path)
    assert f"anomalib-dmdd calibrate {run.best_model_path} --data" in caplog.text


def test_a_validation_that_sets_no_thresholds_loses_none(
    parts: DemoParts, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    without = {"post_processor": DistillationPostProcessor(enable_thresholding=False)}
    (run := engine(max_epochs=1, **SHORT)).fit(build("Dskd", **without), datamodule=parts)
    with caplog.at_level("INFO"):
        engine(**SHORT).validate(build("Dskd"), datamodule=parts, ckpt_path=run.best_model_path)
    assert "are lost" not in caplog.text


def folder_of(images: int, demo_root: Path, target: Path, **settings: Any) -> Folder:
    """A data module with so many good images and nothing else."""
    (target / "good").mkdir(parents=True)
    for path in sorted(next(demo_root.rglob("train/good")).glob("*.png"))[:images]:
        shutil.copy(path, target / "good")
    return Folder("mine", normal_dir="good", root=target, train_batch_size=4, num_workers=0, **settings)


@pytest.mark.parametrize(
    ("settings", "trainer", "trained", "held_out"),
    [({}, {}, 5, 3), ({"val_split_mode": "none"}, {}, 5, 3), ({}, {"limit_val_batches": 0}, 5, 3)],
    ids=["automatic split", "no split", "limit"],
)
def test_good_images_are_held_out_where_there_is_no_validation(
    settings: dict[str, Any],
    trainer: dict[str, Any],
    trained: int,
    held_out: int,
    demo_root: Path,
    tmp_path: Path,
    engine: EngineFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = folder_of(9, demo_root, tmp_path / "nine", **settings)  # Anomalib takes one of them for the test
    model, run = build("Dskd"), engine(max_epochs=2, **trainer)
    run.fit(model, datamodule=data)
    assert "3 of the 8 good training images are held out" in caplog.text
    assert "its 3 normal images. Expect about 26 %" in caplog.text
    assert (len(data.train_data), len(data.val_data)) == (trained, held_out)
    assert not set(data.train_data.samples.image_path) & set(data.val_data.samples.image_path)
    assert kept(run)["state_dict"]["post_processor._image_threshold"].isfinite()


def test_validation_images_are_used_although_the_limit_is_zero(
    parts: DemoParts, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    parts.setup("fit")
    sizes = len(parts.train_data), len(parts.val_data)
    run = engine(max_steps=1, limit_val_batches=0)
    run.fit(build("Dskd"), datamodule=parts)
    assert f"limit_val_batches=0 is ignored, because the thresholds need the {sizes[1]} validation" in caplog.text
    assert (len(parts.train_data), len(parts.val_data)) == sizes
    assert kept(run)["state_dict"]["post_processor._image_threshold"].isfinite()


def test_too_few_images_to_hold_some_out(
    demo_root: Path, tmp_path: Path, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    data = folder_of(5, demo_root, tmp_path / "five", test_split_mode="none", val_split_mode="none")
    run = engine(callbacks=[stopping("train_loss_epoch", check_on_train_epoch_end=True)])  # without a length
    run.fit(build("Dskd"), datamodule=data)
    assert "5 training images are too few" in caplog.text
    assert "has no threshold" in caplog.text
    caplog.clear()
    predictions = engine().predict(build("Dskd"), data_path=tmp_path / "five/good", ckpt_path=run.best_model_path)
    assert "has no threshold" in caplog.text
    for batch in predictions:
        assert not batch.pred_label.any()
        assert not batch.pred_mask.any()
        assert 0 <= batch.pred_score.min() <= batch.pred_score.max() <= 1
        assert 0 <= batch.anomaly_map.min() <= batch.anomaly_map.max() <= 1


def test_train_with_a_checkpoint_tests_what_it_has_trained(
    parts: DemoParts, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    first = engine(max_epochs=1, **SHORT)
    first.fit(build("Dskd"), datamodule=parts)
    older = kept(first)
    older["anomalib_dmdd"] |= {"dataset": "bolts", "trained": "2001-01-01"}
    torch.save(older, first.best_model_path)
    model, second = build("Dskd"), engine(max_epochs=2, **SHORT)
    second.train(model, datamodule=parts, ckpt_path=first.best_model_path)
    assert model.trained_with["dataset"] == kept(second)["anomalib_dmdd"]["dataset"] == "DemoParts flange"
    trained = kept(second)["state_dict"]
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())
    assert "The model that was just trained is tested" in caplog.text
    second.test(model, datamodule=parts, ckpt_path=first.best_model_path)  # asked for by name
    assert model.threshold_age.weights == 2
    given = Dskd.load_from_checkpoint(first.best_model_path).state_dict()
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())


def test_a_training_on_a_plain_data_loader_ends_with_a_model_without_thresholds(engine: EngineFactory) -> None:
    images = DataLoader(range(2), collate_fn=lambda _: ImageBatch(image=torch.rand(4, 3, 64, 64)))
    training, model = engine(max_steps=2), build("Dskd")
    model.post_processor.get_buffer("_image_threshold").fill_(0.5)  # of a former training
    training.fit(model, train_dataloaders=images)
    assert kept(training)["state_dict"]["post_processor._image_threshold"].isnan()
    assert "has no threshold" in model.threshold_age.complaint(model.post_processor)


class Stream(IterableDataset):
    """Two batches, without saying so."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(2))


def stream() -> DataLoader:
    return DataLoader(Stream(), collate_fn=lambda _: ImageBatch(image=torch.rand(4, 3, 64, 64)))


def test_data_without_a_length_are_trained_at_the_rate_of_the_epoch(engine: EngineFactory) -> None:
    rates = []
    watch = LambdaCallback(
        on_train_batch_end=lambda trainer, *_: rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    )
    engine(max_epochs=4, callbacks=[watch]).fit(build("Dskd"), train_dataloaders=stream())
    assert len(rates) == 4 * 2
    assert 0 < rates[-1] < rates[3], "no epoch trains at a rate of zero"


def test_data_without_a_length_are_trained_for_the_default_steps(
    engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dskd, "default_length", DefaultLength(steps=5))
    training = engine()
    training.fit(build("Dskd"), train_dataloaders=stream())
    assert training.trainer.global_step == 5

"""Training through Anomalib's Engine: length, repetition, resumption, weights, thresholds, sizes."""

import copy
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.plugins import MixedPrecision
from PIL import Image
from sklearn.metrics import roc_auc_score
from small_models import MODELS, build
from torch.optim import Optimizer
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_dmdd import DemoParts
from anomalib_dmdd.models.base import DefaultLength, DistillationPostProcessor
from anomalib_dmdd.models.components import DistillationModel

EngineFactory = Callable[..., Engine]


class Recorder(Callback):
    """Keeps what training logged, and may end it before the first step."""

    def __init__(self, stop: bool = False) -> None:
        self.stop, self.logged, self.limits = stop, [], (0, 0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self.limits = (trainer.max_epochs, trainer.max_steps)
        trainer.should_stop = self.stop

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("name", MODELS)
def test_a_run_repeats_itself_exactly(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    states = []
    for _ in range(2):
        seed_everything(7)
        model = build(name)
        engine(max_steps=3).fit(model, datamodule=parts)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", MODELS)
def test_teachers_keep_their_batch_statistics(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    class Statistics(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            del trainer
            seen.append([buffer.clone() for buffer in pl_module.model.teacher.buffers()])

    seen: list[list[torch.Tensor]] = []
    # Two epochs: there is a validation in between, after which Lightning restores what it takes for the modes.
    engine(max_epochs=2, limit_train_batches=2, callbacks=[Statistics()]).fit(build(name), datamodule=parts)
    assert len(seen) == 4
    assert seen[0]
    assert all(all(map(torch.equal, seen[0], later)) for later in seen)


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_its_parts_are_logged(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    recorder = Recorder()
    engine(max_steps=2, callbacks=[recorder]).fit(build(name), datamodule=parts)
    terms = [key for key in recorder.logged[-1] if re.fullmatch(r"train_loss_(?!step|epoch).*(?<!_epoch)_step", key)]
    assert len(terms) >= 2
    total = sum(recorder.logged[-1][term] for term in terms)
    assert recorder.logged[-1]["train_loss_step"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("trainer", "limits"),
    [
        ({"max_epochs": 1000}, (1000, -1)),  # also what Lightning fills in where nothing is given
        ({"max_epochs": 3}, (3, -1)),
        ({"max_steps": 7}, (-1, 7)),
        ({"max_time": "00:00:01:00"}, (-1, -1)),
        ({"max_epochs": -1}, (-1, -1)),
        ({}, (334, -1)),  # 5000 steps in epochs of 15
    ],
)
def test_the_users_length_wins(
    trainer: dict[str, Any], limits: tuple[int, int], parts: DemoParts, engine: EngineFactory
) -> None:
    recorder = Recorder(stop=True)
    engine(callbacks=[recorder], **trainer).fit(build("Dmdd"), datamodule=parts)
    assert recorder.limits == limits


def test_the_methods_own_length_ends_with_a_validation(
    parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("Dmdd")
    monkeypatch.setattr(type(model), "default_length", DefaultLength(steps=20))
    run = engine()
    run.fit(model, datamodule=parts)
    assert run.trainer.global_step == 30  # two epochs of 15 steps
    assert torch.isfinite(model.post_processor.image_threshold)


@pytest.mark.parametrize("name", MODELS)
def test_resumed_training_goes_on(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    first = engine(max_epochs=1, limit_train_batches=2)
    first.fit(build(name), datamodule=parts)
    model, second = build(name), engine(max_epochs=2, limit_train_batches=2)
    second.fit(model, datamodule=parts, ckpt_path=first.best_model_path)
    assert second.trainer.global_step == 4
    assert second.trainer.current_epoch == 2


def test_bikd_follows_the_users_length_through_its_phases(parts: DemoParts, engine: EngineFactory) -> None:
    for length in ({"max_steps": 10}, {"max_epochs": 10, "limit_train_batches": 1}):
        recorder, model = Recorder(), build("Bikd")
        start = [parameter.clone() for parameter in model.teacher_parameters()]
        engine(callbacks=[recorder], **length).fit(model, datamodule=parts)
        backward = [step["train_loss_backward_kd_step"] for step in recorder.logged]
        assert [value > 0 for value in backward] == [False] * 3 + [True] * 5 + [False] * 2
        assert "teacher_drift" in recorder.logged[-1]
        assert "margin_reached" in recorder.logged[-1]
        moved = zip(start, model.teacher_parameters(), strict=True)
        assert any(not torch.equal(before, after) for before, after in moved)
        stems = (network.features.conv1.state_dict().values() for network in (model.model.teacher, model.model.anchor))
        assert all(map(torch.equal, *stems))


def test_the_rates_of_bikds_teacher_add_up_to_the_same_in_a_long_training(
    parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomalib_dmdd.models.bikd.lightning_model.TEACHER_STEPS", 8)
    summed = {}
    for steps in (8, 16, 32):
        rates = []
        record = LambdaCallback(
            on_train_batch_end=lambda trainer, *_, to=rates: to.append(
                [group["lr"] for group in trainer.optimizers[0].param_groups]
            )
        )
        engine(callbacks=[record], max_steps=steps).fit(build("Bikd"), datamodule=parts)
        student, teacher = torch.tensor(rates[:-1]).T  # at the end both are zero
        torch.testing.assert_close(teacher / student, torch.full((steps - 1,), 1e-4 / 5e-3 * 8 / steps))
        summed[steps] = float(teacher[int(0.2 * steps) : int(0.8 * steps)].sum())
    assert summed[32] == pytest.approx(summed[16], rel=0.1)


def test_no_weights_and_no_network(parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # a machine without a network
    for name in MODELS:
        model = build(name, backbone="mobilenetv3_small_050", pre_trained=True)
        with pytest.raises(RuntimeError, match="teacher_weights"):
            engine(max_steps=1).fit(model, datamodule=parts)


def test_thresholds_without_anomalies(
    demo_root: Path, tmp_path: Path, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    good = next(demo_root.rglob("train/good"))
    shutil.copytree(good, tmp_path / "folder" / "good")
    folder = Folder(
        name="mine",
        root=tmp_path / "folder",
        normal_dir="good",
        train_batch_size=8,
        num_workers=0,
        test_split_mode="from_dir",
        val_split_mode="from_train",
        val_split_ratio=0.3,
    )
    model = build("Dskd")
    with caplog.at_level(logging.WARNING):
        engine(max_steps=2).fit(model, datamodule=folder)
    assert any("holds no anomalies" in record.getMessage() for record in caplog.records)
    assert torch.isfinite(model.post_processor.image_threshold)
    assert torch.isfinite(model.post_processor.pixel_threshold)


@pytest.mark.parametrize("name", MODELS)
def test_sizes(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    with pytest.raises(ValueError, match=r"\(100, 128\).*multiples of (16|32)"):
        build(name, size=(100, 128))
    run = engine(max_steps=1)
    run.fit(build(name, size=(64, 96)), datamodule=parts)
    assert run.trainer.global_step == 1


def test_anomalies_are_simulated_on_images_that_are_not_normalised(parts: DemoParts, engine: EngineFactory) -> None:
    seen = []
    model = build("Dmdd", augment=False, pre_processor=PreProcessor(transform=Resize((64, 64))))
    model.simulator.register_forward_hook(lambda _simulator, _images, found: seen.append(found[0]))
    engine(max_steps=2).fit(model, datamodule=parts)
    assert all(-1e-5 < images.min() < images.max() < 1 + 1e-5 for images in seen)


def test_one_image_of_one_cell_is_refused(parts: DemoParts, engine: EngineFactory) -> None:
    parts.train_batch_size = 1
    with pytest.raises(ValueError, match="a batch of one image leaves one cell"):
        engine(max_steps=1).fit(build("Dskd", size=(32, 32)), datamodule=parts)


@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_and_accumulated_gradients(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    model = build(name)
    engine(max_steps=1, precision="bf16-mixed", accumulate_grad_batches=2, gradient_clip_val=1.0).fit(
        model, datamodule=parts
    )
    assert all(torch.isfinite(tensor).all() for tensor in model.model.state_dict().values())


def test_gradients_are_clipped_in_their_own_scale_under_a_gradient_scaler(
    parts: DemoParts, engine: EngineFactory
) -> None:
    class Norms(Callback):
        def on_before_optimizer_step(self, _trainer: Trainer, pl_module: LightningModule, _: Optimizer) -> None:
            gradients = [p.grad for p in pl_module.model.student.parameters() if p.grad is not None]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    norms: list[float] = []
    for plugins in ([], [MixedPrecision("16-mixed", device="cpu")]):
        seed_everything(0)
        engine(max_steps=1, plugins=plugins, callbacks=[Norms()]).fit(build("Bikd"), datamodule=parts)
    assert norms[1] == pytest.approx(norms[0], rel=0.1)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_weights_in_other_than_single_precision_are_refused(
    precision: str, parts: DemoParts, engine: EngineFactory
) -> None:
    with pytest.raises(ValueError, match=f"trainer.precision: {precision} is not possible"):
        engine(max_steps=1, precision=precision).fit(build("Dskd"), datamodule=parts)


def test_a_compiled_copy_of_the_network_is_refused(parts: DemoParts, engine: EngineFactory) -> None:
    model = build("Dskd")
    model.model = torch.compile(model.model)
    with pytest.raises(ValueError, match=r"Call model\.model\.compile\(\) instead"):
        engine(max_steps=1).fit(model, datamodule=parts)


def test_an_engine_that_trained_another_model_is_refused(parts: DemoParts, engine: EngineFactory) -> None:
    used = engine(max_steps=1)
    used.fit(build("Dskd"), datamodule=parts)
    with pytest.raises(ValueError, match="Make a new Engine for each model"):
        used.fit(build("Bikd"), datamodule=parts)
    assert not [*Path(used.trainer.default_root_dir).parent.rglob("interrupted.ckpt")], "it was never trained here"


def test_an_engine_goes_on_with_its_model_or_a_checkpoint(parts: DemoParts, engine: EngineFactory) -> None:
    used, model = engine(max_epochs=1, limit_train_batches=2), build("Dskd")
    used.fit(model, datamodule=parts)
    path = used.best_model_path
    used.trainer.fit_loop.max_epochs = 2
    used.fit(build("Dskd"), datamodule=parts, ckpt_path=path)
    assert used.trainer.global_step == 4
    with pytest.raises(ValueError, match="Make a new Engine for each model"):
        used.fit(build("Bikd"), datamodule=parts)


@pytest.mark.parametrize("pre_processor", [False, PreProcessor(Resize(64))])
def test_images_of_another_size_are_named(
    pre_processor: PreProcessor | bool, tmp_path: Path, engine: EngineFactory
) -> None:
    for number in range(8):
        Image.new("RGB", (100, 75)).save(tmp_path / f"{number}.png")
    wide = Folder("wide", tmp_path, num_workers=0, train_batch_size=4)
    with pytest.raises(ValueError, match=r"height and width of \(\d+, \d+\).* needs multiples of 32"):
        engine(max_steps=1).fit(build("Dmdd", pre_processor=pre_processor), datamodule=wide)
    with pytest.raises(ValueError, match="needs multiples of 32"):
        engine().predict(build("Dskd", pre_processor=pre_processor), data_path=tmp_path / "0.png")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_training_mode_does_not_predict(name: str) -> None:
    model = build(name)
    before = copy.deepcopy(model.model.state_dict())
    with pytest.raises(ValueError, match=r"Call model\.eval\(\) first"):
        model(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


def test_a_teacher_is_told_apart_from_the_normalisation(
    parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(DistillationModel, "load_pretrained", lambda _: None)
    half = PreProcessor(Compose([Resize((64, 64)), Normalize([0.5] * 3, [0.5] * 3)]))
    engine(max_steps=1).fit(build("Dskd", backbone="resnet18", pre_trained=True, pre_processor=half), datamodule=parts)
    assert "the weights of resnet18 expect (0.485, 0.456, 0.406)" in caplog.text


def test_raw_scores_of_several_batches_are_ranked(parts: DemoParts, engine: EngineFactory) -> None:
    model = build("Dskd", post_processor=DistillationPostProcessor(enable_normalization=False))

    def scale(network: DistillationModel, _: object, found: Any) -> Any:  # noqa: ANN401
        return found if network.training else found._replace(anomaly_map=1.8 * found.anomaly_map)

    model.model.register_forward_hook(scale)
    parts.eval_batch_size = 2
    run = engine(max_steps=4, limit_test_batches=1.0)
    (found,) = run.train(model, datamodule=parts)
    batches = run.predict(model, dataloaders=parts.test_dataloader())
    scores, labels = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("pred_score", "gt_label"))
    assert scores.min() < 1 < scores.max(), "the test needs both"
    assert found["image_AUROC"] == pytest.approx(roc_auc_score(labels, scores.numpy()))


def test_the_sanity_check_of_lightning_sets_no_thresholds(
    parts: DemoParts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, sane = build("Dskd"), []
    look = LambdaCallback(on_sanity_check_end=lambda *_: sane.append(model.post_processor.image_threshold.isnan()))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(max_steps=1, num_sanity_val_steps=1, callbacks=[look], default_root_dir=tmp_path, **quiet)
    trainer.fit(model, datamodule=parts)
    assert sane == [True]
    assert "holds no good images" not in caplog.text
    assert not model.post_processor.image_threshold.isnan()

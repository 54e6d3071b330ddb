"""Models that are used from Python: subclasses, frozen parts, an optimiser of the user, single networks."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning.pytorch import Trainer
from small_models import MODELS, build
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from anomalib_dmdd import DemoParts, Dmdd, Dskd
from anomalib_dmdd.models.base import DistillationPostProcessor

EngineFactory = Callable[..., Engine]
SMALL: dict[str, Any] = {"backbone": "test_resnet", "pre_trained": False}


class HandsOn(Dmdd):
    """Hands all arguments of its base on."""

    def __init__(self, extra: int = 1, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.extra = extra


class Narrow(Dmdd):
    """Takes two arguments only."""

    def __init__(self, anomaly_map_mode: str = "head_x_normality", image_size: int = 64) -> None:
        super().__init__(anomaly_map_mode=anomaly_map_mode, image_size=image_size, visualizer=False, **SMALL)


@pytest.mark.parametrize(
    ("cls", "settings"), [(HandsOn, SMALL | {"image_size": 64, "visualizer": False}), (Narrow, {})]
)
def test_a_subclass_takes_the_mode_of_its_checkpoint(
    cls: type[Dmdd], settings: dict[str, Any], parts: DemoParts, engine: EngineFactory
) -> None:
    trained, run = cls(anomaly_map_mode="sum", **settings), engine(max_steps=1)
    run.fit(trained, datamodule=parts)
    restored = cls(**settings)
    (scores,) = engine().test(restored, datamodule=parts, ckpt_path=run.best_model_path, verbose=False)
    assert restored.model.anomaly_map_mode == "sum"
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(restored.model.eval()(image).anomaly_map, trained.model.eval()(image).anomaly_map)
    assert scores


@pytest.mark.parametrize("name", MODELS)
def test_frozen_batch_normalisation_stays_frozen(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    model = build(name)
    norms = [part for part in model.model.modules() if isinstance(part, nn.BatchNorm2d)]
    before = [norm.eval().running_mean.clone() for norm in norms]
    teachers = {id(part) for part in model.model.teacher.modules()}
    anchor = getattr(model.model, "anchor", None)
    teachers |= {id(part) for part in anchor.modules()} if anchor else set()
    engine(max_steps=5).fit(model, datamodule=parts)
    same = [torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True)]
    assert all(equal for norm, equal in zip(norms, same, strict=True) if id(norm) not in teachers)


def test_thawing_the_model_does_not_thaw_the_stem(parts: DemoParts, engine: EngineFactory) -> None:
    model = build("Bikd")
    learning = [id(parameter) for parameter in model.teacher_parameters()]
    model.freeze()
    assert model.teacher_parameters() == []
    model.unfreeze()
    assert [id(parameter) for parameter in model.teacher_parameters()] == learning
    stem = next(model.model.teacher.parameters()).clone()
    engine(max_steps=5).fit(model, datamodule=parts)
    assert torch.equal(next(model.model.teacher.parameters()), stem)


def test_a_frozen_teacher_lets_the_student_learn(parts: DemoParts, engine: EngineFactory) -> None:
    model = build("Bikd")
    model.model.teacher.requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in model.model.named_parameters() if value.ndim > 1}
    engine(max_steps=5).fit(model, datamodule=parts)
    changed = {
        name.split(".")[0] for name, value in before.items() if not value.equal(model.get_parameter(f"model.{name}"))
    }
    assert changed == {"student"}


class OwnOptimizer(Dskd):
    """Trains with an optimiser without a schedule."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.encoder.parameters(), lr=1e-3)


def test_an_optimiser_of_the_user_keeps_the_default_length(parts: DemoParts, engine: EngineFactory) -> None:
    found = []
    for cls in (Dskd, OwnOptimizer):
        model = cls(**SMALL, image_size=64, visualizer=False, check_training_images=False)
        run = engine(limit_train_batches=1, limit_val_batches=0)
        model.on_train_batch_end = lambda *_, trainer=run: setattr(trainer.trainer, "should_stop", True)
        run.fit(model, datamodule=parts)
        found.append((run.trainer.max_epochs, run.trainer.check_val_every_n_epoch))
    assert found == [(200, 20), (200, 20)]


def test_augmentations_of_the_data_are_said_to_replace_ours(
    demo_root: Path, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    data = DemoParts(root=demo_root, train_batch_size=4, num_workers=0, train_augmentations=v2.Resize((64, 64)))
    with caplog.at_level(logging.INFO):
        engine(max_steps=1).fit(build("Dskd"), datamodule=data)
    assert "augmentations of the data module replace those of the model" in caplog.text


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_evaluation_mode_is_not_trained(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    with pytest.raises(ValueError, match=r"in evaluation mode, .* Call model.train\(\) first"):
        engine(max_steps=1).fit(build(name).eval(), datamodule=parts)


def test_an_exported_model_can_go_on_learning(parts: DemoParts, engine: EngineFactory, tmp_path: Path) -> None:
    model, run = build("Dskd"), engine(max_steps=1)
    run.fit(model, datamodule=parts)
    run.export(model, "onnx", export_root=tmp_path, input_size=(64, 64))
    engine(max_steps=1).fit(model, datamodule=parts)
    assert model.training


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_predicts_nearly_the_same(name: str, dtype: torch.dtype) -> None:
    network, images = build(name).model.eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images).anomaly_map
        found = network.to(dtype)(images.to(dtype)).anomaly_map.float()
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.05 * float(expected.max()))


def test_a_loaded_model_is_saved_again_without_a_run(parts: DemoParts, engine: EngineFactory, tmp_path: Path) -> None:
    run = engine(max_steps=1)
    run.fit(build("Dskd"), datamodule=parts)
    model = Dskd.load_from_checkpoint(run.best_model_path)
    trainer = Trainer(accelerator="cpu", logger=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "again.ckpt", weights_only=True)
    again = Dskd.load_from_checkpoint(tmp_path / "again.ckpt").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items() if value.numel() > 1)


class Logarithm(DistillationPostProcessor):
    """Scores below zero."""

    def image_score(self, anomaly_map: torch.Tensor) -> torch.Tensor:
        return anomaly_map.flatten(1).amax(1).log() - 9


@pytest.mark.parametrize("normalise", [True, False])
def test_negative_scores_are_refused(normalise: bool, parts: DemoParts, engine: EngineFactory) -> None:
    model = build("Dskd", post_processor=Logarithm(enable_normalization=normalise))
    with pytest.raises(ValueError, match=r"lowest image score is -.* start at 0"):
        engine(max_steps=1).fit(model, datamodule=parts)


class Crops(torch.utils.data.Dataset[ImageItem]):
    """Six parts of one file."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> ImageItem:
        image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))
        return ImageItem(image=image, image_path="one.png", gt_label=torch.tensor(index % 2))


def test_images_of_one_file_have_a_row_each(engine: EngineFactory, tmp_path: Path) -> None:
    loader = DataLoader(Crops(), batch_size=4, collate_fn=ImageBatch.collate)
    model: AnomalibModule = build("Dmdd")
    engine().predict(model, dataloaders=loader)
    (table,) = tmp_path.rglob("predictions.csv")
    assert len(pd.read_csv(table)) == 6


class InMemory(Crops):
    """Images that were never files."""

    def __getitem__(self, index: int) -> ImageItem:
        return ImageItem(image=super().__getitem__(index).image)


def test_images_without_a_file_have_a_picture_each(engine: EngineFactory, tmp_path: Path) -> None:
    loader = DataLoader(InMemory(), batch_size=4, collate_fn=ImageBatch.collate)
    engine().predict(build("Dskd", visualizer=True), dataloaders=loader)
    drawn = sorted(path.name for path in tmp_path.rglob("images/**/*.png"))
    assert drawn == ["0_0.png", "0_1.png", "0_2.png", "0_3.png", "1_0.png", "1_1.png"]

"""Checkpoints know their model: right answers without arguments, one clear line for what contradicts."""

import logging
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import Folder, PredictDataset
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, Evaluator
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from small_models import MODELS, build
from torchvision.transforms.v2 import Compose, Normalize, RandomAutocontrast, RandomVerticalFlip, Resize

import anomalib_dmdd
from anomalib_dmdd import DemoParts
from anomalib_dmdd.models.base import DistillationPostProcessor
from anomalib_dmdd.trained_model import load_trained

EngineFactory = Callable[..., Engine]
BACKBONE = "mobilenetv3_small_050"


class Custom(DistillationPostProcessor):
    """A post-processor of a user."""


@pytest.fixture(scope="module")
def checkpoints(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each model with another backbone than the default."""
    paths = {}
    for name in MODELS:
        parts = DemoParts(root=demo_root, train_batch_size=4, num_workers=0)
        settings = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
        run = Engine(default_root_dir=tmp_path_factory.mktemp(name), max_steps=1, limit_val_batches=1, **settings)
        run.fit(build(name, backbone=BACKBONE), datamodule=parts)
        paths[name] = Path(run.best_model_path)
    return paths


@pytest.mark.parametrize(("trained", "tested"), [(True, False), (False, True)])
def test_metrics_need_not_be_those_of_the_training(
    trained: bool, tested: bool, parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    def evaluator(with_aupro: bool) -> Evaluator | bool:
        return Evaluator(test_metrics=AUPRO(fields=["anomaly_map", "gt_mask"])) if with_aupro else True

    run, model = engine(max_steps=1), build("Dskd", evaluator=evaluator(trained))
    run.fit(model, datamodule=parts)
    run.trainer.save_checkpoint(tmp_path / "model.ckpt")
    (row,) = engine().test(
        build("Dskd", evaluator=evaluator(tested)), datamodule=parts, ckpt_path=tmp_path / "model.ckpt"
    )
    assert ("AUPRO" in row) == tested
    assert load_trained(tmp_path / "model.ckpt")[0].post_processor.image_threshold > 0


@pytest.mark.parametrize("name", MODELS)
def test_predict_takes_the_settings_of_the_checkpoint(
    name: str, checkpoints: dict[str, Path], demo_root: Path, engine: EngineFactory
) -> None:
    image = next(demo_root.rglob("test/chip/*.png"))
    default = getattr(anomalib_dmdd, name)(pre_trained=False, visualizer=False)
    (found,) = engine().predict(default, data_path=image, ckpt_path=checkpoints[name])
    loaded = type(default).load_from_checkpoint(checkpoints[name], visualizer=False)
    (expected,) = engine().predict(loaded, data_path=image)
    assert default.hparams["backbone"] == BACKBONE
    assert torch.allclose(found.anomaly_map, expected.anomaly_map, atol=1e-6)


def test_an_argument_that_contradicts_the_checkpoint_is_refused(
    checkpoints: dict[str, Path], parts: DemoParts, engine: EngineFactory
) -> None:
    with pytest.raises(ValueError, match=f"backbone: .* trained with '{BACKBONE}', but 'test_resnet' was asked for"):
        engine().test(build("Dmdd"), datamodule=parts, ckpt_path=checkpoints["Dmdd"])


@pytest.mark.parametrize("command", ["test", "fit"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"post_processor": lambda: DistillationPostProcessor(sigma=1.0)},
            "post_processor: .* sigma=4.0, but 1.0 was asked",
        ),
        ({"post_processor": lambda: Custom(image_sensitivity=0.9)}, "post_processor: the checkpoint was trained with"),
        (
            {"pre_processor": lambda: False},
            "pre_processor: the checkpoint was trained with one, but none was asked for",
        ),
        (
            {"pre_processor": lambda: PreProcessor(Compose([Resize((64, 64)), Normalize([0.5] * 3, [0.5] * 3)]))},
            r"pre_processor: the checkpoint was trained with transform=.*0\.485.*, but .*0\.5.* was asked for",
        ),
    ],
)
def test_another_pre_or_post_processor_is_refused(
    settings: dict[str, Callable[[], Any]],
    message: str,
    command: str,
    checkpoints: dict[str, Path],
    parts: DemoParts,
    engine: EngineFactory,
) -> None:
    model = build("Dskd", backbone=BACKBONE, **{name: make() for name, make in settings.items()})
    with pytest.raises(ValueError, match=message):
        getattr(engine(max_steps=2), command)(model=model, datamodule=parts, ckpt_path=checkpoints["Dskd"])


class Bordered(DistillationPostProcessor):
    """A post-processor of a user that cannot be made without an argument."""

    def __init__(self, border: Any, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(**settings)
        self.border = border

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "border")


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("Dmdd", "anomaly_map_mode", "sum"),
        ("Dskd", "embedding_input", "teacher"),
        ("Bikd", "backbone", "wide_resnet50_2"),
        ("Bikd", "layers", ["blocks.0", "blocks.1"]),
    ],
)
def test_a_load_in_python_refuses_a_contradicting_argument(
    name: str, argument: str, value: object, checkpoints: dict[str, Path]
) -> None:
    load = getattr(anomalib_dmdd, name).load_from_checkpoint
    with pytest.raises(ValueError, match=rf"{argument}: the checkpoint was trained with .* was asked for"):
        load(checkpoints[name], **{argument: value}, pre_trained=False)


@pytest.mark.parametrize(("trained", "given"), [(8, 8), ((4, 8), [4, 8]), (torch.ones(2), torch.ones(2))])
def test_a_post_processor_with_arguments_comes_back(
    trained: object, given: object, parts: DemoParts, engine: EngineFactory
) -> None:
    run = engine(max_steps=1, limit_val_batches=1)
    run.fit(build("Dskd", post_processor=Bordered(trained, sigma=2.0)), datamodule=parts)
    load = anomalib_dmdd.Dskd.load_from_checkpoint
    assert load(run.best_model_path, post_processor=Bordered(given)).post_processor.sigma == 2.0
    with pytest.raises(ValueError, match=r"post_processor: .* border=.*, but 9 was asked for"):
        load(run.best_model_path, post_processor=Bordered(9))


def test_a_pre_processor_of_another_size_is_refused_and_one_that_cannot_be_stored_stays(
    parts: DemoParts, engine: EngineFactory
) -> None:
    values = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    odd = Compose([Resize((64, 64)), RandomVerticalFlip(0), values])
    model, run = build("Dskd", pre_processor=PreProcessor(odd)), engine(max_steps=1, limit_val_batches=1)
    run.fit(model, datamodule=parts)
    run.test(model, datamodule=parts, ckpt_path=run.best_model_path)
    assert model.pre_processor.transform is odd
    other = engine(max_steps=1, limit_val_batches=1)
    other.fit(build("Dskd", size=(96, 96)), datamodule=parts)
    with pytest.raises(ValueError, match=r"image_size: .* \(96, 96\), but \(64, 64\) was asked for"):
        other.test(build("Dskd"), datamodule=parts, ckpt_path=other.best_model_path)


def test_weights_of_a_teacher_beside_a_checkpoint_are_not_read(
    checkpoints: dict[str, Path], parts: DemoParts, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    model = build("Dskd", backbone=BACKBONE, teacher_weights="missing.pth")
    engine(max_steps=2, limit_train_batches=2).fit(model, datamodule=parts, ckpt_path=checkpoints["Dskd"])
    assert "teacher_weights: missing.pth is not read" in caplog.text


def test_resuming_with_another_backbone_is_refused(
    checkpoints: dict[str, Path], parts: DemoParts, engine: EngineFactory
) -> None:
    default = anomalib_dmdd.Bikd(pre_trained=False)
    with pytest.raises(ValueError, match=f"backbone: .* trained with '{BACKBONE}'"):
        engine(max_steps=2).fit(default, datamodule=parts, ckpt_path=checkpoints["Bikd"])


def test_a_resumed_training_names_what_changed(
    checkpoints: dict[str, Path], parts: DemoParts, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    model = build("Dmdd", backbone=BACKBONE, augment=False)
    engine(max_epochs=3, limit_train_batches=1).fit(model, datamodule=parts, ckpt_path=checkpoints["Dmdd"])
    assert "augment: the training began with True, and goes on with False." in caplog.text
    assert "foreground" not in caplog.text


def test_a_checkpoint_of_another_model_is_named(
    checkpoints: dict[str, Path], parts: DemoParts, engine: EngineFactory
) -> None:
    with pytest.raises(ValueError, match="The checkpoint holds Bikd, but the model to load it into is Dskd"):
        engine().test(build("Dskd", backbone=BACKBONE), datamodule=parts, ckpt_path=checkpoints["Bikd"])


@pytest.mark.parametrize("name", ["Dmdd", "Dskd", "Bikd"])
def test_a_checkpoint_of_another_network_names_its_version(
    name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = torch.load(checkpoints[name], weights_only=True)
    checkpoint["anomalib_dmdd"]["version"] = "0.0.9"
    weights = checkpoint["state_dict"]
    removed = next(key for key in weights if key.startswith("model.") and "teacher" not in key)
    weights["model.former.weight"] = weights.pop(removed)
    torch.save(checkpoint, tmp_path / "former.ckpt")
    load = getattr(anomalib_dmdd, name).load_from_checkpoint
    with pytest.raises(ValueError, match=f"written by 0.0.9 of anomalib-dmdd, and its weights do not fit {name} of"):
        load(tmp_path / "former.ckpt")
    load(tmp_path / "former.ckpt", strict=False)  # the user knows
    del checkpoint["anomalib_dmdd"]["version"]
    torch.save(checkpoint, tmp_path / "former.ckpt")
    with pytest.raises(ValueError, match="written by an earlier version of anomalib-dmdd"):
        load(tmp_path / "former.ckpt")


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"list\.ckpt is not a checkpoint\."):
        anomalib_dmdd.Dskd.load_from_checkpoint(tmp_path / "list.ckpt")


@pytest.mark.parametrize(("trained", "loaded"), list(permutations(("Dmdd", "Dskd", "Bikd"), 2)))
def test_a_checkpoint_of_another_model_is_named_before_its_arguments(
    checkpoints: dict[str, Path], trained: str, loaded: str
) -> None:
    cls = getattr(anomalib_dmdd, loaded)
    with pytest.raises(ValueError, match=f"The checkpoint holds {trained}, but the model to load it into is {loaded}"):
        cls.load_from_checkpoint(checkpoints[trained])


def test_images_take_the_size_of_the_checkpoint(
    parts: DemoParts, demo_root: Path, engine: EngineFactory, tmp_path: Path
) -> None:
    run = engine(max_steps=1)
    run.fit(build("Dskd", size=(96, 96)), datamodule=parts)
    (tmp_path / "large").mkdir()
    for path in sorted(demo_root.rglob("test/chip/*.png"))[:2]:
        Image.open(path).resize((400, 400)).save(tmp_path / "large" / path.name)
    large = {"root": tmp_path, "normal_dir": "large", "test_split_mode": "none", "val_split_mode": "none"}
    found = {}
    for name, model in (
        ("default", anomalib_dmdd.Dskd(backbone="test_resnet", pre_trained=False, visualizer=False)),
        ("right", build("Dskd", size=(96, 96))),
    ):
        data = Folder("large", **large, num_workers=0)
        data.setup(TrainerFn.PREDICTING)
        data.test_data = data.train_data
        (batch,) = engine().predict(model, datamodule=data, ckpt_path=run.best_model_path)
        found[name] = batch.anomaly_map
    assert torch.equal(found["default"], found["right"]), "resized once, to the size of the checkpoint"


def test_another_image_size_is_refused(checkpoints: dict[str, Path], parts: DemoParts, engine: EngineFactory) -> None:
    refused = r"image_size: the checkpoint was trained with \(64, 64\), but \({0}, {0}\) was asked for"
    asked = anomalib_dmdd.Dskd(backbone=BACKBONE, pre_trained=False, image_size=128)
    with pytest.raises(ValueError, match=refused.format(128)):
        engine().test(asked, datamodule=parts, ckpt_path=checkpoints["Dskd"])
    resumed = anomalib_dmdd.Dskd(backbone=BACKBONE, pre_trained=False)
    with pytest.raises(ValueError, match=refused.format(256)):
        engine(max_steps=2).fit(resumed, datamodule=parts, ckpt_path=checkpoints["Dskd"])


def test_a_custom_post_processor_works_where_the_trainer_restores_it(
    parts: DemoParts, demo_root: Path, engine: EngineFactory
) -> None:
    run = engine(max_steps=1, limit_val_batches=1)
    run.fit(build("Dskd", post_processor=Custom(sigma=1.0)), datamodule=parts)
    image = next(demo_root.rglob("test/chip/*.png"))
    (found,) = engine().predict(build("Dskd"), data_path=image, ckpt_path=run.best_model_path)
    (expected,) = engine().predict(anomalib_dmdd.Dskd.load_from_checkpoint(run.best_model_path), data_path=image)
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert found.pred_score.item() == expected.pred_score.item()


def test_a_custom_post_processor_comes_back_or_is_asked_for(parts: DemoParts, engine: EngineFactory) -> None:
    run = engine(max_steps=1, limit_val_batches=1)
    run.fit(build("Dskd", post_processor=Custom(sigma=1.0)), datamodule=parts)
    loaded = anomalib_dmdd.Dskd.load_from_checkpoint(run.best_model_path)
    assert type(loaded.post_processor) is Custom
    assert loaded.post_processor.sigma == 1.0
    checkpoint = torch.load(run.best_model_path, weights_only=True)
    checkpoint["anomalib_dmdd"]["post_processor"] = "elsewhere.Unknown"
    torch.save(checkpoint, run.best_model_path)
    with pytest.raises(ValueError, match=r"post_processor: the checkpoint was trained with elsewhere\.Unknown"):
        anomalib_dmdd.Dskd.load_from_checkpoint(run.best_model_path)


@pytest.mark.parametrize("post_processor", [PostProcessor(), False])
def test_a_post_processor_of_anomalib_or_none_comes_back(
    post_processor: PostProcessor | bool, parts: DemoParts, engine: EngineFactory
) -> None:
    run, model = engine(max_steps=1), build("Dskd", post_processor=post_processor, evaluator=False)
    run.fit(model, datamodule=parts)
    loaded = anomalib_dmdd.Dskd.load_from_checkpoint(run.best_model_path)
    assert type(loaded.post_processor) is type(model.post_processor)
    engine().predict(build("Dskd", evaluator=False), datamodule=parts, ckpt_path=run.best_model_path)
    with pytest.raises(ValueError, match="not of this package"):
        load_trained(Path(run.best_model_path))


@pytest.mark.parametrize("name", MODELS)
def test_without_a_post_processor_scores_are_tested(name: str, parts: DemoParts, engine: EngineFactory) -> None:
    (row,) = engine(max_steps=1).train(build(name, post_processor=False), datamodule=parts)
    assert set(row) == {"image_AUROC", "pixel_AUROC"}


def test_a_broken_image_is_named(
    demo_root: Path, tmp_path: Path, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    whole = next(demo_root.rglob("test/chip/*.png")).read_bytes()
    (tmp_path / "whole.png").write_bytes(whole)
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.ERROR), pytest.raises(OSError, match="truncated"):
        engine().predict(build("Dskd"), dataset=PredictDataset(tmp_path))
    (message,) = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert str(tmp_path / "half.png") in message
    assert "whole.png" not in message


def test_an_image_too_large_for_pillow_is_named(
    demo_root: Path, engine: EngineFactory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses twice as many
    image = next(demo_root.rglob("test/chip/*.png"))
    with caplog.at_level(logging.ERROR), pytest.raises(Image.DecompressionBombError):
        engine().predict(build("Dskd"), data_path=image)
    assert f"1 image files cannot be read: {image}" in caplog.text


def test_16_bit_images_are_reported(tmp_path: Path, engine: EngineFactory, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        (tmp_path / "good").mkdir(exist_ok=True)
        Image.fromarray(torch.randint(65536, (64, 64)).to(torch.uint16).numpy()).save(tmp_path / f"good/{number}.png")
    folder = Folder(name="deep", root=tmp_path, normal_dir="good", train_batch_size=4, num_workers=0)
    with caplog.at_level(logging.WARNING):
        engine(max_steps=1).fit(build("Dskd"), datamodule=folder)
    assert caplog.text.count("more than 8 bits a channel") == 1


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_images_behind_others_are_reported(
    dtype: type, tmp_path: Path, engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        pixels = np.random.default_rng(0).random((64, 64)) * (255 if name == "a.tif" else 1)
        Image.fromarray(pixels.astype(np.uint8 if name == "a.tif" else dtype)).save(tmp_path / name)
    engine().predict(build("Dskd"), dataset=PredictDataset(tmp_path))
    assert caplog.text.count("more than 8 bits a channel") == 1
    assert str(tmp_path / "b.tif") in caplog.text


def test_a_pre_processor_that_no_checkpoint_stores_must_be_passed(
    parts: DemoParts, engine: Callable[..., Engine]
) -> None:
    def own() -> PreProcessor:
        return PreProcessor(Compose([Resize((64, 64)), RandomAutocontrast(p=1.0)]))

    run = engine(max_steps=1)
    run.fit(build("Dskd", pre_processor=own()), datamodule=parts)
    with pytest.raises(ValueError, match="pre_processor: the checkpoint has no transforms"):
        engine().predict(build("Dskd"), datamodule=parts, ckpt_path=run.best_model_path)
    same = build("Dskd", pre_processor=own())
    engine().predict(same, datamodule=parts, ckpt_path=run.best_model_path)
    assert isinstance(same.pre_processor.transform.transforms[1], RandomAutocontrast)

"""8-bit exports judge as the original does, and broken ones are not written."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from openvino import opset13
from small_models import MODELS, build
from torchvision.transforms.v2.functional import resize

from anomalib_dmdd import DemoParts, Dmdd
from anomalib_dmdd.models.base import export, quantization

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def answers(path: Path, parts: DemoParts) -> dict[str, np.ndarray]:
    run = ov.Core().compile_model(path, "CPU", EXACT)
    outputs = [run(batch.image.numpy()) for batch in parts.val_dataloader()]
    return {
        name: np.concatenate([output[name].reshape(len(output["pred_score"]), -1) for output in outputs])
        for name in ("pred_score", "pred_label", "anomaly_map")
    }


def quantized_inputs(model: ov.Model) -> set[str]:
    """Types of the operations that read quantised values."""
    return {
        reader.get_node().get_type_name()
        for operation in model.get_ops()
        if operation.get_type_name() == "FakeQuantize"
        for reader in operation.output(0).get_target_inputs()
    }


def check_facts(trained: AnomalibModule, exported: ov.Model) -> None:
    facts = {name: exported.get_rt_info(["anomalib_dmdd", name]).astype(str) for name in trained.facts()}
    assert facts["model"] == type(trained).__name__
    assert facts["image_size"] == "64x64"
    assert facts["scores"] == "normalized"
    assert facts["dataset"] == "DemoParts flange"
    assert facts["trained"].startswith("20")
    assert float(facts["image_threshold"]) == pytest.approx(trained.post_processor.image_threshold.item())


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "RECOMMENDED_IMAGES", 30)


@pytest.fixture
def trained(parts: DemoParts, engine: Callable[..., Engine], request: pytest.FixtureRequest) -> AnomalibModule:
    model = build(request.param, backbone="resnet18")  # a smaller network has little that 8 bits could spare
    engine(max_steps=20, check_val_every_n_epoch=1000, limit_val_batches=1.0).fit(model, datamodule=parts)
    return model.eval()


@pytest.mark.parametrize("trained", MODELS, indirect=True)
def test_int8_judges_as_fp32_does(
    trained: AnomalibModule,
    parts: DemoParts,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    capfd.readouterr()
    with caplog.at_level(logging.INFO):  # the level of the command
        exact = trained.to_openvino(tmp_path / "fp32")
    assert len(caplog.records) < 5
    printed = capfd.readouterr()
    assert len((printed.out + printed.err).splitlines()) < 10
    check_facts(trained, ov.Core().read_model(exact))
    small = trained.to_openvino(tmp_path / "int8", compression_type="INT8_PTQ", datamodule=parts)
    assert (parts.train_batch_size, parts.eval_batch_size) == (4, 16), "the data module is as before"
    expected, found = answers(exact, parts), answers(small, parts)
    assert np.ptp(expected["pred_score"]) > 0.1
    clear = np.abs(expected["pred_score"] - 0.5) > quantization.MARGIN
    assert (expected["pred_label"] == found["pred_label"])[clear].mean() >= 0.99
    assert np.median(np.abs(expected["pred_score"] - found["pred_score"])) < quantization.MARGIN
    assert np.corrcoef(expected["anomaly_map"].ravel(), found["anomaly_map"].ravel())[0, 1] > 0.98
    size = [path.with_suffix(".bin").stat().st_size for path in (exact, small)]
    assert size[1] < 0.3 * size[0]
    first = next(one for one in ov.Core().read_model(small).get_ordered_ops() if one.get_type_name() == "Convolution")
    assert first.input_value(0).get_node().get_type_name() != "FakeQuantize", "brighter images would be clipped"
    readers = quantized_inputs(ov.Core().read_model(small))
    assert "Convolution" in readers
    assert not readers & {"Power", "Divide", "ReduceMean", "ReduceSum", "Sqrt", "ReduceMax", "Sigmoid"}


@pytest.mark.parametrize("trained", ["Bikd"], indirect=True)
def test_accuracy_control(trained: AnomalibModule, parts: DemoParts, tmp_path: Path) -> None:
    path = trained.to_openvino(tmp_path, compression_type="INT8_ACQ", datamodule=parts)
    assert "Convolution" in quantized_inputs(ov.Core().read_model(path))


@pytest.mark.parametrize("trained", ["Bikd"], indirect=True)
@pytest.mark.parametrize("split", ["from_train", "none"])
def test_accuracy_control_without_defects_judges_changes_of_the_scores(
    trained: AnomalibModule, split: str, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []

    def spy(model: object, images: list[np.ndarray]) -> tuple[list[object], quantization.Judge]:
        pairs, judge = judge_of(model, images)

        def record(compiled: object, pairs: list[object]) -> tuple[float, None]:
            judged.append(judge(compiled, pairs)[0])
            return judged[-1], None

        return pairs, record

    judge_of = quantization.score_judge
    monkeypatch.setattr(quantization, "score_judge", spy)
    good = demo_root / "flange" / "train" / "good"
    data = Folder("good", good, num_workers=0, test_split_mode="none", val_split_mode=split)
    trained.to_openvino(tmp_path, compression_type="INT8_ACQ", datamodule=data)
    assert judged[0] == pytest.approx(1), "the original agrees with itself"
    assert 0.9 < min(judged) < judged[0]


@pytest.mark.parametrize("trained", ["Dmdd"], indirect=True)
def test_a_broken_model_is_not_written(
    trained: AnomalibModule, parts: DemoParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threshold = trained.post_processor.get_buffer("_image_threshold")
    threshold *= 10
    broken = ov.Core().read_model(trained.to_openvino(tmp_path / "broken"))
    threshold /= 10
    monkeypatch.setattr(export, "quantize", lambda *_: broken)
    with pytest.raises(RuntimeError, match="differs from the original"):
        trained.to_openvino(tmp_path / "int8", compression_type="int8_ptq", datamodule=parts)
    assert not list((tmp_path / "int8").rglob("*.xml"))


@pytest.mark.parametrize(("shape", "side"), [([-1, 3, -1, -1], 256), ([-1, 3, 64, 64], 64), ([2, 3, 64, 64], 64)])
def test_calibration_images_fit_the_model(shape: list[int], side: int, parts: DemoParts) -> None:
    model = ov.Model([], [opset13.parameter(shape, np.float32)], "input")
    images = quantization.load_calibration_images(model, parts)
    assert {image.shape for image in images} == {(max(1, shape[0]), 3, side, side)}
    first = parts.val_data[0].image
    expected = resize(first, [side, side], antialias=True)
    assert np.allclose(images[0][0], expected.numpy(), atol=1e-6)


def test_training_images_join_few_validation_images(
    parts: DemoParts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts.setup("fit")
    monkeypatch.setattr(parts, "setup", lambda _stage: None)  # it would split the images anew
    parts.val_data = parts.val_data.subsample([0, 1])
    model = ov.Model([], [opset13.parameter([-1, 3, -1, -1], np.float32)], "input")
    images = quantization.load_calibration_images(model, parts)
    expected = [
        dataset[index].image[None].numpy() for dataset in (parts.val_data, parts.train_data) for index in (0, 1)
    ]
    assert len(images) == 30
    assert all(any(np.array_equal(image, one) for one in images) for image in expected[:3])
    assert len(parts.val_data) == 2, "the data module keeps its images"
    assert not caplog.records


def test_quantisation_asks_for_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--data"):
        build("Dskd").to_openvino(tmp_path, compression_type="INT8_PTQ")


def test_facts_of_the_training_are_part_of_the_checkpoint(parts: DemoParts, engine: Callable[..., Engine]) -> None:
    run, model = engine(max_steps=1), build("Dmdd")
    run.fit(model, datamodule=parts)
    again = Dmdd.load_from_checkpoint(run.best_model_path)
    assert again.facts() == model.facts()
    assert again.facts()["dataset"] == "DemoParts flange"

"""One answer from Engine, torch, ONNX and OpenVINO, and nothing fetched on the way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from PIL import Image
from small_models import MODELS, build
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

import anomalib_dmdd
from anomalib_dmdd import DemoParts

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}  # some processors would otherwise compute in half precision
SIDE = 64

Answers = dict[str, np.ndarray]


def assert_equal(found: Answers, expected: Answers, tolerance: float) -> None:
    """Maps and scores agree, and so do labels wherever the score is not at the threshold."""
    for name in ("pred_score", "anomaly_map"):
        assert np.abs(found[name].reshape(expected[name].shape) - expected[name]).max() < tolerance, name
    clear = np.abs(expected["pred_score"] - 0.5) > tolerance
    assert clear.any()
    assert (found["pred_label"].ravel() == expected["pred_label"].ravel())[clear.ravel()].all()


def openvino_answers(path: Path, images: np.ndarray, batch: int) -> Answers:
    """Outputs for all images, in batches."""
    run = ov.Core().compile_model(path, "CPU", EXACT)
    names = ("pred_score", "pred_label", "anomaly_map")
    parts = [{name: run(images[i : i + batch])[name].copy() for name in names} for i in range(0, len(images), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def torch_answers(path: Path, images: np.ndarray) -> Answers:
    """Outputs of the exported torch model."""
    with torch.no_grad():
        found = torch.load(path, weights_only=False)["model"].eval()(torch.tensor(images))
    return {name: np.asarray(getattr(found, name)) for name in ("pred_score", "pred_label", "anomaly_map")}


def resized(pictures: list[Path], size: tuple[int, int], mode: str = "RGB") -> list[Image.Image]:
    """Pictures of a width and a height."""
    return [Image.open(path).convert(mode).resize(size) for path in pictures]


def stacked(pictures: list[Image.Image]) -> np.ndarray:
    """Pictures as values from 0 to 1, ``(N, 3, H, W)``."""
    return np.stack([np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 255 for picture in pictures])


@pytest.mark.parametrize("name", MODELS)
def test_exports_agree(
    name: str,
    parts: DemoParts,
    demo_root: Path,
    engine: Callable[..., Engine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # inferencers keep a cache in the working directory
    run = engine(max_steps=8)
    run.fit(build(name), datamodule=parts)
    # pre_trained is left at its default: nothing may be fetched for a model that comes from a checkpoint
    model = getattr(anomalib_dmdd, name).load_from_checkpoint(run.best_model_path, pre_trained=True)
    files = [*sorted(demo_root.rglob("test/chip/*.png"))[:5], *sorted(demo_root.rglob("test/good/*.png"))[:3]]
    torch_file, exact = model.to_torch(tmp_path), model.to_openvino(tmp_path)
    fixed = model.to_openvino(tmp_path / "fixed", input_size=(SIDE, SIDE))
    # One model is enough for the files that take the same way as OpenVINO's in single precision.
    free = [exact, model.to_onnx(tmp_path)] if name == "Dmdd" else [exact]
    half = [model.to_openvino(tmp_path / "half", compression_type="fp16")] if name == "Dmdd" else []

    pictures = resized(files, (SIDE, SIDE))  # so that nothing resizes them
    images, expected = stacked(pictures), engine_answers(run, model, pictures, tmp_path / "rgb")
    assert np.ptp(expected["pred_score"]) > 0.01
    assert_equal(torch_answers(torch_file, images), expected, 1e-4)
    for path in (*free, fixed):
        for batch in (1, 8):
            assert_equal(openvino_answers(path, images, batch), expected, 1e-4)
    for path in half:
        assert_equal(openvino_answers(path, images, 8), expected, 1e-2)

    for size in ((100, 76), (48, 64)):
        images = stacked(resized(files, size))
        expected = torch_answers(torch_file, images)
        for path in free:
            assert_equal(openvino_answers(path, images, 8), expected, 1e-4)

    grey = resized(files[:2], (SIDE, SIDE), "L")
    expected = engine_answers(run, model, grey, tmp_path / "grey")
    inferencer = OpenVINOInferencer(fixed, device="CPU", config=EXACT)
    found = [inferencer.predict(path) for path in sorted((tmp_path / "grey").iterdir())]
    assert np.abs(np.concatenate([one.anomaly_map for one in found]).squeeze() - expected["anomaly_map"]).max() < 1e-4


def engine_answers(run: Engine, model: AnomalibModule, pictures: list[Image.Image], folder: Path) -> Answers:
    """What the Engine predicts for pictures."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")
    batches = run.predict(model, data_path=folder)
    names = ("pred_score", "pred_label", "anomaly_map")
    return {name: torch.cat([getattr(batch, name) for batch in batches]).squeeze().numpy() for name in names}


@pytest.mark.parametrize(("size", "warned"), [((SIDE, SIDE), False), ((2 * SIDE, SIDE), True), (None, False)])
def test_a_size_that_was_not_trained(
    size: tuple[int, int] | None, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build("Bikd").eval().to_onnx(tmp_path, input_size=size)
    assert ("128x64, but the model was trained with 64x64" in caplog.text) == warned


@pytest.mark.parametrize("crop", [True, False])
def test_a_pre_processor_that_crops(crop: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps = [Resize((96, 96)), CenterCrop(64)] if crop else [Resize((64, 64))]
    build("Bikd", pre_processor=PreProcessor(Compose(steps))).eval().to_onnx(tmp_path, input_size=(64, 64))
    assert ("crops images" in caplog.text) == crop


def test_a_size_without_pixels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"input_size: .* not \[0, 64\]"):
        build("Bikd").to_openvino(tmp_path, input_size=(0, 64))
    assert not list(tmp_path.iterdir())


def test_scores_without_a_post_processor_are_called_raw() -> None:
    assert build("Bikd", post_processor=False).facts()["scores"] == "raw"
    assert build("Bikd").facts()["scores"] == "normalized"


def test_bikd_exports_without_its_anchor(parts: DemoParts, engine: Callable[..., Engine], tmp_path: Path) -> None:
    model = build("Bikd")
    engine(max_steps=1).fit(model, datamodule=parts)
    path = model.to_torch(tmp_path)
    exported = torch.load(path, weights_only=False)["model"]
    assert exported.model.anchor is None
    assert model.model.anchor is not None
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64)
        assert torch.equal(exported.eval()(images).anomaly_map, model.eval()(images).anomaly_map)

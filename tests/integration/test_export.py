"""One answer from Engine, TorchInferencer, ONNX and OpenVINO, and nothing fetched on the way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer, TorchInferencer
from anomalib.engine import Engine
from small_models import MODELS, build

import anomalib_dmdd
from anomalib_dmdd import DemoParts

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}  # some processors would otherwise compute in half precision


@pytest.mark.parametrize("name", MODELS)
def test_exports_agree_with_the_engine(
    name: str, parts: DemoParts, demo_root: Path, engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    run = engine(max_steps=2)
    # The size of the images: where Anomalib's exported pre-processor has to shrink, it does so without antialiasing.
    run.fit(build(name, size=(256, 256)), datamodule=parts)
    checkpoint = run.best_model_path
    image = next(demo_root.rglob("test/chip/*.png"))
    # pre_trained is left at its default: nothing may be fetched for a model that comes from a checkpoint
    model = getattr(anomalib_dmdd, name).load_from_checkpoint(checkpoint, pre_trained=True)
    (expected,) = engine().predict(model, data_path=image, ckpt_path=checkpoint)
    for kind, size in (("torch", None), ("onnx", None), ("openvino", (256, 256))):
        path = engine().export(
            model, kind, export_root=run.trainer.default_root_dir, input_size=size, ckpt_path=checkpoint
        )
        torch_kind = kind == "torch"
        inferencer = TorchInferencer(path) if torch_kind else OpenVINOInferencer(path, device="CPU", config=EXACT)
        with torch.no_grad():
            answer = inferencer.predict(str(image))
        score, anomaly_map = np.asarray(answer.pred_score), np.asarray(answer.anomaly_map)
        assert score.item() == pytest.approx(expected.pred_score.item(), abs=2e-3)
        assert np.abs(anomaly_map.squeeze() - expected.anomaly_map.numpy().squeeze()).max() < 2e-3


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

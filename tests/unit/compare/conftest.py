from collections.abc import Callable
from pathlib import Path

import pytest
from jsonargparse import Namespace
from PIL import Image

from anomalib_dmdd.compare.command import parse
from anomalib_dmdd.compare.plan import Run


@pytest.fixture
def make_run() -> Callable[..., Run]:
    def make(label: str = "Padim", category: str = "bolt", seed: int = 0, **changes: object) -> Run:
        settings = {
            "model": {"class_path": f"anomalib.models.{label}", "init_args": {}},
            "data": {"class_path": "MVTec", "init_args": {"category": category}},
            "trainer": {},
            "code": "0123456789ab",
            "images": "01234567",
            "image_size": 64,
            "accelerator": "cpu",
            "threads": 2,
            "openvino": ["FP32"],
            "timed_passes": 5,
        }
        return Run(label=label, category=category, seed=seed, **(settings | changes))

    return make


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Namespace]:
    for category in ("bolt", "nut"):
        for file in ("train/good/0.png", "test/good/0.png", "test/bad/0.png", "ground_truth/bad/0_mask.png"):
            path = tmp_path / "parts" / category / file
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(path)

    def make(models: list[str | dict[str, object]], **changes: object) -> Namespace:
        settings = parse(["--models", "Padim", "--data.category", "bolt", "--accelerator", "cpu"])
        settings.data.init_args = {"root": str(tmp_path / "parts")} | changes.pop("init_args", {})
        for name, value in {"models": models, **changes}.items():
            settings[name] = value
        return settings

    return make

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonargparse import Namespace

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
        (tmp_path / "parts" / category / "train" / "good").mkdir(parents=True)

    def make(models: list[str | dict[str, object]], **changes: object) -> Namespace:
        settings = parse(["--models", "Padim", "--data.category", "bolt", "--accelerator", "cpu"])
        settings.data.init_args = {"root": str(tmp_path / "parts")} | changes.pop("init_args", {})
        for name, value in {"models": models, **changes}.items():
            settings[name] = value
        return settings

    return make

"""Training that is interrupted and resumed, or repeated, ends with the same weights to the last bit."""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from conftest import MODELS, build
from lightning import seed_everything

from anomalib_dmdd import DemoParts
from anomalib_dmdd.models.base import DefaultLength

EngineFactory = Callable[..., Engine]
SMALL = {"limit_train_batches": 3, "limit_val_batches": 1}


def assert_equal_states(one: AnomalibModule, other: AnomalibModule) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    different = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    assert not different


def straight_and_resumed(
    name: str, parts: DemoParts, engine: EngineFactory, folder: Path, at: str, **settings: Any
) -> tuple[AnomalibModule, AnomalibModule]:
    """Train in one go with a checkpoint on the way, then again from that checkpoint in another random state."""
    saving = {"every_n_train_steps": 1} if at == "batch" else {"save_on_train_epoch_end": at == "epoch"}
    keep_all = ModelCheckpoint(folder, "{step}", save_top_k=-1, **saving)
    seed_everything(7, workers=True)
    straight = build(name)
    engine(callbacks=[keep_all], **settings).fit(straight, datamodule=parts)

    seed_everything(8, workers=True)
    random.seed(8)
    resumed = build(name)
    engine(**settings).fit(resumed, datamodule=parts, ckpt_path=folder / "step=6.ckpt")
    return straight, resumed


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", MODELS)
def test_resumed_training_repeats_the_uninterrupted_one(
    name: str, workers: int, parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    parts.num_workers = workers
    assert_equal_states(*straight_and_resumed(name, parts, engine, tmp_path, "epoch", max_epochs=4, **SMALL))


@pytest.mark.parametrize("at", ["epoch", "validation", "batch"])
@pytest.mark.parametrize("length", [{"max_epochs": 4}, {"max_steps": 12}, {"max_steps": 11}, {}])
def test_every_checkpoint_at_the_end_of_an_epoch_resumes_exactly(
    at: str,
    length: dict[str, int],
    parts: DemoParts,
    engine: EngineFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = type(build("Dskd"))
    monkeypatch.setattr(model, "default_length", DefaultLength(epochs=4))
    assert_equal_states(*straight_and_resumed("Dskd", parts, engine, tmp_path, at, **length, **SMALL))
    assert not any("middle of an epoch" in record.getMessage() for record in caplog.records)


def test_a_checkpoint_from_the_middle_of_an_epoch_warns(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = {"limit_train_batches": 4, "limit_val_batches": 1, "max_epochs": 3}
    with caplog.at_level(logging.WARNING):
        straight_and_resumed("Dskd", parts, engine, tmp_path, "batch", **small)
    assert any("middle of an epoch" in record.getMessage() for record in caplog.records)

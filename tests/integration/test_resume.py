"""Training that is interrupted and resumed, or repeated, ends with the same weights to the last bit."""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning import seed_everything
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.strategies import SingleDeviceStrategy
from small_models import MODELS, build

from anomalib_dmdd import Bikd, DemoParts, Dskd
from anomalib_dmdd.models.base import DefaultLength

EngineFactory = Callable[..., Engine]


def assert_equal_states(one: AnomalibModule, other: AnomalibModule) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    different = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    assert not different


def straight_and_resumed(
    name: str, parts: DemoParts, engine: EngineFactory, folder: Path, saving: dict[str, Any], **settings: Any
) -> tuple[AnomalibModule, AnomalibModule]:
    """Train in one go with a checkpoint on the way, then again from that checkpoint in another random state."""
    settings = {"limit_train_batches": 2, "limit_val_batches": 1, **settings}
    seed_everything(7, workers=True)
    straight = build(name)
    keep_all = ModelCheckpoint(folder, "{step}", save_top_k=-1, **saving)
    engine(callbacks=[keep_all], **settings).fit(straight, datamodule=parts)

    seed_everything(8, workers=True)
    resumed = build(name)
    engine(**settings).fit(resumed, datamodule=parts, ckpt_path=folder / "step=4.ckpt")
    return straight, resumed


def small_bikd() -> Bikd:
    """A model whose weights follow the seed of the test; ``build`` has a seed of its own."""
    settings = {"image_size": 64, "visualizer": False, "check_training_images": False}
    return Bikd(backbone="test_resnet", pre_trained=False, **settings)


@pytest.mark.parametrize("seeds_again", [False, True], ids=["one process", "as several processes"])
def test_trainings_after_one_seed_differ_and_repeat_with_it(
    seeds_again: bool, parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seeds_again:
        monkeypatch.setattr(SingleDeviceStrategy, "setup_environment", lambda _: reset_seed())
    ends = []
    for seeded in (True, False, False, True):
        if seeded:
            seed_everything(3, workers=True)
        model = small_bikd()
        engine(max_steps=1, limit_val_batches=0).fit(model, datamodule=parts)
        ends.append(torch.cat([weights.detach().flatten() for weights in model.model.parameters()]))
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], ends[2])
    assert torch.equal(ends[0], ends[3])


def test_a_seed_of_the_environment_alone_decides_what_a_step_draws(
    parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = build("Bikd")
        torch.manual_seed(seed)
        engine(max_steps=1, limit_val_batches=0).fit(model, datamodule=parts)
        ends.append(torch.cat([weights.detach().flatten() for weights in model.model.parameters()]))
    assert torch.equal(*ends)


def test_a_later_training_is_resumed_with_its_own_random_numbers(
    parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    seed_everything(6, workers=True)
    engine(max_steps=1, limit_val_batches=0).fit(small_bikd(), datamodule=parts)
    straight, keep_all = small_bikd(), ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=True)
    settings = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}
    engine(callbacks=[keep_all], **settings).fit(straight, datamodule=parts)
    resumed = small_bikd()
    engine(**settings).fit(resumed, datamodule=parts, ckpt_path=tmp_path / "step=2.ckpt")
    assert_equal_states(straight, resumed)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", MODELS)
def test_resumed_training_repeats_the_uninterrupted_one(
    name: str, workers: int, parts: DemoParts, engine: EngineFactory, tmp_path: Path
) -> None:
    parts.num_workers = workers
    saving = {"save_on_train_epoch_end": workers == 0}  # else at the end of the validation
    assert_equal_states(*straight_and_resumed(name, parts, engine, tmp_path, saving, max_epochs=4))


@pytest.mark.parametrize(
    ("length", "at_epoch_end"), [({"max_steps": 8}, True), ({"max_steps": 7}, False), ({}, True), ({}, False)]
)
def test_resumption_is_exact_with_every_kind_of_length(
    length: dict[str, int],
    at_epoch_end: bool,
    parts: DemoParts,
    engine: EngineFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Dskd, "default_length", DefaultLength(epochs=4))
    parts.num_workers = 1  # a worker takes the order of the images when Lightning makes the iterator
    saving = {"save_on_train_epoch_end": at_epoch_end}
    assert_equal_states(*straight_and_resumed("Dskd", parts, engine, tmp_path, saving, **length))
    assert not any("end of an epoch" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("batches", [2, 3])  # the fourth step is the last of an epoch, or not
def test_a_checkpoint_from_before_the_end_of_an_epoch_warns(
    batches: int, parts: DemoParts, engine: EngineFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"limit_train_batches": batches, "max_epochs": 3}
    with caplog.at_level(logging.WARNING):
        straight_and_resumed("Dskd", parts, engine, tmp_path, {"every_n_train_steps": 4}, **settings)
    assert any("before the end of an epoch" in record.getMessage() for record in caplog.records)


def test_runs_in_different_folders_repeat_each_other(demo_root: Path, tmp_path: Path) -> None:
    results = []
    for hash_seed in ("1", "2"):
        root, out = tmp_path / hash_seed / "parts", tmp_path / hash_seed / "out"
        for file in sorted(demo_root.rglob("*.*"), reverse=hash_seed == "2"):  # the order in which a folder lists them
            copy = root / file.relative_to(demo_root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        script = Path(__file__).parents[1] / "helpers" / "repeated.py"
        search = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": search, "PYTHONHASHSEED": hash_seed}
        run([sys.executable, str(script), str(root), str(out)], env=environment, check=True, capture_output=True)
        results.append(torch.load(out / "results.pt", weights_only=True))
    assert len(results[0]) == 4
    for name, first in results[0].items():
        different = [key for key in first if not torch.equal(*(torch.as_tensor(r[name][key]) for r in results))]
        assert not different, name

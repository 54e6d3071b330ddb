"""The seed of the command: applied to the models of this package, ignored for those of Anomalib as ever."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anomalib.models
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from jsonargparse import Namespace

from anomalib_dmdd import Dmdd
from anomalib_dmdd.models.base.random_state import StepSeeds
from anomalib_dmdd.seed import let_command_seed


def first_number(class_path: str, seed: int | bool, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> float:
    """The first random number after the command has prepared to build a model."""
    monkeypatch.setattr(AnomalibCLI, "before_instantiate_classes", lambda _self: None)
    let_command_seed()
    values = Namespace(model=Namespace(class_path=class_path), seed_everything=seed, **settings)
    torch.manual_seed(999)
    command = SimpleNamespace(config={"train": values}, subcommand="train")
    AnomalibCLI.before_instantiate_classes(command)
    return float(torch.rand(()))


def test_a_model_of_this_package_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = float(torch.rand((), generator=torch.Generator().manual_seed(3)))
    assert first_number("anomalib_dmdd.Dmdd", 3, monkeypatch) == expected
    assert first_number("anomalib_dmdd.Dmdd", seed=False, monkeypatch=monkeypatch) != expected


def test_a_model_is_known_by_every_name_and_through_its_subclasses(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = float(torch.rand((), generator=torch.Generator().manual_seed(3)))
    monkeypatch.setattr(anomalib.models, "Dmdd", Dmdd, raising=False)
    monkeypatch.setattr(anomalib.models, "Own", type("Own", (Dmdd,), {"__module__": "own"}), raising=False)
    assert first_number("anomalib.models.Dmdd", 3, monkeypatch) == expected
    assert first_number("anomalib.models.Own", 3, monkeypatch) == expected


def test_a_random_split_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in ((None, 3), (7, 7)):
        data = Namespace(class_path="Folder", init_args=Namespace(seed=given))
        first_number("anomalib_dmdd.Dmdd", 3, monkeypatch, data=data)
        assert data.init_args.seed == expected
    data = Namespace(class_path="DemoParts", init_args=Namespace(root="parts"))
    first_number("anomalib_dmdd.Dmdd", 3, monkeypatch, data=data)
    assert data.init_args == Namespace(root="parts")


def test_a_model_of_anomalib_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    unseeded = float(torch.rand((), generator=torch.Generator().manual_seed(999)))
    assert first_number("anomalib.models.Stfpm", 3, monkeypatch) == unseeded


def test_a_random_seed_is_that_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    state = {"seed": 5}
    torch.save({"callbacks": {StepSeeds().state_key: state}}, tmp_path / "model.ckpt")
    (tmp_path / "broken.ckpt").write_bytes(b"")
    expected = float(torch.rand((), generator=torch.Generator().manual_seed(5)))
    numbers = [
        first_number("anomalib_dmdd.Dmdd", seed, monkeypatch, ckpt_path=str(tmp_path / name))
        for name, seed in [("model.ckpt", True), ("model.ckpt", 3), ("broken.ckpt", True), ("missing.ckpt", True)]
    ]
    assert [number == expected for number in numbers] == [True, False, False, False]


def test_processes_of_one_job_draw_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(**job: str) -> float:
        monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in job.items():
            monkeypatch.setenv(name, value)
        return first_number("anomalib_dmdd.Dmdd", seed=True, monkeypatch=monkeypatch)

    assert draw(TORCHELASTIC_RUN_ID="a") == draw(TORCHELASTIC_RUN_ID="a") != draw(TORCHELASTIC_RUN_ID="b")
    assert draw(SLURM_NTASKS="2", SLURM_JOB_ID="1") == draw(SLURM_NTASKS="2", SLURM_JOB_ID="1")
    assert draw(SLURM_NTASKS="1", SLURM_JOB_ID="1") != draw(SLURM_NTASKS="1", SLURM_JOB_ID="1"), "a random one"

"""The seed of the command: applied to the models of this package, ignored for those of Anomalib as ever."""

from types import SimpleNamespace

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from jsonargparse import Namespace

from anomalib_dmdd.seed import let_command_seed


def first_number(class_path: str, seed: int | bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """The first random number after the command has prepared to build a model."""
    monkeypatch.setattr(AnomalibCLI, "before_instantiate_classes", lambda _self: None)
    let_command_seed()
    settings = Namespace(model=Namespace(class_path=class_path), seed_everything=seed)
    torch.manual_seed(999)
    command = SimpleNamespace(config={"train": settings}, subcommand="train")
    AnomalibCLI.before_instantiate_classes(command)
    return float(torch.rand(()))


def test_a_model_of_this_package_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = float(torch.rand((), generator=torch.Generator().manual_seed(3)))
    assert first_number("anomalib_dmdd.Dmdd", 3, monkeypatch) == expected
    assert first_number("anomalib_dmdd.Dmdd", seed=False, monkeypatch=monkeypatch) != expected


def test_a_model_of_anomalib_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    unseeded = float(torch.rand((), generator=torch.Generator().manual_seed(999)))
    assert first_number("anomalib.models.Stfpm", 3, monkeypatch) == unseeded

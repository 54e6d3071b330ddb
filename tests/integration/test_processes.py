"""Training in two processes with plain DDP, which is the strategy that ``--trainer.strategy ddp`` gives."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import torch
from anomalib.engine import Engine
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch import Callback
from small_models import MODELS, build

from anomalib_dmdd import DemoParts
from anomalib_dmdd.models.base.replicas import EqualReplicas

EngineFactory = Callable[..., Engine]
TESTS = Path(__file__).parents[1]


def train_two_replicas(
    name: str, root: Path, out: Path, val_split_mode: str = "same_as_test", **trainer: Any
) -> list[dict[str, Any]]:
    """What each of two processes saw and ended with."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(TESTS / "helpers" / "replica.py"), name, str(root), str(out), json.dumps(trainer)]
    command.append(val_split_mode)
    search = os.pathsep.join([str(TESTS / "integration"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    done = run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_equal_replicas(first: dict[str, Any], second: dict[str, Any]) -> None:
    """The replicas ended equal, though each drew random numbers of its own in each step."""
    torch.testing.assert_close(first["state"], second["state"], rtol=0, atol=0, equal_nan=True)
    assert first["metrics"] == pytest.approx(second["metrics"], abs=0, rel=0, nan_ok=True)
    assert [step["rates"] for step in first["steps"]] == [step["rates"] for step in second["steps"]]
    drawn = [[step["random"] for step in replica["steps"]] for replica in (first, second)]
    assert not any(torch.equal(*pair) for pair in zip(*drawn, strict=True))


def test_bikd_in_two_processes(demo_root: Path, tmp_path: Path) -> None:
    replicas = train_two_replicas("Bikd", demo_root, tmp_path, max_steps=10, limit_val_batches=1, limit_test_batches=1)
    assert_equal_replicas(*replicas)
    steps = replicas[0]["steps"]
    learns = [step["backward_kd"] > 0 for step in steps]
    assert learns == [False] * 3 + [True] * 5 + [False] * 2
    for before, after, learnt in zip(steps, steps[1:], learns[1:], strict=False):
        moved = not all(map(torch.equal, before["teacher"], after["teacher"]))
        assert moved == learnt


def test_dmdd_in_two_processes_with_different_clocks_and_no_validation(demo_root: Path, tmp_path: Path) -> None:
    limits = {"max_time": "00:00:00:08", "limit_train_batches": 4, "limit_test_batches": 1}
    replicas = train_two_replicas("Dmdd", demo_root, tmp_path, "none", **limits)
    assert_equal_replicas(*replicas)


def test_dskd_in_two_processes_is_as_good_as_in_one(
    parts: DemoParts, demo_root: Path, tmp_path: Path, engine: EngineFactory
) -> None:
    length = {"max_steps": 20, "limit_val_batches": 1}
    replicas = train_two_replicas("Dskd", demo_root, tmp_path / "two", **length)
    assert_equal_replicas(*replicas)
    parts.train_batch_size = 8
    seed_everything(3, workers=True)
    model, one = build("Dskd"), engine(**length, limit_test_batches=1.0)
    one.fit(model, datamodule=parts)
    metrics = one.test(model, datamodule=parts)[0]
    for metric in ("image_AUROC", "pixel_AUROC"):  # without thresholds, which so short a training leaves to chance
        assert replicas[0]["metrics"][metric] == pytest.approx(metrics[metric], abs=0.1)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_gradient_in_every_step(
    name: str, parts: DemoParts, engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(Callback):
        def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
            del trainer
            missing.append([n for n, p in pl_module.named_parameters() if p.requires_grad and p.grad is None])

    missing: list[list[str]] = []
    model = build(name)
    if hasattr(model, "simulator"):  # with empty masks
        monkeypatch.setattr(model.simulator, "forward", lambda images: (images, torch.zeros_like(images[:, :1])))
    engine(max_steps=6, limit_val_batches=1, callbacks=[Missing()]).fit(model, datamodule=parts)
    assert missing == [[]] * 6


def test_synchronised_batch_norm_is_refused_where_it_would_change_the_network() -> None:
    trainer = Trainer(accelerator="cpu", strategy="ddp", devices=1, sync_batchnorm=True, logger=False)
    with pytest.raises(ValueError, match="sync_batchnorm"):
        EqualReplicas().setup(trainer, build("Dmdd"), "fit")
    with pytest.raises(ValueError, match=r"Dskd with this backbone .* BatchNormAct2d"):
        EqualReplicas().setup(trainer, build("Dskd", backbone="mobilenetv3_small_050"), "fit")
    EqualReplicas().setup(trainer, build("Dskd", backbone="resnet18"), "fit")
    EqualReplicas().setup(Trainer(accelerator="cpu", logger=False), build("Dmdd"), "fit")

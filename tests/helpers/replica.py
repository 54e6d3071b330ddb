"""One process of a distributed training, started by ``torchrun``; writes what it saw and ends with to a file."""

import json
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from anomalib.engine import Engine
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer
from small_models import build
from torch import Tensor

from anomalib_dmdd import DemoParts


class Recorder(Callback):
    """Keeps what each step saw: images, state of the random generator, learning rates, and the teacher of BiKD."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank == 1:  # a clock that is ahead of that of the first process
            for callback in trainer.callbacks:
                if isinstance(callback, Timer):
                    callback._offset += 5
        pl_module.model.register_forward_pre_hook(self.see)

    def see(self, module: torch.nn.Module, images: tuple[Tensor, ...]) -> None:
        if module.training:
            seen = [image.clone() for image in images if image is not None]
            self.steps.append({"images": seen, "random": torch.get_rng_state()})

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = self.steps[-1]
        step["rates"] = [group["lr"] for group in trainer.optimizers[0].param_groups]
        if hasattr(pl_module, "teacher_parameters"):
            step["teacher"] = [parameter.detach().clone() for parameter in pl_module.teacher_parameters()]
            step["backward_kd"] = float(trainer.callback_metrics["train_loss_backward_kd_step"])


def main(name: str, root: str, out: str, trainer: str, val_split_mode: str = "same_as_test") -> None:
    """Train and test a model with batches of four, and options of the trainer in JSON."""
    seed_everything(3, workers=True)
    recorder, model = Recorder(), build(name)
    engine = Engine(
        default_root_dir=Path(out) / os.environ["RANK"],  # Anomalib numbers the runs of a folder, one after the other
        logger=False,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
        **json.loads(trainer),
    )
    sizes = {"train_batch_size": 4, "eval_batch_size": 16}
    parts = DemoParts(root=root, val_split_mode=val_split_mode, num_workers=0, **sizes)
    engine.fit(model, datamodule=parts)
    state = deepcopy(model.state_dict())  # before the test, for which Lightning overwrites it with that of rank 0
    result = {"steps": recorder.steps, "state": state, "metrics": engine.test(model, datamodule=parts)[0]}
    torch.save(result, Path(out) / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])

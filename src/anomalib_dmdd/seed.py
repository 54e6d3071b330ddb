"""Applies ``--seed_everything`` of the ``anomalib`` command to the models of this package.

Anomalib 2.7 declares the option, but never reads it. Its own models keep that behaviour.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from anomalib.cli import AnomalibCLI
    from jsonargparse import Namespace


def let_command_seed() -> None:
    """Make the command apply its seed before it builds a model of this package.

    Does nothing in a program that has not imported the command.
    """
    command: type[AnomalibCLI] | None = getattr(sys.modules.get("anomalib.cli.cli"), "AnomalibCLI", None)
    if command is None or command.before_instantiate_classes.__module__ == __name__:
        return
    prepare = command.before_instantiate_classes

    def before_instantiate_classes(self: "AnomalibCLI") -> None:
        settings = self.config[self.subcommand]
        if _is_ours(settings):
            _seed(settings)
        prepare(self)

    command.before_instantiate_classes = before_instantiate_classes


def _is_ours(settings: "Namespace") -> bool:
    """Whether the settings of a subcommand name a model of this package."""
    module, _, name = str(settings.get("model.class_path") or "").rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)  # ours may have names in other modules, and subclasses
    return any(base.__module__.partition(".")[0] == __name__.partition(".")[0] for base in getattr(cls, "__mro__", ()))


def _seed(settings: "Namespace") -> None:
    """Apply the seed of the settings: a number, True (random) or False (none).

    The seed replaces True in the settings, and None in those of the data module, so the run's ``config.yaml`` holds it.
    """
    import torch  # noqa: PLC0415  # this module is loaded while torch is being imported
    from lightning import seed_everything  # noqa: PLC0415

    seed = settings.get("seed_everything", False)
    if seed is False:
        return
    if seed is True:
        seed = _shared_seed(settings.get("ckpt_path"))
    if seed is None:
        seed = torch.seed() % 2**32
    settings["seed_everything"] = seed_everything(int(seed), workers=True)
    # A random split would otherwise depend on the random numbers that building the model takes.
    if (data := settings.get("data.init_args")) is not None and data.get("seed", False) is None:
        data["seed"] = settings["seed_everything"]


def _shared_seed(checkpoint: str | Path | None) -> int | None:
    """The seed that all commands and processes of a training agree on.

    Data modules split their images with it. Lightning passes its own to the processes that it starts. A checkpoint
    holds that of its training. The processes of ``torchrun`` or ``srun`` share the name of their job.
    """
    if own := os.environ.get("PL_GLOBAL_SEED"):
        return int(own)
    if checkpoint and (seed := _seed_of(Path(checkpoint))) is not None:
        return seed
    given = os.environ.get
    several = "TORCHELASTIC_RUN_ID" in os.environ or given("SLURM_NTASKS", "1") != "1"
    job = [given(name) for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")]
    return crc32(repr(job).encode()) if several else None


def _seed_of(checkpoint: Path) -> int | None:
    """Seed of the training that wrote a checkpoint; None if it cannot be read."""
    from pickle import UnpicklingError  # noqa: PLC0415

    import torch  # noqa: PLC0415

    from .models.base.random_state import StepSeeds  # noqa: PLC0415

    try:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return int(loaded["callbacks"][StepSeeds().state_key]["seed"])
    except (OSError, RuntimeError, KeyError, TypeError, UnpicklingError):
        return None  # whoever loads it next says what is wrong

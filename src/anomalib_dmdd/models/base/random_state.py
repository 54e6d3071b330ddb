"""Random numbers of a training that repeat with the seed, also after a resume."""

import logging
import os
import random
from typing import Any, ClassVar

import numpy as np
import torch
from anomalib.data import Batch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

logger = logging.getLogger(__name__)


class StepSeeds(Callback):
    """Seeds the random generators for each batch from seed, batch and process.

    What a batch draws (augmentation, simulated anomalies, dropout) then depends on nothing that was drawn before, and
    differs between processes. The order of the images and the seeds of the data loader's workers depend in the same way
    on the step that an epoch starts at. So a checkpoint needs no state of a generator, only the seed.

    Attributes:
        seed: Seed of the training: that of ``seed_everything``, or one drawn when the training starts. A checkpoint
            restores it.
        repetition: Part of all seeds. 0, unless the generator is as another training has left it: the next training
            after one ``seed_everything`` then draws other numbers. A checkpoint restores it, too.
    """

    seed: int
    _left: ClassVar[int | None] = None
    """Seed of the generator as the last training has left it."""

    def __init__(self) -> None:
        # Before a strategy of several processes seeds the generator again.
        self.repetition = torch.initial_seed() % 2**31 if torch.initial_seed() == StepSeeds._left else 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose one seed for all processes."""
        del pl_module
        if stage == TrainerFn.FITTING:
            self.seed, self.repetition = trainer.strategy.broadcast((chosen_seed(), self.repetition))
            self._seed_epoch(trainer, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """The part of a checkpoint that :meth:`on_load_checkpoint` reads."""
        return {"seed": self.seed, "repetition": self.repetition} if hasattr(self, "seed") else {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the checkpoint's seed, and warn if the checkpoint cannot be resumed exactly."""
        del pl_module
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state = checkpoint["callbacks"].get(self.state_key, {})
        self.seed, self.repetition = state.get("seed", self.seed), state.get("repetition", 0)
        # Before Lightning makes the first iterator over the data, which draws their order.
        self._seed_epoch(trainer, checkpoint["global_step"])
        if trainer.is_global_zero and not ends_an_epoch(checkpoint):
            logger.warning(
                "The checkpoint was written before the end of an epoch, and the order of the images is not stored. The "
                "rest of the epoch draws images anew, so the weights will differ from those of an uninterrupted "
                "training. A checkpoint from the end of an epoch has no such difference."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Seed what the batch draws."""
        del pl_module, batch, batch_idx
        self._seed(trainer, 1, trainer.fit_loop.epoch_loop.total_batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the order of the next epoch."""
        del pl_module
        self._seed_epoch(trainer, trainer.global_step)

    def _seed_epoch(self, trainer: Trainer, step: int) -> None:
        self._seed(trainer, 0, step)

    def _seed(self, trainer: Trainer, purpose: int, count: int) -> None:
        repetition = (self.repetition,) if self.repetition else ()
        seed_generators(self.seed, purpose, trainer.global_rank, count, *repetition)
        StepSeeds._left = torch.initial_seed()


def ends_an_epoch(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint was written at the very end of an epoch."""
    batches: dict[str, Any] = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return bool(batches["is_last_batch"] and batches["current"]["completed"] == batches["current"]["ready"])


def chosen_seed() -> int:
    """The seed of ``seed_everything``, or one that torch draws if nothing was seeded with it."""
    given = os.environ.get("PL_GLOBAL_SEED")
    return int(given) if given else int(torch.randint(2**31, ()))


def seed_generators(*key: int) -> None:
    """Seed the global generators of torch (all devices), Python and NumPy.

    Args:
        key: Non-negative integers. Similar keys give unrelated random numbers.

    Example:
        >>> seed_generators(0, 1)
        >>> first = torch.rand(3)
        >>> seed_generators(0, 1)
        >>> bool((torch.rand(3) == first).all())
        True
    """
    first, second = (int(word) for word in np.random.SeedSequence(key).generate_state(2))
    torch.manual_seed((first << 32) + second)
    random.seed((first << 32) + second)
    np.random.seed(second)  # noqa: NPY002  # the generator that data modules of others draw from

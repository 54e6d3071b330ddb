"""What is kept of a training that is interrupted."""

import logging
import signal
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from .checkpoint_file import keeps_a_model

logger = logging.getLogger(__name__)

INTERRUPTED = "interrupted.ckpt"
"""File of an interrupted training, beside the checkpoints of the trainer."""


class KeepInterrupted(Callback):
    """Saves a checkpoint when a training is interrupted, also before its first validation.

    After SIGTERM the process ends with code 143, as a shell reports it.
    """

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:  # noqa: ANN401  # a LastModelMixin
        """Save the state of the training in :data:`INTERRUPTED`; never raises."""
        if isinstance(exception, SIGTERMException):
            exception.code = 128 + signal.SIGTERM  # the next command of a script must not start
        callback = trainer.checkpoint_callback
        folder = callback.dirpath if isinstance(callback, ModelCheckpoint) else None
        if not pl_module.trains:
            return  # a checkpoint may be half restored
        if trainer.state.fn != TrainerFn.FITTING or not (folder and trainer.global_step and keeps_a_model(trainer)):
            return
        path = f"{folder}/{INTERRUPTED}"
        try:
            # A validation that was cut short must not go on with its second half: its thresholds would rest on that.
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.reset()
            # Not Trainer.save_checkpoint, which waits for the other processes: they may never come.
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)  # noqa: SLF001
            trainer.strategy.save_checkpoint(checkpoint, path)
        except Exception:
            logger.exception("The interrupted training could not be saved in %s.", path)
            return
        rank_zero_only(logger.warning)(
            "Interrupted by %s at step %d. The state of the training is kept in %s: pass it as ckpt_path to go on.",
            type(exception).__name__,
            trainer.global_step,
            path,
        )
        pl_module.warn_of_thresholds()

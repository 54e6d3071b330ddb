"""How long a training still takes, said early."""

import logging
import time
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

logger = logging.getLogger(__name__)

START, END = 5, 25
"""Batches of a run between which the clock runs. The first ones are slower than the others."""

SHORT = 600
"""Seconds. Nothing is said of a training that ends sooner."""


class TimeLeft(Callback):
    """Logs once, early in a training, how long the rest takes."""

    _batches = 0
    _start = (0.0, 0.0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Start the clock, and read it once."""
        del args, kwargs
        self._batches += 1
        if self._batches in {START, END} and trainer.is_global_zero:
            now, done = time.monotonic(), cast("float", pl_module.training_progress)
            started, done_then = self._start
            self._start = now, done
            if self._batches == END and done > done_then:
                self._say((now - started) * (1 - done) / (done - done_then))

    def _say(self, seconds: float) -> None:
        if seconds > SHORT:
            hours, minutes = divmod(round(seconds / 60), 60)
            logger.info(
                "At least %s%d min of training are left. --trainer.max_steps and --trainer.max_time set the length.",
                f"{hours} h " if hours else "",
                minutes,
            )

"""Length of a training and progress through it."""

import math
from dataclasses import dataclass

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

VALIDATIONS = 10
"""How often a training of default length validates, which sets the thresholds, and saves a checkpoint."""

FEWEST_EPOCHS = 2
"""Shortest validation interval of a training of default length, see :func:`claim_interval`."""


@dataclass(frozen=True)
class DefaultLength:
    """Default length of a training: a number of steps or of epochs.

    Attributes:
        steps: Training steps, rounded up to whole epochs.
        epochs: Epochs; used instead of ``steps`` if given.
    """

    steps: int = 5000
    epochs: int | None = None

    def in_epochs(self, steps_per_epoch: int) -> int:
        """The length in epochs."""
        return self.epochs or math.ceil(self.steps / steps_per_epoch)


def has_no_length(trainer: Trainer) -> bool:
    """Whether the user set none of ``max_epochs``, ``max_steps`` and ``max_time``.

    Lightning replaces a missing length by 1000 epochs when it runs, so this must be asked before.
    """
    return trainer.max_epochs is None and trainer.max_steps == -1 and not _timers(trainer)


def is_endless(trainer: Trainer) -> bool:
    """Whether the user asked for a training without an end (``max_epochs=-1``)."""
    return trainer.max_epochs == -1 and trainer.max_steps == -1 and not _timers(trainer)


def claim_interval(trainer: Trainer) -> bool:
    """Take the choice of the validation interval, unless the user made it.

    The interval itself is only known when the data is set up. ``EarlyStopping`` decides before that whether it acts
    after a validation or after every epoch, and for that only asks whether the interval is 1.

    Returns:
        Whether :func:`set_length` may set the interval.
    """
    ours = trainer.check_val_every_n_epoch == 1 and trainer.val_check_interval == 1.0
    if ours:
        trainer.check_val_every_n_epoch = FEWEST_EPOCHS
    return ours


def set_length(trainer: Trainer, length: DefaultLength, sets_interval: bool) -> tuple[int, int]:
    """Give a trainer the default length of a method.

    The user's ``min_epochs`` or ``min_steps`` counts instead if it is longer.

    Args:
        trainer: A trainer about to fit, without a length of its own.
        length: The default length.
        sets_interval: Whether the validation interval may be set too.

    Returns:
        Epochs and steps.
    """
    if trainer.max_epochs == -1:  # Lightning's choice beside a Timer
        trainer.fit_loop.max_epochs = 1
    if trainer.estimated_stepping_batches < 0:  # data without a length
        trainer.fit_loop.epoch_loop.max_steps = length.steps
    steps_per_epoch = max(1, int(trainer.estimated_stepping_batches) // (trainer.max_epochs or 1))
    user_steps = trainer.min_steps or 0
    epochs = max(length.in_epochs(steps_per_epoch), trainer.min_epochs or 0, math.ceil(user_steps / steps_per_epoch))
    if sets_interval:
        # Validation sorts all pixels: after every epoch it would take longer than the training.
        trainer.check_val_every_n_epoch = max(FEWEST_EPOCHS, math.ceil(epochs / VALIDATIONS))
    trainer.fit_loop.max_epochs = epochs
    return epochs, epochs * steps_per_epoch


def training_progress(trainer: Trainer, length: DefaultLength, time_share: float | None = None) -> float:
    """Share of the training that is done, in [0, 1].

    Steps, epochs or time decide, whichever ends the training first.

    It depends on the state of the trainer alone, so a resumed training continues where it stopped.

    Args:
        trainer: The trainer.
        length: Used if the trainer has no end of its own.
        time_share: Output of :func:`time_progress` for the current step.
    """
    shares = [] if time_share is None else [min(time_share, _share_of_least_steps(trainer))]
    steps = trainer.estimated_stepping_batches
    if steps < 0:  # data without a length, and no number of steps
        epochs = trainer.max_epochs or 1
        shares.append(trainer.current_epoch / epochs if epochs > 1 else trainer.global_step / length.steps)
    elif not shares and not math.isfinite(steps):
        steps = length.steps
    if math.isfinite(steps) and steps >= 0:
        shares.append(trainer.global_step / max(1, steps))
    return min(1.0, max(shares))


def time_progress(trainer: Trainer) -> float | None:
    """Share of ``max_time`` that has passed on the clock of the first process, if any.

    Every process must call it, once a step. With clocks of their own the processes would take different learning rates
    and their weights would drift apart.
    """
    shares = [
        timer.time_elapsed() / max(1e-9, timer.time_elapsed() + left)
        for timer in _timers(trainer)
        if (left := timer.time_remaining()) is not None
    ]
    return trainer.strategy.broadcast(max(shares)) if shares else None


def _share_of_least_steps(trainer: Trainer) -> float:
    """Share of ``min_steps`` and ``min_epochs`` that is done; the clock ends no training before."""
    per_epoch = trainer.num_training_batches
    if math.isfinite(per_epoch):  # the last, smaller group of batches of an epoch is a step, too
        per_epoch = math.ceil(per_epoch / trainer.accumulate_grad_batches)
    least = max(trainer.min_steps or 0, trainer.min_epochs * per_epoch if trainer.min_epochs else 0)
    return min(1.0, trainer.global_step / least) if least and math.isfinite(least) else 1.0


def _timers(trainer: Trainer) -> list[Timer]:
    """Callbacks that end the training by the clock (``max_time``), not those that only read it."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [one for one in callbacks if isinstance(one, Timer) and one.time_remaining() is not None]

"""Trainers that would spoil a training."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging, WeightAveraging


def refuse_precision(trainer: Trainer) -> None:
    """Refuse precisions of the weights for which Anomalib does not convert the images.

    Raises:
        ValueError: If the weights are in half or double precision.
    """
    if (precision := str(trainer.precision)) in {"16-true", "bf16-true", "64-true"}:
        raise ValueError(
            f"trainer.precision: {precision} is not possible, because Anomalib leaves images in single "
            "precision. Choose 32-true, bf16-mixed or 16-mixed."
        )


def refuse_used_trainer(trainer: Trainer, trained_steps: int) -> None:
    """Refuse a trainer that has trained another model, because it would go on counting there.

    Args:
        trainer: The trainer.
        trained_steps: Steps that the model has been trained for.

    Raises:
        ValueError: If trainer and model count other steps.
    """
    if trainer.ckpt_path is None and trainer.global_step not in {0, trained_steps}:
        raise ValueError(
            f"This Engine has trained another model for {trainer.global_step} steps and would go on from there. Make a "
            "new Engine for each model."
        )


def refuse_callbacks(trainer: Trainer) -> None:
    """Refuse callbacks that would spoil the thresholds or the schedule.

    Raises:
        ValueError: If the trainer has one.
    """
    averages = (
        "would average thresholds and batch statistics with the weights. Leave it out: the learning rates fall to "
        "zero instead."
    )
    steps = (
        "would change the number of steps during the training, and with it the learning rates. Take "
        "--trainer.accumulate_grad_batches with one number."
    )
    reasons = {WeightAveraging: averages, StochasticWeightAveraging: averages, GradientAccumulationScheduler: steps}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if reason := next((reasons[kind] for kind in reasons if isinstance(callback, kind)), None):
            raise ValueError(f"{type(callback).__name__} {reason}")

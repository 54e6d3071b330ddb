"""Averages of the weights over a training, made by callbacks of Lightning."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging


def refuse_swa(trainer: Trainer) -> None:
    """Refuse the callback that resets the batch statistics of the frozen teacher, too.

    Raises:
        ValueError: If the trainer has it.
    """
    if any(isinstance(callback, StochasticWeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise ValueError(
            "StochasticWeightAveraging resets the batch statistics of all networks, but those of the frozen teacher "
            "are never computed again. Use lightning.pytorch.callbacks.EMAWeightAveraging."
        )


def finish_averaging(trainer: Trainer) -> bool:
    """Keep the average as the trained model, now that a callback has copied it there.

    The thresholds were averaged as well, so a validation must set new ones. It would swap the average with the last
    weights again, and leave the thresholds with one of the two.

    Returns:
        Whether the weights are an average.
    """
    averaging = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    for callback in averaging:
        callback._average_model = None  # noqa: SLF001  # its state outside of a training
    return bool(averaging)

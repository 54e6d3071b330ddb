"""What a training keeps: the last model with its own thresholds."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from anomalib_dmdd.models.base.run_folder import LatestRun, point_latest_here

from .checkpoint_file import keeps_a_model
from .interrupted import INTERRUPTED, KeepInterrupted
from .threshold_age import ThresholdAge, calibration, forget_thresholds, takes_thresholds

logger = logging.getLogger(__name__)


def ends_with_this_epoch(trainer: Trainer) -> bool:
    """Whether the training ends with this epoch; the same answer for all processes."""
    ends = (
        trainer.should_stop
        or trainer.current_epoch + 1 == trainer.max_epochs
        or trainer.global_step == trainer.max_steps
    )
    return bool(trainer.strategy.reduce_boolean_decision(ends, all=False))


def validate_now(trainer: Trainer) -> None:
    """Run a validation from a hook of the training, if there is data for it."""
    if not trainer.enable_validation:
        return
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def saved_this_step(trainer: Trainer) -> list[ModelCheckpoint]:
    """Callbacks whose last file is of the present step."""
    return [
        callback
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback._last_global_step_saved == trainer.global_step  # noqa: SLF001
    ]


def save_again(trainer: Trainer, outdated: Sequence[Callback], *, missing: bool) -> None:
    """Save the last model with its new thresholds; files of older steps stay.

    Args:
        trainer: The trainer.
        outdated: Callbacks that saved this step before its validation.
        missing: Whether callbacks without a file of this step save it, too.
    """
    names = {"epoch": torch.tensor(trainer.current_epoch), "step": torch.tensor(trainer.global_step)}
    written = saved_this_step(trainer)
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or not callback.save_top_k:
            continue
        if not (callback in outdated if callback in written else missing):
            continue
        if callback.monitor is None or not callback.best_model_path:
            new = callback.format_checkpoint_name({**trainer.callback_metrics, **names})
            callback.best_model_path = (callback in written and callback.best_model_path) or new
            trainer.save_checkpoint(callback.best_model_path, weights_only=callback.save_weights_only)
        if callback.last_model_path:
            trainer.save_checkpoint(callback.last_model_path, weights_only=callback.save_weights_only)


class LastModelMixin(LightningModule):
    """Mixin that validates the model that is saved last, which sets its thresholds.

    Attributes:
        threshold_age: Whether the thresholds belong to the weights.
        trains: Whether the present or last fit had something to train.
        post_processor: Holds the thresholds.
        trained_with: Facts of the training.
    """

    threshold_age: ThresholdAge = ThresholdAge()
    post_processor: nn.Module | None
    trained_with: Mapping[str, str]
    _resumed_from: Any = None  # the checkpoint that a training has just gone on from
    _outdated: Sequence[Callback] = ()  # those that saved a step before its validation
    trains: bool = False

    def setup(self, stage: str) -> None:
        """Note that nothing has been trained yet."""
        super().setup(stage)
        if stage == TrainerFn.FITTING:
            self.trains = False

    def on_train_start(self) -> None:
        """Forget the thresholds of a former training, which fit other weights."""
        super().on_train_start()
        self.trains = True
        if self.trainer.ckpt_path is None:
            self.threshold_age = ThresholdAge(weights=self.trainer.global_step)
            forget_thresholds(self.post_processor)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Note how far the weights are trained."""
        super().on_train_batch_end(*args, **kwargs)
        self.threshold_age = self.threshold_age.trained(self.trainer.global_step)

    def on_validation_start(self) -> None:
        """Note which files will hold older thresholds than this validation sets."""
        super().on_validation_start()
        self._outdated = saved_this_step(self.trainer)

    def on_validation_epoch_end(self) -> None:
        """Note that the post-processor has just set the thresholds."""
        super().on_validation_epoch_end()
        if not self.trainer.sanity_checking:
            self.threshold_age = self.threshold_age.validated()
        validates_file = self.trainer.state.fn == TrainerFn.VALIDATING and self.trainer.ckpt_path
        if validates_file and takes_thresholds(self.post_processor):
            keep = f" To keep such thresholds: {calibration(self.trainer.ckpt_path)}"
            rank_zero_only(logger.info)(
                "The new thresholds are lost when this program ends.%s", "" if "tiles" in self.trained_with else keep
            )

    def on_train_epoch_end(self) -> None:
        """Validate the last model before it is saved, however the training comes to its end."""
        super().on_train_epoch_end()
        ends = ends_with_this_epoch(self.trainer) and keeps_a_model(self.trainer)
        if ends and not self.threshold_age.is_current:
            validate_now(self.trainer)

    def on_train_end(self) -> None:
        """Validate the last model if its thresholds are old, and report missing ones."""
        super().on_train_end()
        self._resumed_from = self.trainer.ckpt_path
        if not keeps_a_model(self.trainer):
            return
        is_old = not self.threshold_age.is_current
        if is_old:
            validate_now(self.trainer)
        save_again(self.trainer, self._outdated, missing=is_old)
        self._outdated = ()
        self.warn_of_thresholds()

    def on_fit_end(self) -> None:
        """Finish a training that was interrupted after its last step."""
        super().on_fit_end()
        if self.trains or not self.trainer.ckpt_path or not keeps_a_model(self.trainer):
            return
        if Path(self.trainer.ckpt_path).name == INTERRUPTED:  # even with thresholds, it may be the only file
            self.threshold_age = ThresholdAge(weights=self.threshold_age.weights)
        if self.trainer.enable_validation and not self.threshold_age.is_current:
            self.on_train_end()
            point_latest_here(self.trainer)

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export as Anomalib does, and warn of thresholds that are missing or old."""
        self.warn_of_thresholds()
        path: Path = super().to_torch(*args, **kwargs)  # type: ignore[misc]
        return path

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]  # also a part of to_openvino
        """Export as Anomalib does, and warn of thresholds that are missing or old."""
        self.warn_of_thresholds()
        path: Path = super().to_onnx(*args, **kwargs)  # type: ignore[assignment]
        return path

    def warn_of_thresholds(self) -> None:
        """Log what a user must know before using labels and masks."""
        tiled = "tiles" in self.trained_with
        if complaint := self.threshold_age.complaint(self.post_processor, tiled=tiled):
            rank_zero_only(logger.warning)(complaint)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint with the steps behind its weights and thresholds."""
        super().on_save_checkpoint(checkpoint)
        trainer = self._trainer  # `trainer` raises where a loaded model is saved without a run
        if trainer is not None and trainer.training:  # a callback that saves after a step comes before our hook
            self.threshold_age = self.threshold_age.trained(trainer.global_step)
        self.threshold_age.save(checkpoint)

    def put_trained_weights_back(self, checkpoint: dict[str, Any]) -> bool:
        """In the test of ``Engine.train``, replace the weights of a checkpoint by those just trained.

        Returns:
            Whether this is such a test.
        """
        trainer = self._trainer
        if not (self._resumed_from and trainer and trainer.testing and trainer.ckpt_path == self._resumed_from):
            return False
        rank_zero_only(logger.warning)("The model that was just trained is tested, not %s.", trainer.ckpt_path)
        checkpoint |= {"state_dict": self.state_dict(), "callbacks": {}}  # nor does best_model_path go back
        return True

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the mark."""
        super().on_load_checkpoint(checkpoint)
        self.threshold_age = ThresholdAge.load(checkpoint)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Callbacks of Anomalib, one that keeps an interrupted training, and one for ``latest``."""
        return [*super().configure_callbacks(), KeepInterrupted(), LatestRun()]  # type: ignore[misc]  # Anomalib's is a list

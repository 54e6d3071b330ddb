"""What a distillation model needs of Lightning and Anomalib: teacher weights, training length, validation."""

import logging
import math
from typing import Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import Batch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from anomalib_dmdd.synthesis import MildAugmentation

from .network import Network

logger = logging.getLogger(__name__)

VALIDATIONS = 10
"""How often a run of the method's own length sets thresholds and saves a checkpoint (our choice)."""


class Distillation(LightningModule):
    """Mixin beside ``AnomalibModule``, which wants its models to be direct subclasses.

    Attributes:
        method_steps: Training steps of the method, taken when the user gives no length.
    """

    method_steps: ClassVar[int] = 5000
    model: Network
    input_size: tuple[int, int] | None
    augmentation: MildAugmentation | None
    _own_length = False

    def method_epochs(self, steps_per_epoch: int) -> int:
        """Epochs of the method's own length."""
        return math.ceil(self.method_steps / steps_per_epoch)

    @property
    def trainer(self) -> Trainer:
        """The Lightning trainer."""
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        # Lightning fills in 1000 epochs for a missing length once it runs; only here can that still be told apart.
        if trainer is not None and trainer.max_epochs is None:
            self._own_length = trainer.max_steps == -1 and not _timers(trainer)
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        """Take the method's training length unless the user gave one."""
        super().setup(stage)
        if stage != "fit" or not self._own_length:
            return
        trainer = self.trainer
        steps_per_epoch = max(1, int(trainer.estimated_stepping_batches) // (trainer.max_epochs or 1))
        epochs = self.method_epochs(steps_per_epoch)
        if trainer.check_val_every_n_epoch == 1:
            # Validation sorts all pixels: at every epoch it would take longer than the training.
            trainer.check_val_every_n_epoch = every = max(1, epochs // VALIDATIONS)
            epochs = every * math.ceil(epochs / every)
        trainer.fit_loop.max_epochs = epochs
        logger.info("%s trains for %d epochs, %d steps.", type(self).__name__, epochs, epochs * steps_per_epoch)

    def decayed(self, optimizer: Optimizer) -> OptimizerLRSchedulerConfig:
        """The optimiser with rates that rise over the first 5 % of the training and then fall to zero on a cosine.

        Our choice: the last step is the one that is kept, and at full rate its batch statistics lag behind its weights.
        """

        def factor(_step: int) -> float:
            progress = self.training_progress
            return min(1.0, 0.1 + 18 * progress) * 0.5 * (1 + math.cos(math.pi * progress))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def on_fit_start(self) -> None:
        """Fetch the teacher's weights, unless they came with a checkpoint."""
        super().on_fit_start()
        self.model.load_pretrained()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Fit a random teacher to the first batch."""
        super().on_train_batch_start(batch, batch_idx)
        if self.trainer.global_step == 0:
            self.model.calibrate(batch.image)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """At the last of the user's steps ask for a stop, so that Lightning validates and the thresholds fit."""
        super().on_train_batch_end(*args, **kwargs)
        if self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    @property
    def training_progress(self) -> float:
        """How much of the training is done, 0 to 1, by whichever of steps, epochs and time ends it first.

        It is a function of the trainer's state and so goes on where a resumed run left off.
        """
        trainer = self.trainer
        shares = [
            timer.time_elapsed() / max(1e-9, timer.time_elapsed() + left)
            for timer in _timers(trainer)
            if (left := timer.time_remaining()) is not None
        ]
        steps = trainer.estimated_stepping_batches
        if not shares and not math.isfinite(steps):  # nothing ends it but the user
            steps = self.method_steps
        if math.isfinite(steps):
            shares.append(trainer.global_step / max(1, steps))
        return min(1.0, max(shares))

    def check_input_size(self) -> None:
        """Refuse an input size that the network could not process, before anything is trained.

        Raises:
            ValueError: If height or width is no multiple of what the network needs.
        """
        size, multiple = self.input_size, self.model.multiple
        if size and any(side % multiple for side in size):
            fitting = tuple(max(multiple, multiple * round(side / multiple)) for side in size)
            raise ValueError(
                f"The pre-processor resizes images to {tuple(size)}, but {type(self).__name__} with this backbone "
                f"needs a height and width that are multiples of {multiple}, for example {fitting}."
            )

    def augmented(self, images: Tensor) -> Tensor:
        """Mildly augmented images ``(N, 3, H, W)``; unchanged where the data module has augmentations of its own."""
        own = getattr(getattr(self.trainer, "datamodule", None), "train_augmentations", None)
        return images if own or self.augmentation is None else self.augmentation(images)

    def log_loss(self, parts: Any, batch: Batch) -> Tensor:  # noqa: ANN401  # any named tuple
        """Log the terms of a loss, a named tuple of scalars, and their sum, which is returned."""
        loss = torch.stack(parts).sum()
        terms = {f"train_loss_{name}": part for name, part in parts._asdict().items()}
        self.log("train_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(batch.image))
        self.log_dict(terms, on_epoch=True, batch_size=len(batch.image))
        return loss

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Batch:
        """Predict the raw maps of a batch."""
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No sanity validation: it would fit thresholds to an untrained model."""
        return {"num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """Trained on normal images only."""
        return LearningType.ONE_CLASS


def _timers(trainer: Trainer) -> list[Timer]:
    """The callbacks that end the training by the clock (``max_time``)."""
    return [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]

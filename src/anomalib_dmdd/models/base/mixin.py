"""What a distillation model needs of Lightning and Anomalib."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import Batch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer

from anomalib_dmdd.models.components import DistillationModel
from anomalib_dmdd.synthesis import MildAugmentation

from .length import DefaultLength, has_no_length, set_length, time_progress, training_progress
from .post_processor import DistillationPostProcessor
from .random_state import StepSeeds
from .replicas import EqualReplicas
from .schedule import with_warmup_cosine

logger = logging.getLogger(__name__)


class DistillationMixin(LightningModule):
    """Mixin for models that must also be direct subclasses of ``AnomalibModule``.

    Attributes:
        default_length: Length of the training if the user sets none.
        model: The network.
        augmentation: Applied to each training batch; ``None`` leaves the images as they are.
    """

    default_length: ClassVar[DefaultLength] = DefaultLength(steps=5000)
    model: DistillationModel
    augmentation: MildAugmentation | None
    input_size: tuple[int, int] | None
    _takes_default_length = False
    _time_progress: float | None = None

    @property
    def trainer(self) -> Trainer:
        """The Lightning trainer."""
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        if trainer is not None and trainer.max_epochs is None:  # else the user, or this model before, has set a length
            self._takes_default_length = has_no_length(trainer)
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]

    def configure_callbacks(self) -> Sequence[Callback]:
        """Anomalib's callbacks, and those that make a training repeatable and its replicas equal."""
        callbacks = super().configure_callbacks()
        return [*(callbacks if isinstance(callbacks, Sequence) else [callbacks]), StepSeeds(), EqualReplicas()]

    def on_fit_start(self) -> None:
        """Load the teacher's weights, unless they came with a checkpoint."""
        super().on_fit_start()
        self.model.load_pretrained()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Calibrate a random teacher on the first batch, and read the clock."""
        super().on_train_batch_start(batch, batch_idx)
        self._time_progress = time_progress(self.trainer)
        if self.trainer.global_step == 0:
            self.model.calibrate(batch.image)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop at the user's last step in a way that makes Lightning validate, so that the thresholds are set."""
        super().on_train_batch_end(*args, **kwargs)
        if self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    @property
    def training_progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return training_progress(self.trainer, self.default_length, self._time_progress)

    def with_warmup_cosine(self, optimizer: Optimizer) -> OptimizerLRSchedulerConfig:
        """The optimiser with the schedule of :func:`with_warmup_cosine` over this training.

        The default length is set here unless the user set one. In ``setup`` it would be too early: Lightning counts the
        steps with an iterator over the data, and would draw their order before a checkpoint has restored the seed.
        """
        if self._takes_default_length:
            epochs, steps = set_length(self.trainer, self.default_length)
            logger.info("%s trains for %d epochs, %d steps.", type(self).__name__, epochs, steps)
        return with_warmup_cosine(optimizer, lambda: self.training_progress)

    def check_input_size(self) -> None:
        """Refuse an input size that the network cannot process, before anything is trained.

        Raises:
            ValueError: If height or width is not a multiple of what the network needs.
        """
        size, divisor = self.input_size, self.model.size_divisor
        if size and any(side % divisor for side in size):
            fitting = tuple(max(divisor, divisor * round(side / divisor)) for side in size)
            raise ValueError(
                f"The pre-processor resizes images to {tuple(size)}, but {type(self).__name__} with this backbone "
                f"needs a height and width that are multiples of {divisor}, for example {fitting}."
            )

    def augmented(self, images: Tensor) -> Tensor:
        """Mildly augmented images ``(N, 3, H, W)``; unchanged if the data module has augmentations of its own."""
        own = getattr(getattr(self.trainer, "datamodule", None), "train_augmentations", None)
        return images if own or self.augmentation is None else self.augmentation(images)

    def log_and_sum(self, terms: Any, batch: Batch) -> Tensor:  # noqa: ANN401  # any named tuple
        """Log the terms of a loss and return their sum.

        Args:
            terms: A named tuple of scalars.
            batch: The batch that they belong to.
        """
        loss = torch.stack(terms).sum()
        named = {f"train_loss_{name}": term for name, term in terms._asdict().items()}
        self.log("train_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(batch.image))
        self.log_dict(named, on_epoch=True, batch_size=len(batch.image))
        return loss

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Batch:
        """Predict the raw maps of a batch."""
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No sanity validation, because it would set thresholds for an untrained model."""
        return {"num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """One-class: trained on normal images only."""
        return LearningType.ONE_CLASS

    @staticmethod
    def configure_post_processor() -> DistillationPostProcessor:
        """The default post-processor: smoothing with sigma 4, and the maximum as image score."""
        return DistillationPostProcessor()

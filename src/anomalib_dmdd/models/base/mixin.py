"""What a distillation model needs of Lightning and Anomalib."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from anomalib_dmdd.models.components import DistillationModel, Teacher
from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation

from .checkpoint import training_facts
from .checkpoint_file import keep_checkpoints_complete
from .checkpoint_mixin import CheckpointMixin
from .export import ExportMixin
from .finite import FiniteGuard
from .holdout import ensure_validation_images
from .images import ImageFileReport
from .length import (
    DefaultLength,
    claim_interval,
    has_no_length,
    is_endless,
    set_length,
    time_progress,
    training_progress,
)
from .map_files import MapFiles
from .normalization import normalization_of
from .post_processor import DistillationPostProcessor
from .prediction_table import PredictionTable
from .random_state import StepSeeds
from .replicas import EqualReplicas
from .run_folder import make_latest_a_link
from .run_summary import RunSummary
from .schedule import with_warmup_cosine
from .split import SplitMixin
from .tested_images import refuse_tested_defects
from .tiles import TilesMixin
from .time_left import TimeLeft
from .trainer_checks import refuse_callbacks, refuse_precision
from .training_images import report_training_images
from .visualizer import VerdictVisualizer

logger = logging.getLogger(__name__)


class DistillationMixin(CheckpointMixin, ExportMixin, TilesMixin, SplitMixin):
    """Mixin for models that must also be direct subclasses of ``AnomalibModule``.

    Attributes:
        default_length: Length of the training if the user sets none.
        model: The network.
        augmentation: Applied to each training batch; ``None`` leaves the images as they are.
        validate_every_n_epochs: Epochs between validations; None leaves the choice to trainer and default length.
        check_training_images: Whether the training images are scored at the end of a training.
    """

    default_length: ClassVar[DefaultLength] = DefaultLength(steps=5000)
    model: DistillationModel
    pre_processor: nn.Module | None
    augmentation: MildAugmentation | None
    input_size: tuple[int, int] | None
    validate_every_n_epochs: int | None = None
    check_training_images: bool = True
    _takes_default_length = False
    _sets_interval = False
    _time_progress: float | None = None

    @property
    def trainer(self) -> Trainer:
        """The Lightning trainer."""
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        if trainer is not self._trainer:  # what another trainer was told no longer counts
            self._takes_default_length = self._sets_interval = False
            self._time_progress = None
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            if self.validate_every_n_epochs is not None:
                if self.validate_every_n_epochs < 1:
                    raise ValueError(f"validate_every_n_epochs: {self.validate_every_n_epochs} is not 1 or more.")
                trainer.check_val_every_n_epoch = self.validate_every_n_epochs
            if trainer.max_epochs is None:  # else the user, or this model before, has set a length
                self._takes_default_length = has_no_length(trainer)
                chosen = self.validate_every_n_epochs is not None
                self._sets_interval = self._takes_default_length and not chosen and claim_interval(trainer)
        elif trainer is not None and trainer.state.fn is not None:
            make_latest_a_link(trainer)
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        """Ensure that there are validation images, and that checkpoints can be loaded.

        Raises:
            ValueError: If trainer or network do not allow it.
        """
        super().setup(stage)
        refuse_precision(self.trainer)
        self._finite = FiniteGuard()
        if stage == "fit":
            refuse_callbacks(self.trainer)
            if hasattr(self.model, "_orig_mod"):
                raise ValueError(
                    "model.model: torch.compile() wraps the network, and its weights get names that no model can load. "
                    "Call model.model.compile() instead, which keeps them."
                )
            keep_checkpoints_complete(self.trainer)
            ensure_validation_images(self.trainer)

    def on_fit_start(self) -> None:
        """Load the teacher's weights, and the textures and known defects of simulated anomalies, once.

        Raises:
            ValueError: If a known defect is also a validation or test image.
        """
        super().on_fit_start()
        self.trained_with = training_facts(getattr(self.trainer, "datamodule", None), self.model.tiler)
        self.model.load_pretrained()
        if (values := normalization_of(self.pre_processor)) is not None:
            for part in filter(None, (self.augmentation, getattr(self, "simulator", None))):
                part.set_normalization(*values)
        if isinstance(simulator := getattr(self, "simulator", None), AnomalySimulator):
            simulator.load_textures()
            simulator.load_known_defects(self.input_size or (256, 256))
            if simulator.known_defects is not None:
                refuse_tested_defects(simulator.known_defects, getattr(self.trainer, "datamodule", None))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Calibrate a random teacher on the first batch, and read the clock.

        Raises:
            ValueError: If the batch is too small for batch normalisation.
        """
        super().on_train_batch_start(batch, batch_idx)
        self._time_progress = time_progress(self.trainer)
        cells = batch.image[0, 0].numel() // self.model.size_divisor**2
        if len(batch.image) * cells == 1:
            raise ValueError(
                "Batch normalisation needs more than one value: a batch of one image leaves one cell in the deepest "
                "features. Use a larger --data.train_batch_size or larger images."
            )
        if self.trainer.global_step == 0:
            self.model.calibrate(*self.model.tiled(batch.image))

    def on_train_end(self) -> None:
        """Score the training images with the finished model, unless the user switched it off."""
        super().on_train_end()
        if self.check_training_images:
            report_training_images(self)

    @property
    def training_progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return training_progress(self.trainer, self.default_length, self._time_progress)

    def with_warmup_cosine(
        self, optimizer: Optimizer, scales: Sequence[Callable[[], float]] = ()
    ) -> OptimizerLRSchedulerConfig:
        """The optimiser with the schedule of :func:`with_warmup_cosine` over this training.

        The default length is set here unless the user set one. In ``setup`` it would be too early: Lightning counts the
        steps with an iterator over the data, and would draw their order before a checkpoint has restored the seed.
        """
        if self._takes_default_length:
            epochs, steps = set_length(self.trainer, self.default_length, self._sets_interval)
            logger.info("%s trains for %d epochs, %d steps.", type(self).__name__, epochs, steps)
        elif is_endless(self.trainer):
            logger.warning(
                "The training has no end. Its rates fall to zero until step %d, and nothing is learnt after that.",
                self.default_length.steps,
            )
        return with_warmup_cosine(optimizer, lambda: self.training_progress, scales)

    @classmethod
    def configure_visualizer(cls) -> VerdictVisualizer:
        """Pictures with score and verdict."""
        return VerdictVisualizer()

    @classmethod
    def sized(cls, pre_processor: PreProcessor | bool, image_size: int | Sequence[int] | None) -> PreProcessor | bool:
        """The pre-processor for an image size; without a size, the one that was given.

        Raises:
            ValueError: If both are given, or the size is not one or two positive numbers.
        """
        if image_size is None:
            return pre_processor
        if pre_processor is not True:
            raise ValueError("image_size: give either image_size or pre_processor, which resizes images itself.")
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or min(size) < 1:  # noqa: PLR2004  # height and width
            raise ValueError(f"image_size: {image_size!r} is neither a number of pixels nor height and width.")
        sized: PreProcessor = cls.configure_pre_processor(size)  # type: ignore[attr-defined]  # of AnomalibModule
        return sized

    def build_teacher(
        self, backbone: str, layers: Sequence[str] | None, pre_trained: bool, weights: str | Path | None
    ) -> Teacher:
        """The teacher, checked with an image of the model's own input size."""
        return Teacher(backbone, layers, pre_trained, weights, image_size=self.input_size or (256, 256))

    def check_input_size(self) -> None:
        """Refuse an input size that network or post-processor cannot process, before anything is trained.

        Raises:
            ValueError: If height or width is not a multiple of what the network needs, or too small for the settings of
                the post-processor.
        """
        size, divisor = self.input_size, self.model.size_divisor
        if size and any(side % divisor for side in size):
            fitting = tuple(max(divisor, divisor * round(side / divisor)) for side in size)
            raise ValueError(
                f"The pre-processor resizes images to {tuple(size)}, but {type(self).__name__} with this backbone "
                f"needs a height and width that are multiples of {divisor}, for example {fitting}."
            )
        if size and isinstance(self.post_processor, DistillationPostProcessor):
            self.post_processor.check_size(size)

    def augmented(self, images: Tensor) -> Tensor:
        """Mildly augmented images ``(N, 3, H, W)``, unless the data module augments them."""
        own = getattr(getattr(self.trainer, "datamodule", None), "train_augmentations", None)
        return images if own or self.augmentation is None else self.augmentation(images)

    def log_and_sum(self, terms: Any, batch: Batch) -> Tensor:  # noqa: ANN401  # any named tuple
        """Log the terms of a loss and return their sum.

        Args:
            terms: A named tuple of scalars.
            batch: The batch that they belong to.

        Raises:
            FloatingPointError: If a term is not finite.
        """
        self._finite.check(terms, batch)
        loss = torch.stack(terms).sum()
        named = {f"train_loss_{name}": term for name, term in terms._asdict().items()}
        self.log("train_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(batch.image))
        self.log_dict(named, on_epoch=True, batch_size=len(batch.image))
        return loss

    def configure_callbacks(self) -> list[Callback]:
        """Callbacks of Anomalib, and our own."""
        own = [ImageFileReport(), StepSeeds(), EqualReplicas(), TimeLeft(), PredictionTable(), MapFiles(), RunSummary()]
        return [*super().configure_callbacks(), *own]

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Batch:
        """Predict the raw maps of a batch."""
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No sanity validation, because it would set thresholds for an untrained model."""
        self._resumed_from = None  # the Engine asks once a command, so only the test within the same command sees it
        return {"num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """One-class: trained on normal images only."""
        return LearningType.ONE_CLASS

    @staticmethod
    def configure_post_processor() -> DistillationPostProcessor:
        """The default post-processor: smoothing with sigma 4, and the maximum as image score."""
        return DistillationPostProcessor()

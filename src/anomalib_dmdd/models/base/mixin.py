"""What a distillation model needs of Lightning and Anomalib."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from anomalib_dmdd.models.components import DistillationModel
from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation

from .checkpoints.checkpoint import training_facts
from .checkpoints.checkpoint_file import keep_checkpoints_complete
from .checkpoints.checkpoint_mixin import CheckpointMixin
from .evaluator import RankingEvaluator
from .export import ExportMixin
from .finite import FiniteGuard
from .holdout import ensure_validation_images
from .input_size import InputSizeMixin
from .length import (
    DefaultLength,
    claim_interval,
    has_no_length,
    is_endless,
    set_length,
    time_progress,
    training_progress,
)
from .normalization import differs_from_weights, normalization_of
from .post_processor import DistillationPostProcessor
from .random_state import StepSeeds
from .replicas import EqualReplicas
from .reports.images import ImageFileReport
from .reports.map_files import MapFiles
from .reports.prediction_table import PredictionTable
from .reports.run_summary import RunSummary
from .reports.time_left import TimeLeft
from .reports.training_images import report_training_images
from .run_folder import make_latest_a_link, share_run_folder
from .schedule import with_warmup_cosine
from .tested_images import refuse_tested_defects
from .tiles import check_tiles, check_trained_tiles
from .trained_images import numbers_of, refuse_unequal_splits, warn_of_trained
from .trainer_checks import refuse_callbacks, refuse_precision, refuse_used_trainer
from .visualizer import VerdictVisualizer

logger = logging.getLogger(__name__)


class DistillationMixin(ExportMixin, InputSizeMixin, CheckpointMixin):  # type: ignore[misc]  # to_onnx, as in Anomalib
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
        """Refuse trainers that would spoil the run, and prepare its folder, checkpoints and validation images."""
        super().setup(stage)
        share_run_folder(self.trainer)
        refuse_precision(self.trainer)
        self._finite = FiniteGuard()
        if stage == "fit":
            refuse_callbacks(self.trainer)
            keep_checkpoints_complete(self.trainer)
            ensure_validation_images(self.trainer)

    def on_fit_start(self) -> None:
        """Load the teacher's weights, and the textures and known defects of simulated anomalies, once.

        Raises:
            ValueError: If the network is in evaluation mode, the processes have split the images differently, tiles do
                not fit, or a known defect is also a validation or test image.
        """
        if not self.model.training:
            raise ValueError("The network is in evaluation mode, in which it cannot learn. Call model.train() first.")
        refuse_used_trainer(self.trainer, self.threshold_age.weights)  # in `setup` it has an older `ckpt_path`
        super().on_fit_start()
        refuse_unequal_splits(self.trainer)
        warn_of_trained(self.trainer, self.trained_on | numbers_of(self.trainer, "train"), "val", "test")
        check_tiles(self)
        self.trained_with = training_facts(getattr(self.trainer, "datamodule", None), self.model.tiler)
        self.model.load_pretrained()
        if (values := normalization_of(self.pre_processor)) is not None:
            self._compare_with_weights(values)
            for part in filter(None, (self.augmentation, getattr(self, "simulator", None))):
                part.set_normalization(*values)
        if isinstance(simulator := getattr(self, "simulator", None), AnomalySimulator):
            simulator.load_textures()
            simulator.load_known_defects(self.input_size or (256, 256))
            if simulator.known_defects is not None:
                refuse_tested_defects(simulator.known_defects, getattr(self.trainer, "datamodule", None))

    def _compare_with_weights(self, values: tuple[Sequence[float], Sequence[float]]) -> None:
        """Warn of images that are normalised otherwise than those that the teacher was trained with."""
        teacher = self.model.teacher
        downloaded = teacher.pre_trained and not teacher.weights
        if downloaded and (difference := differs_from_weights(values, teacher.backbone)):
            rank_zero_only(logger.warning)(
                "pre_processor: %s. Pass a PreProcessor with that normalisation for better features.", difference
            )

    def on_train_start(self) -> None:
        """Set the default length if an overridden ``configure_optimizers`` has not, and note the training images."""
        super().on_train_start()
        self.trained_on |= numbers_of(self.trainer, "train")
        self._take_default_length()
        if self.augmentation is not None and self._own_augmentations():
            rank_zero_only(logger.info)("The augmentations of the data module replace those of the model.")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Calibrate a random teacher on the first batch, and read the clock.

        Raises:
            ValueError: If the batch is too small for batch normalisation, or the images have a size that the network
                cannot process.
        """
        super().on_train_batch_start(batch, batch_idx)
        self.check_images(batch.image)
        self._time_progress = time_progress(self.trainer)
        cells = batch.image[0, 0].numel() // self.model.size_divisor**2
        if len(batch.image) * cells == 1:
            raise ValueError(
                "Batch normalisation needs more than one value: a batch of one image leaves one cell in the deepest "
                "features. Use a larger --data.train_batch_size or larger images."
            )
        if self.trainer.global_step == 0:
            self.model.calibrate(self.model.tiled(batch.image))

    def on_train_end(self) -> None:
        """Score the training images with the finished model, unless the user switched it off."""
        super().on_train_end()
        if self.check_training_images:
            report_training_images(self)

    def on_validation_start(self) -> None:
        """Refuse tiles that do not fit, and warn of images that were trained on."""
        super().on_validation_start()
        check_trained_tiles(self)
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            warn_of_trained(self.trainer, self.trained_on, "val")

    def on_test_start(self) -> None:
        """Refuse tiles that do not fit, and warn of old thresholds and of trained images."""
        super().on_test_start()
        check_trained_tiles(self)
        self.warn_of_thresholds()
        warn_of_trained(self.trainer, self.trained_on, "test")

    def on_predict_start(self) -> None:
        """Refuse tiles that do not fit, and warn of old thresholds."""
        super().on_predict_start()
        check_trained_tiles(self)
        self.warn_of_thresholds()

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
        self._take_default_length()
        if is_endless(self.trainer):
            logger.warning(
                "The training has no end. Its rates fall to zero until step %d, and nothing is learnt after that.",
                self.default_length.steps,
            )
        return with_warmup_cosine(optimizer, lambda: self.training_progress, scales)

    def _take_default_length(self) -> None:
        """Set the default length unless the user set one, once a training."""
        if self._takes_default_length:
            epochs, steps = set_length(self.trainer, self.default_length, self._sets_interval)
            logger.info("%s trains for %d epochs, %d steps.", type(self).__name__, epochs, steps)
            self._takes_default_length = False

    @staticmethod
    def configure_evaluator() -> RankingEvaluator:
        """The metrics of Anomalib, also for raw scores; those without a value are left out."""
        metrics = [*AnomalibModule.configure_evaluator().test_metrics]
        for metric in metrics:
            metric.strict = False  # without a post-processor nothing is labelled
        return RankingEvaluator(test_metrics=metrics)

    @classmethod
    def configure_visualizer(cls) -> VerdictVisualizer:
        """Pictures with score and verdict."""
        return VerdictVisualizer()

    def augmented(self, images: Tensor) -> Tensor:
        """Mildly augmented images ``(N, 3, H, W)``, unless the data module augments them."""
        return images if self.augmentation is None or self._own_augmentations() else self.augmentation(images)

    def _own_augmentations(self) -> bool:
        """Whether the data module augments the training images."""
        return bool(getattr(getattr(self.trainer, "datamodule", None), "train_augmentations", None))

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
        own = [StepSeeds(), EqualReplicas(), TimeLeft(), PredictionTable(), MapFiles(), RunSummary()]
        return [*super().configure_callbacks(), *own, ImageFileReport()]  # it may take long, so all else is saved first

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Batch:
        """Predict the raw maps of a batch."""
        del args, kwargs
        self.check_images(batch.image)
        return batch.update(**self.model(batch.image)._asdict())

    def test_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Batch:
        """Predict the raw maps of a batch."""
        return self.validation_step(batch, *args, **kwargs)

    def predict_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Batch:
        """Predict the raw maps of a batch."""
        return self.validation_step(batch, *args, **kwargs)

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Predict as Anomalib does.

        Raises:
            ValueError: If the model is in training mode, in which its statistics would change with each image.
        """
        if self.training:
            raise ValueError("A model in training mode cannot predict. Call model.eval() first.")
        return super().forward(batch, *args, **kwargs)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No sanity validation, because it would set thresholds for an untrained model.

        Anomalib's Engine asks once a command; a checkpoint that an earlier command resumed is forgotten then.
        """
        self._resumed_from = None
        return {"num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """One-class: trained on normal images only."""
        return LearningType.ONE_CLASS

    @staticmethod
    def configure_post_processor() -> DistillationPostProcessor:
        """The default post-processor: smoothing with sigma 4, and the maximum as image score."""
        return DistillationPostProcessor()

"""From a raw anomaly map to score, threshold and mask: what the three models share."""

import logging
import math
from collections.abc import Sequence
from itertools import compress
from typing import Any

import torch
from anomalib.data import Batch, InferenceBatch
from anomalib.post_processing import PostProcessor
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from .evaluator import bounded
from .thresholds import alarms_above, expected_false_alarms, images_needed, percent, separating_threshold
from .validation_scores import ScoredBatch, ValidationScores

logger = logging.getLogger(__name__)

ROUNDING = 1e-3
"""Scores may lie so far below 0, where distances are rounded."""
FEW = 10
"""With fewer good or fewer anomalous validation images, a threshold is called a rough guess."""


class DistillationPostProcessor(PostProcessor):
    """Anomalib's post-processor behind Gaussian smoothing and a choice of image score.

    Both run in the Engine and in the exported graph alike, and their settings are part of the checkpoint.

    A validation sets the thresholds. With anomalies they have the best F1 score, and lie half way between the two
    scores that they separate. Without anomalies they are a quantile of the normal scores. Without masks the image
    threshold also is that of the pixels. Training on several devices gives every process the same thresholds, from
    all images, each counted once.

    Without a threshold, scores still lie in [0, 1], but nothing is labelled as anomalous. What is not a number is
    reported as 1, or as infinity without normalisation.

    Attributes:
        raw_scores: Image scores ``(N,)`` of the last batch before normalisation.
        validation_scores: Such scores of the last validation, those that set the thresholds.
        validation_labels: Whether each of its images is anomalous.

    Args:
        sigma: Standard deviation of the smoothing in pixels of the map; 0 leaves the map as it is. The default is
            that of RD4AD and of most methods since.
        top_k: The image score is the mean of that many highest pixels of the smoothed map: 1 is the maximum, 100 is
            DeSTSeg's choice.
        normal_quantile: With a validation set that holds no anomalies, the thresholds are set so that this share of
            its images stays below them.
        **kwargs: Arguments of Anomalib's post-processor.

    Raises:
        ValueError: If an argument is out of range.
    """

    raw_scores: Tensor
    validation_scores: Tensor
    validation_labels: Tensor

    def __init__(self, sigma: float = 4.0, top_k: int = 1, normal_quantile: float = 0.98, **kwargs: Any) -> None:
        if not 0 <= sigma < math.inf or top_k < 1 or top_k != int(top_k) or not 0 < normal_quantile <= 1:
            raise ValueError(
                "post_processor: sigma must be at least 0, top_k a whole number from 1 and normal_quantile in (0, 1]; "
                f"got sigma={sigma}, top_k={top_k}, normal_quantile={normal_quantile}."
            )
        super().__init__(**kwargs)
        for name in ("image_sensitivity", "pixel_sensitivity"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"post_processor: {name} must be from 0 to 1, got {value}.")
        for name in ("image", "pixel"):  # Anomalib's range of scores; NaN would make equal states look different
            getattr(self, f"{name}_min").fill_(0)
            getattr(self, f"{name}_max").fill_(1)
        self.sigma = sigma
        self.top_k = int(top_k)
        self.normal_quantile = normal_quantile
        self._batches: list[ScoredBatch] = []
        self._said: set[str] = set()

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "sigma", "top_k", "normal_quantile")

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse settings that do not fit maps of this height and width in pixels.

        Raises:
            ValueError: If the smoothing kernel or the number of pixels of the image score is too large.
        """
        radius, pixels = int(4 * self.sigma + 0.5), size[0] * size[1]
        if radius >= min(size):
            raise ValueError(
                f"post_processor: sigma={self.sigma} smooths over {2 * radius + 1} pixels, more than maps of "
                f"{size[0]}x{size[1]} can reflect. Use a sigma below {min(size) / 4 - 0.125:g}."
            )
        if self.top_k > pixels:
            raise ValueError(f"post_processor: top_k={self.top_k} is more than the {pixels} pixels of the map.")

    def smooth(self, anomaly_map: Tensor) -> Tensor:
        """Gaussian smoothing of a map ``(N, 1, H, W)`` or ``(N, H, W)``."""
        if self.sigma == 0:
            return anomaly_map
        size = 2 * int(4 * self.sigma + 0.5) + 1
        kernel = get_gaussian_kernel1d(size, self.sigma, device=anomaly_map.device, dtype=anomaly_map.dtype)
        maps = anomaly_map if anomaly_map.ndim == 4 else anomaly_map.unsqueeze(1)  # noqa: PLR2004  # N, 1, H, W
        smoothed: Tensor = filter2d_separable(maps, kernel, kernel).reshape(anomaly_map.shape)
        return smoothed

    def image_score(self, anomaly_map: Tensor) -> Tensor:
        """Mean of the ``top_k`` highest pixels of each map: ``(N, ...)`` to ``(N,)``, not negative."""
        pixels = anomaly_map.flatten(1)
        return pixels.amax(1) if self.top_k == 1 else pixels.topk(self.top_k, dim=1).values.mean(1)

    @staticmethod
    def _normalize(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
        """Scale scores to [0, 1) by ``r^2 / (1 + r^2)``, r in thresholds.

        The threshold itself is 0.5, twice the threshold 0.8, half of it 0.2. Anomalib clips normalised scores to
        [0, 1], so scores far from the threshold can no longer be ranked.
        """
        del norm_min, norm_max
        if preds is None:
            return None
        unit = torch.where(threshold.isnan(), 1.0, threshold.clamp_min(torch.finfo(torch.float32).eps))
        squared = (preds.float().clamp_min(0) / unit) ** 2
        score = squared / (1 + squared)
        return torch.where(score.isnan(), 1.0, score)  # a score that is not a number must not pass as good

    @property
    def normalized_image_threshold(self) -> Tensor:
        """Threshold of the image scores that are reported."""
        return self._reported(self.image_threshold, self.image_sensitivity)

    @property
    def normalized_pixel_threshold(self) -> Tensor:
        """Threshold of the maps that are reported."""
        return self._reported(self.pixel_threshold, self.pixel_sensitivity)

    def flagged_above(self, threshold: float) -> float:
        """Raw score above which an image is defective, for a raw threshold and the sensitivity."""
        return threshold * _factor(self.image_sensitivity)

    def expected_alarms(self, good: Tensor, threshold: float) -> float:
        """Share of good images that will be flagged.

        Args:
            good: Raw scores of some good images, ``(N,)``.
            threshold: Their quantile.
        """
        if self.image_sensitivity == 0.5:  # noqa: PLR2004  # else it is not the quantile that flags
            return expected_false_alarms(len(good), self.normal_quantile)
        return alarms_above(good, self.flagged_above(threshold))

    def _reported(self, threshold: Tensor, sensitivity: float) -> Tensor:
        """Threshold of what is reported, normalised or raw; nothing exceeds a missing one."""
        if self.enable_normalization:
            return torch.where(threshold.isnan(), 1.0, 1.0 - sensitivity)
        limit = threshold.clamp_min(torch.finfo(torch.float32).eps) * _factor(sensitivity)
        return torch.where(threshold.isnan(), math.inf, limit)

    def forward(self, predictions: InferenceBatch) -> InferenceBatch:
        """Smooth, score, normalise and threshold raw predictions (the exported graph)."""
        anomaly_map, pred_score = self._smooth_and_score(predictions.anomaly_map)
        return super().forward(predictions._replace(anomaly_map=anomaly_map, pred_score=pred_score))

    def _smooth_and_score(self, anomaly_map: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map = self.smooth(anomaly_map)
        if not self.enable_normalization:  # else _normalize does it
            anomaly_map = torch.where(anomaly_map.isnan(), math.inf, anomaly_map)
        return anomaly_map, self.image_score(anomaly_map)

    def post_process_batch(self, batch: Batch) -> None:
        """Smooth, score, normalise and threshold a batch of the Engine in place."""
        batch.anomaly_map, batch.pred_score = self._smooth_and_score(batch.anomaly_map)
        self.raw_scores = batch.pred_score
        if (broken := ~batch.pred_score.isfinite()).any():
            paths = getattr(batch, "image_path", None) or ["an image"] * len(broken)
            logger.warning(
                "Scores are not finite, reported as the highest: %s",
                ", ".join(map(str, compress(paths, broken.tolist()))),
            )
        super().post_process_batch(batch)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say each message again in a new run."""
        del trainer, pl_module, stage
        self._said = set()

    def _say_once(self, level: int, message: str, *values: object) -> None:
        """Log a message on the first process, once a run and not after every validation."""
        if message not in self._said:
            self._said.add(message)
            rank_zero_only(logger.log)(level, message, *values)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the scores of the last validation."""
        del trainer, pl_module
        self._batches = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Smooth and score a batch, and keep what the thresholds need of it.

        The metrics of the validation get bounded scores, see :class:`RankingEvaluator`.
        """
        del trainer, pl_module, args, kwargs
        outputs.anomaly_map, outputs.pred_score = self._smooth_and_score(outputs.anomaly_map)
        self._batches.append(ScoredBatch.of(outputs))
        outputs.pred_score, outputs.anomaly_map = bounded(outputs.pred_score), bounded(outputs.anomaly_map)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set thresholds from the scores of all processes.

        Every process must get here and make the same calls, whatever its own images are. The few batches of a sanity
        check before the training set nothing.

        Raises:
            ValueError: If a score of a subclass is negative.
        """
        del pl_module
        if trainer.sanity_checking:
            self._batches = []
            return
        scores = ValidationScores(self._batches, self._image_threshold.device)
        self._batches = []
        self.validation_scores, self.validation_labels = scores.image, scores.labels
        if scores.broken:
            self._say_once(
                logging.ERROR,
                "%d validation images are left out of the thresholds, because their scores are not finite. The first "
                "is %s. If there are more, the training has diverged.",
                len(scores.broken),
                scores.broken[0],
            )
        if len(scores.image) and (lowest := float(scores.image.min())) < -ROUNDING:
            raise ValueError(
                f"post_processor: the lowest image score is {lowest:.4g}, but normalisation and thresholds start at 0. "
                "Let image_score return scores that are not negative."
            )
        if self.enable_thresholding:
            image, pixel = self._thresholds(scores)
            self._image_threshold.copy_(image)
            self._pixel_threshold.copy_(pixel)

    def _thresholds(self, scores: ValidationScores) -> tuple[Tensor, Tensor]:
        """Thresholds of image scores and pixels; NaN stands for none."""
        none = torch.full_like(self._image_threshold, torch.nan)
        if not len(scores.image):
            return none, none
        if not scores.labels.any():
            return self._from_normal_images(scores)
        if scores.labels.all():
            self._say_once(
                logging.WARNING,
                "The validation set holds no good images (%d anomalous ones): the threshold lies below the lowest of "
                "their scores, so good images may be flagged. Add good images to the validation set.",
                len(scores.image),
            )
        elif (fewest := min(int((scores.labels == kind).sum()) for kind in (False, True))) < FEW:
            self._say_once(
                logging.WARNING,
                "The thresholds rest on few validation images, only %d of one kind, so they are a rough guess. Add "
                "images, or set them anew from more images with `anomalib-dmdd calibrate`.",
                fewest,
            )
        image = separating_threshold(scores.image, scores.labels)
        pixels, anomalous = scores.pixels()
        if anomalous.any():
            return image, separating_threshold(pixels, anomalous)
        if self.enable_threshold_matching:
            self._say_once(
                logging.INFO,
                "The validation images have no masks, so the threshold of the image scores is used for pixels too.",
            )
        return image, none

    def _from_normal_images(self, scores: ValidationScores) -> tuple[Tensor, Tensor]:
        """Quantiles of image scores and highest pixels, with a message about their worth."""
        images, quantile = len(scores.image), self.normal_quantile
        threshold, is_rough = scores.image.quantile(quantile), images < images_needed(quantile)
        self._say_once(
            logging.WARNING,
            "The validation set holds no anomalies, so the thresholds are the %g quantile of the scores of its %d "
            "normal images. Expect about %s %% of good images to be flagged%s. Set post_processor.normal_quantile "
            "or the sensitivities for another rate.",
            quantile,
            images,
            percent(self.expected_alarms(scores.image, float(threshold))),
            f"; this is a rough guess, {images} images are few for that quantile" if is_rough else "",
        )
        return threshold, scores.highest.quantile(quantile)


def _factor(sensitivity: float) -> float:
    """Raw score in thresholds whose normalised score is 1 minus a sensitivity."""
    return math.sqrt((1.0 - sensitivity) / sensitivity) if sensitivity else math.inf

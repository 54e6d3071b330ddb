"""From a raw anomaly map to score, threshold and mask: what the three models share."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from anomalib.data import Batch, InferenceBatch
from anomalib.post_processing import PostProcessor
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from lightning import LightningModule, Trainer
from torch import Tensor

logger = logging.getLogger(__name__)


class DistillationPostProcessor(PostProcessor):
    """Anomalib's post-processor behind Gaussian smoothing and a choice of image score.

    Both run in the Engine and in the exported graph alike, and their settings are part of the checkpoint.

    Args:
        sigma: Standard deviation of the smoothing in pixels of the map; 0 leaves the map as it is. The default is
            that of RD4AD and of most methods since.
        top_k: The image score is the mean of that many highest pixels of the smoothed map: 1 is the maximum, 100 is
            DeSTSeg's choice.
        normal_quantile: With a validation set that holds no anomalies, the thresholds are set so that this share of
            its images stays below them (our choice).
        **kwargs: Arguments of Anomalib's post-processor.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, sigma: float = 4.0, top_k: int = 1, normal_quantile: float = 0.98, **kwargs: Any) -> None:
        if not 0 <= sigma < math.inf or top_k < 1 or top_k != int(top_k) or not 0 < normal_quantile <= 1:
            raise ValueError(
                "post_processor: sigma must be at least 0, top_k a whole number from 1 and normal_quantile in (0, 1]; "
                f"got sigma={sigma}, top_k={top_k}, normal_quantile={normal_quantile}."
            )
        super().__init__(**kwargs)
        self.sigma = sigma
        self.top_k = int(top_k)
        self.normal_quantile = normal_quantile
        self._normal_scores: list[Tensor] = []  # per validation batch: image scores and map maxima, (2, N)
        self._anomalies_seen = False

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
        """Gaussian smoothing of a map ``(N, 1, H, W)`` or ``(N, H, W)``, reflected at the border."""
        if self.sigma == 0:
            return anomaly_map
        size = 2 * int(4 * self.sigma + 0.5) + 1
        kernel = get_gaussian_kernel1d(size, self.sigma, device=anomaly_map.device, dtype=anomaly_map.dtype)
        maps = anomaly_map if anomaly_map.ndim == 4 else anomaly_map.unsqueeze(1)  # noqa: PLR2004  # N, 1, H, W
        smoothed: Tensor = filter2d_separable(maps, kernel, kernel).reshape(anomaly_map.shape)
        return smoothed

    def image_score(self, anomaly_map: Tensor) -> Tensor:
        """Mean of the ``top_k`` highest pixels of each map: ``(N, ...)`` to ``(N,)``."""
        pixels = anomaly_map.flatten(1)
        return pixels.amax(1) if self.top_k == 1 else pixels.topk(self.top_k, dim=1).values.mean(1)

    @staticmethod
    def _normalize(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
        """``r^2 / (1 + r^2)``, r in units of the threshold: 0.5 there, 0.8 at twice and 0.2 at half of it (our choice).

        Anomalib's straight line is cut off at 0 and 1. With a threshold near the top of the range that takes most of
        the background, which then cannot be ranked any more (measured, see docs/results.md).
        """
        del norm_min, norm_max
        if preds is None:
            return None
        squared = (preds.float().clamp_min(0) / threshold.clamp_min(torch.finfo(torch.float32).eps)) ** 2
        return torch.where(threshold.isnan(), preds.float(), squared / (1 + squared))

    def forward(self, predictions: InferenceBatch) -> InferenceBatch:
        """Smooth, score, normalise and threshold raw predictions (the exported graph)."""
        anomaly_map = self.smooth(predictions.anomaly_map)
        return super().forward(predictions._replace(anomaly_map=anomaly_map, pred_score=self.image_score(anomaly_map)))

    def _smooth_and_score(self, batch: Batch) -> None:
        batch.anomaly_map = self.smooth(batch.anomaly_map)
        batch.pred_score = self.image_score(batch.anomaly_map)

    def post_process_batch(self, batch: Batch) -> None:
        """Smooth, score, normalise and threshold a batch of the Engine in place."""
        self._smooth_and_score(batch)
        super().post_process_batch(batch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the scores of the last validation."""
        del trainer, pl_module
        self._normal_scores, self._anomalies_seen = [], False

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Smooth and score the batch before Anomalib collects its statistics."""
        self._smooth_and_score(outputs)
        self._normal_scores.append(torch.stack([outputs.pred_score, outputs.anomaly_map.flatten(1).amax(1)]))
        self._anomalies_seen |= bool(outputs.gt_label.any())
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set thresholds and range; without anomalies from a quantile of the normal scores."""
        fall_back = self.enable_thresholding and self._normal_scores and not self._anomalies_seen
        if fall_back:  # Anomalib would take the highest normal score: one odd image decides
            self._image_threshold_metric.reset()
            self._pixel_threshold_metric.reset()
        super().on_validation_epoch_end(trainer, pl_module)
        if fall_back:
            scores = torch.cat(self._normal_scores, dim=1).float()
            image, pixel = scores.quantile(self.normal_quantile, dim=1)
            self._image_threshold.copy_(image)
            self._pixel_threshold.copy_(pixel)
            logger.warning(
                "The validation set holds no anomalies (%d normal images), so no threshold can be fitted to them: the "
                "thresholds are the %g quantile of the normal images' highest scores. Expect about %g %% of good "
                "images to be flagged; set post_processor.normal_quantile or the sensitivities for another rate.",
                scores.shape[1],
                self.normal_quantile,
                round(100 * (1 - self.normal_quantile), 3),
            )
        self._normal_scores = []

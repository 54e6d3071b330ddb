"""Whether the thresholds of a model belong to its weights."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from anomalib.post_processing import PostProcessor
from torch import nn

from anomalib_dmdd.shell import command_line

THRESHOLDS_KEY = "anomalib_dmdd_thresholds"
"""Where a checkpoint holds a :class:`ThresholdAge`."""


def calibration(checkpoint: object = "CHECKPOINT") -> str:
    """The command that sets new thresholds without a training."""
    return command_line(["anomalib-dmdd", "calibrate", checkpoint, "--data", "GOOD"])


def takes_thresholds(post_processor: nn.Module | None) -> bool:
    """Whether a validation sets thresholds of a post-processor."""
    return isinstance(post_processor, PostProcessor) and bool(post_processor.enable_thresholding)


def forget_thresholds(post_processor: nn.Module | None) -> None:
    """Leave a post-processor without thresholds, as before the first validation."""
    if isinstance(post_processor, PostProcessor):
        for name in ("_image_threshold", "_pixel_threshold"):
            getattr(post_processor, name).fill_(math.nan)


@dataclass(frozen=True)
class ThresholdAge:
    """Training steps behind the weights, and behind the weights that the thresholds were set for.

    Attributes:
        weights: Steps that the weights were trained for.
        thresholds: Steps at the last validation; None if there was none.

    Example:
        >>> age = ThresholdAge().trained(100).validated().trained(150)
        >>> (age.weights, age.thresholds, age.is_current)
        (150, 100, False)
    """

    weights: int = 0
    thresholds: int | None = None

    @property
    def is_current(self) -> bool:
        """Whether the last validation was of these weights."""
        return self.thresholds == self.weights

    def trained(self, steps: int) -> "ThresholdAge":
        """The age after a training step."""
        return replace(self, weights=steps)

    def validated(self) -> "ThresholdAge":
        """The age after a validation."""
        return replace(self, thresholds=self.weights)

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write the age into a checkpoint, as plain numbers."""
        checkpoint[THRESHOLDS_KEY] = asdict(self)

    @classmethod
    def load(cls, checkpoint: dict[str, Any]) -> "ThresholdAge":
        """Read the age from a checkpoint; checkpoints of earlier versions do not have it."""
        return cls(**checkpoint.get(THRESHOLDS_KEY, {}))

    def complaint(self, post_processor: nn.Module | None, *, tiled: bool = False) -> str | None:
        """What a user must know before using labels and masks; None if all is well.

        Args:
            post_processor: That of the model.
            tiled: Whether the model was trained on tiles, which no command of ours can cut.
        """
        if not takes_thresholds(post_processor):
            return None
        if cast("PostProcessor", post_processor).image_threshold.isnan():
            remedy = f"Set thresholds from good images, better with some defective ones too: {calibration()}"
            remedy = "Train again with validation images." if tiled else remedy
            return (
                "The model has no threshold, because no validation has set one. Scores and maps rank images and "
                f"pixels, but 0.5 has no meaning, and nothing is labelled as anomalous. {remedy}"
            )
        if self.thresholds is not None and not self.is_current:
            other = "." if tiled else f", or set new thresholds: {calibration()}"
            return (
                f"The thresholds are older than the weights: they were set at step {self.thresholds}, but the weights "
                f"are those of step {self.weights}. Labels and masks may be wrong. Go on with the training{other}"
            )
        return None

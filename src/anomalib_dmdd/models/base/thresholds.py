"""Thresholds from validation scores: pure functions, without Lightning."""

import math
from types import SimpleNamespace

from anomalib.metrics import F1AdaptiveThreshold
from torch import Tensor

JUST_BELOW = 0.999
"""Factor that puts a threshold below the lowest score, where there is no second score to put it half way to."""


def separating_threshold(scores: Tensor, labels: Tensor) -> Tensor:
    """Threshold with the best F1 score, half way between the two scores that it separates.

    Anomalib's threshold is the lowest score that counts as anomalous. A label needs a score *above* the threshold, so
    an image with just that score would be called good.

    Args:
        scores: Finite scores ``(N,)``, not negative.
        labels: 1 for an anomaly and 0 for normal ``(N,)``, with at least one anomaly.

    Returns:
        The threshold, a scalar.

    Example:
        >>> from torch import tensor
        >>> separating_threshold(tensor([1.0, 2.0, 4.0, 5.0]), tensor([0, 0, 1, 1]))
        tensor(3.)
    """
    if labels.all():
        return JUST_BELOW * scores.min()
    metric = F1AdaptiveThreshold(fields=["scores", "labels"], sync_on_compute=False)
    metric.update(SimpleNamespace(scores=scores, labels=labels.int()))
    lowest_anomalous: Tensor = metric.compute()
    below = scores[scores < lowest_anomalous]
    return (lowest_anomalous + below.max()) / 2 if below.numel() else JUST_BELOW * lowest_anomalous


def percent(share: float) -> str:
    """A share in percent, with two digits below ten percent.

    Example:
        >>> [percent(share) for share in (0.0123, 0.295, 1)]
        ['1.2', '30', '100']
    """
    return f"{100 * share:.2g}" if share < 0.1 else f"{100 * share:.0f}"  # noqa: PLR2004


def expected_false_alarms(images: int, quantile: float) -> float:
    """Expected share of new good images above a quantile of good scores.

    A new good image takes each rank among them with the same probability. So ``n`` images cannot support an expected
    share below ``1 / (n + 1)``, whatever the quantile is.

    Args:
        images: Number of good images that the quantile was computed from.
        quantile: The quantile, in (0, 1].

    Example:
        >>> [round(expected_false_alarms(images, 0.98), 3) for images in (9, 100, 10000)]
        [0.116, 0.03, 0.02]
    """
    rank = 1 + (images - 1) * quantile
    return 1 - rank / (images + 1)


def alarms_above(good: Tensor, limit: float) -> float:
    """Share of good images to expect above a limit that is not their quantile.

    The next image may be one more above it.

    Args:
        good: Raw scores of some good images, ``(N,)``.
        limit: Raw score.
    """
    return (int((good > limit).sum()) + 1) / (len(good) + 1)


def images_needed(quantile: float) -> float:
    """Number of good images of which one is expected above their quantile.

    Args:
        quantile: The quantile, in (0, 1]. No number is enough for 1, the highest of them.

    Example:
        >>> [images_needed(quantile) for quantile in (0.9, 0.98, 1.0)]
        [10, 50, inf]
    """
    return math.ceil(round(1 / (1 - quantile), 6)) if quantile < 1 else math.inf  # 1 / (1 - 0.9) is a little above 10

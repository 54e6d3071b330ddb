"""Metrics that rank raw scores, too."""

from copy import copy
from typing import Any

from anomalib.metrics import Evaluator
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor


class RankingEvaluator(Evaluator):
    """Evaluator for scores of any size.

    Torchmetrics takes a batch with a score outside of [0, 1] for logits and applies a sigmoid to this batch alone, so
    raw scores of several batches could not be ranked.
    """

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        *indices: Any,
        **named: Any,
    ) -> None:
        """Update the metrics; what the batch reports stays as it is."""
        if not getattr(pl_module.post_processor, "enable_normalization", False):
            batch = copy(batch)
            batch.pred_score, batch.anomaly_map = bounded(batch.pred_score), bounded(batch.anomaly_map)
        super().on_test_batch_end(trainer, pl_module, outputs, batch, *indices, **named)


def bounded(scores: Tensor | None) -> Tensor | None:
    """Scores from 0 up, in the same order below 1.

    Example:
        >>> import torch
        >>> bounded(torch.tensor([0.0, 1.0, 3.0])).tolist()
        [0.0, 0.5, 0.75]
    """
    return None if scores is None else scores / (1 + scores)

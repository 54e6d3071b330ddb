"""Scores of the training images after a training, to find defects among the good images."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from anomalib.data import AnomalibDataModule
from anomalib.data.datasets import AnomalibDataset
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader

from anomalib_dmdd.models.base.checkpoints.checkpoint_file import keeps_a_model
from anomalib_dmdd.models.base.post_processor import DistillationPostProcessor
from anomalib_dmdd.models.base.quantization import evenly_spaced
from anomalib_dmdd.models.base.run_folder import new_file
from anomalib_dmdd.models.base.validation_scores import gather_objects
from anomalib_dmdd.models.components import evaluation_mode

if TYPE_CHECKING:
    from anomalib_dmdd.models.base.mixin import DistillationMixin

logger = logging.getLogger(__name__)

LIMIT = 1000
"""At most so many images are scored, evenly spaced in the training set."""
FEWEST_SCORED = 10
"""With fewer images no score is called unusual."""
DEVIATIONS = 3.5
"""A score stands out if it lies so many robust standard deviations above the median."""
SHOWN = 10
"""At most so many images are named in the log."""


class ImageScore(NamedTuple):
    """Path and raw score of an image."""

    file: str
    raw_score: float


def report_training_images(model: "DistillationMixin") -> None:
    """Write the scores of the training images, and name those that stand out.

    The images are scored once, as test images are. The processes share them. Weights,
    thresholds and random numbers stay as they are. Nothing happens without a data module or a model that is kept.

    Args:
        model: The trained model, at the end of its training.
    """
    trainer, post_processor = model.trainer, model.post_processor
    data = getattr(trainer, "datamodule", None)
    ours = isinstance(data, AnomalibDataModule) and isinstance(data.train_data, AnomalibDataset)
    if not ours or not isinstance(post_processor, DistillationPostProcessor) or not keeps_a_model(trainer):
        return
    with isolate_rng(), evaluation_mode(model), torch.no_grad():
        own = list(_scores(model, post_processor, data))
    scores = sorted((score for part in gather_objects(own) for score in part), key=lambda score: -score.raw_score)
    if trainer.is_global_zero and scores:
        _report(trainer, pd.DataFrame(scores))


def _scores(
    model: "DistillationMixin", post_processor: DistillationPostProcessor, data: AnomalibDataModule
) -> Iterator[ImageScore]:
    """Score the images of this process."""
    trainer = model.trainer
    chosen = evenly_spaced(data.train_data, LIMIT)
    images = chosen.subsample([*range(trainer.global_rank, len(chosen), trainer.world_size)])
    images.augmentations = data.val_augmentations  # what a tested image passes, and no more
    if transform := getattr(model.pre_processor, "transform", None):
        data._update_subset_augmentations(images, data.val_augmentations, transform)  # noqa: SLF001  # resizes
    collate = data.external_collate_fn or images.collate_fn
    for batch in DataLoader(images, data.eval_batch_size, num_workers=data.num_workers, collate_fn=collate):
        on_device = trainer.strategy.batch_to_device(batch)
        if isinstance(model.pre_processor, PreProcessor):
            model.pre_processor.on_validation_batch_start(trainer, model, on_device, 0)
        with trainer.precision_plugin.forward_context():
            anomaly_map = model.model(on_device.image).anomaly_map
        raw_scores = post_processor.image_score(post_processor.smooth(anomaly_map))
        yield from map(ImageScore, batch.image_path, raw_scores.flatten().tolist())


def stands_out(scores: Tensor) -> Tensor:
    """Which scores lie far above the others.

    Such a score exceeds the median by more than :data:`DEVIATIONS` robust standard deviations. One is 1.4826 times the
    median absolute deviation, and at least 1 % of the median.

    Args:
        scores: Raw scores ``(N,)``.

    Returns:
        Bool ``(N,)``.

    References:
        Iglewicz, Hoaglin, How to Detect and Handle Outliers, 1993, for the number of deviations

    Example:
        >>> scores = torch.tensor([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.1, 0.9, 1.0, 3.0])
        >>> stands_out(scores).nonzero().flatten().tolist()
        [9]
    """
    if len(scores) < FEWEST_SCORED:
        return torch.zeros_like(scores, dtype=torch.bool)
    median = scores.median()
    deviation = 1.4826 * (scores - median).abs().median()
    return scores - median > DEVIATIONS * deviation.maximum(0.01 * median)


def _report(trainer: Trainer, table: pd.DataFrame) -> None:
    """Write the table, and name the images that stand out."""
    table["stands_out"] = stands_out(torch.tensor(table["raw_score"].to_numpy())).numpy()
    path = new_file(Path(trainer.default_root_dir), "training_images")
    table.to_csv(path, index=False, errors="surrogateescape")  # names that are not UTF-8
    logger.info("Scores of %d training images: %s", len(table), path)
    unusual = table[table["stands_out"]]
    if len(unusual):
        named = ", ".join(f"{file} ({score:.3g})" for file, score, _ in unusual[:SHOWN].itertuples(index=False))
        logger.warning(
            "%d of %d training images have scores far above the others (median %.3g). Look whether they are good, and "
            "train without those that are not: %s%s",
            len(unusual),
            len(table),
            table["raw_score"].median(),
            named,
            ", ..." if len(unusual) > SHOWN else "",
        )

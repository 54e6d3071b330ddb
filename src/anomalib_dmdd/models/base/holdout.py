"""Good images that are held out of the training where there are no validation images."""

import logging

from anomalib.data import AnomalibDataModule
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

logger = logging.getLogger(__name__)

SHARE = 0.1
"""Share of the training images that is held out."""

FEWEST_HELD_OUT = 3
"""At least so many images are held out, and at least as many are left to train on."""


def ensure_validation_images(trainer: Trainer) -> None:
    """Hold out good images for the thresholds if a training would otherwise have no validation.

    Scores of images that were trained on are too low to set a threshold from. The images are evenly spaced in the
    training set, so that all processes, and a resumed training, hold out the same ones.

    Args:
        trainer: A trainer whose data module has been set up for the training.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, AnomalibDataModule):
        return  # data loaders of the user: there is nothing that could be split here
    validated = getattr(data, "val_data", None)
    if validated is not None and len(validated):
        if not trainer.limit_val_batches:
            trainer.limit_val_batches = 1.0
            rank_zero_only(logger.warning)(
                "limit_val_batches=0 is ignored, because the thresholds need the %d validation images.", len(validated)
            )
        return
    images = len(data.train_data)
    held_out = max(FEWEST_HELD_OUT, round(SHARE * images))
    if images < 2 * FEWEST_HELD_OUT:
        trainer.limit_val_batches = 0
        rank_zero_only(logger.warning)(
            "There are no validation images, and %d training images are too few to hold some of them out. The model "
            "will have no threshold. Add good images; %d are the minimum.",
            images,
            2 * FEWEST_HELD_OUT,
        )
        return
    chosen = {int((index + 0.5) * images / held_out) for index in range(held_out)}
    data.val_data = data.train_data.subsample(sorted(chosen))
    data.train_data = data.train_data.subsample([index for index in range(images) if index not in chosen])
    data.setup(TrainerFn.FITTING)  # the second call only updates the augmentations
    trainer.limit_val_batches = trainer.limit_val_batches or 1.0
    rank_zero_only(logger.warning)(
        "There are no validation images, but thresholds need images that the model was not trained on. %d of the %d "
        "good training images are held out for that.",
        held_out,
        images,
    )

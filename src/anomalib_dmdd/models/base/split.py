"""Images that a model was trained on, to notice another split of the data."""

import logging
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from .validation_scores import gather_objects

logger = logging.getLogger(__name__)

IMAGES_KEY = "anomalib_dmdd_images"
"""Where a checkpoint holds a number for each training image, ``(N,)``, int64."""


class SplitMixin(LightningModule):
    """Mixin that warns of validation and test images that were trained on.

    Data modules such as ``Folder`` split a folder at random. Without a seed each command, and each process that was not
    started by Lightning, has a split of its own. Paths tell the images apart.

    Attributes:
        trained_on: Numbers of the training images, also of the training that this one goes on from.
    """

    trained_on: frozenset[int] = frozenset()

    def on_fit_start(self) -> None:
        """Note the training images.

        Raises:
            ValueError: If the processes train on different images.
        """
        super().on_fit_start()
        own = self._numbers("train")
        if any(other != sorted(own) for other in gather_objects(sorted(own))):
            raise ValueError(
                "data: the processes have split the images differently. Give a seed, for example --data.seed 0."
            )
        self._warn_of_trained("val", "test")
        self.trained_on = own if self.trainer.ckpt_path is None else own | self.trained_on

    def on_validation_start(self) -> None:
        """Warn of images that were trained on; a training has done that before."""
        super().on_validation_start()
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._warn_of_trained("val")

    def on_test_start(self) -> None:
        """Warn of images that were trained on."""
        super().on_test_start()
        self._warn_of_trained("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the training images."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[IMAGES_KEY] = torch.tensor(sorted(self.trained_on), dtype=torch.int64)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the training images; checkpoints of earlier versions do not hold them."""
        super().on_load_checkpoint(checkpoint)
        self.trained_on = frozenset(checkpoint.get(IMAGES_KEY, torch.empty(0)).tolist())

    def _numbers(self, *splits: str) -> frozenset[int]:
        """Numbers of the images of these splits of the data module; empty without one."""
        data = getattr(self.trainer, "datamodule", None)
        tables = [getattr(getattr(data, f"{split}_data", None), "samples", None) for split in splits]
        return frozenset(number(path) for table in tables if table is not None for path in table["image_path"])

    def _warn_of_trained(self, *splits: str) -> None:
        """Warn of images of these splits that were trained on."""
        images = self._numbers(*splits)
        if found := len(images & self.trained_on):
            rank_zero_only(logger.warning)(
                "%d of the %d images to validate or test with were trained on, so thresholds and metrics are too good. "
                "If the data module splits a folder at random, give each command the same seed, such as --data.seed 0.",
                found,
                len(images),
            )


def number(path: str | Path) -> int:
    """Number of 64 bits that tells the path of an image from others."""
    digest = blake2b(str(Path(path).resolve()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)

"""Images that a model was trained on, to notice another split of the data."""

import logging
import os
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from .validation_scores import gather_objects

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

IMAGES_KEY = "anomalib_dmdd_images"
"""Where a checkpoint holds a number for each training image, ``(N,)``, int64."""


class SplitMixin(LightningModule):
    """Mixin that warns of validation and test images that were trained on.

    Data modules such as ``Folder`` split a folder at random. Without a seed each command, and each process that was not
    started by Lightning, has a split of its own. Paths and sizes of the files tell the images apart.

    Attributes:
        trained_on: Numbers of the images of this and all former trainings.
    """

    trained_on: frozenset[int] = frozenset()

    def on_fit_start(self) -> None:
        """Warn of images that were trained on.

        Raises:
            ValueError: If the processes have split the images differently.
        """
        super().on_fit_start()
        own = [digest_of(self._images(split)) for split in SPLITS]
        if any(other != own for other in gather_objects(own)):
            raise ValueError(
                "data: the processes have split the images differently. Give a seed, for example --data.seed 0."
            )
        self._warn_of_trained("val", "test")

    def on_train_start(self) -> None:
        """Note the training images."""
        super().on_train_start()
        self.trained_on |= self._numbers("train")

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

    def _images(self, split: str) -> AnomalibDataset | None:
        """The images of a split of the data module, if it has such a table."""
        images = getattr(getattr(self.trainer, "datamodule", None), f"{split}_data", None)
        return images if isinstance(images, AnomalibDataset) else None

    def _numbers(self, *splits: str) -> frozenset[int]:
        """Numbers of the images of these splits."""
        return frozenset(number(path) for split in splits for path in paths_of(self._images(split)))

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
    """Number of 64 bits, from path and size of a file."""
    parent, name = os.path.split(path)
    try:
        size = os.path.getsize(path)  # noqa: PTH202  # of 100 000 images, without an object for each
    except OSError:
        size = 0
    digest = blake2b(f"{_resolved(parent)}/{name} {size}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@lru_cache
def _resolved(folder: str) -> str:
    return str(Path(folder).resolve())


def digest_of(images: AnomalibDataset | None) -> str:
    """Digest of the names of images; the same for a copy of their folder.

    Anomalib simulates images in a folder of their own for each process, so these have none.
    """
    paths = paths_of(images)
    if not paths or hasattr(images, "source_samples"):
        return ""
    root = os.path.commonprefix(paths)  # noqa: RUF071  # commonpath refuses files on two drives
    names = "\n".join(sorted(path.removeprefix(root) for path in paths))
    return blake2b(names.encode(), digest_size=8).hexdigest()


def paths_of(images: AnomalibDataset | None) -> list[str]:
    """Paths of images."""
    return [] if images is None else [str(path) for path in images.samples["image_path"]]

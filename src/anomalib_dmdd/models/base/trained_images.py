"""Images that a model was trained on, to notice another split of the data."""

import logging
import os
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from .validation_scores import gather_objects

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

IMAGES_KEY = "anomalib_dmdd_images"
"""Where a checkpoint holds a number for each training image, ``(N,)``, int64."""


def refuse_unequal_splits(trainer: Trainer) -> None:
    """Refuse processes whose data modules have split the images differently.

    Data modules such as ``Folder`` split a folder at random. Without a seed each process that was not started by
    Lightning has a split of its own.

    Raises:
        ValueError: If they have.
    """
    own = [digest_of(_images(trainer, split)) for split in SPLITS]
    if any(other != own for other in gather_objects(own)):
        raise ValueError(
            "data: the processes have split the images differently. Give a seed, for example --data.seed 0."
        )


def numbers_of(trainer: Trainer, *splits: str) -> frozenset[int]:
    """Numbers of the images of these splits, from path and size of their files."""
    return frozenset(number(path) for split in splits for path in paths_of(_images(trainer, split)))


def warn_of_trained(trainer: Trainer, trained_on: frozenset[int], *splits: str) -> None:
    """Warn of images of these splits that were trained on."""
    images = numbers_of(trainer, *splits)
    if found := len(images & trained_on):
        rank_zero_only(logger.warning)(
            "%d of the %d images to validate or test with were trained on, so thresholds and metrics are too good. "
            "If the data module splits a folder at random, give each command the same seed, such as --data.seed 0.",
            found,
            len(images),
        )


def store_numbers(checkpoint: dict[str, Any], numbers: frozenset[int]) -> None:
    """Write the numbers of training images into a checkpoint."""
    checkpoint[IMAGES_KEY] = torch.tensor(sorted(numbers), dtype=torch.int64)


def stored_numbers(checkpoint: dict[str, Any]) -> frozenset[int]:
    """Read them from a checkpoint; those of earlier versions do not hold them."""
    return frozenset(checkpoint.get(IMAGES_KEY, torch.empty(0)).tolist())


def _images(trainer: Trainer, split: str) -> AnomalibDataset | None:
    """The images of a split of the data module, if it has such a table."""
    images = getattr(getattr(trainer, "datamodule", None), f"{split}_data", None)
    return images if isinstance(images, AnomalibDataset) else None


def number(path: str | Path) -> int:
    """Number of 64 bits, from path and size of a file."""
    parent, name = os.path.split(path)
    try:
        size = os.path.getsize(path)  # noqa: PTH202  # of 100 000 images, without an object for each
    except OSError:
        size = 0
    digest = blake2b(os.fsencode(f"{_resolved(parent)}/{name} {size}"), digest_size=8).digest()
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
    return blake2b(os.fsencode(names), digest_size=8).hexdigest()


def paths_of(images: AnomalibDataset | None) -> list[str]:
    """Paths of images."""
    return [] if images is None else [str(path) for path in images.samples["image_path"]]

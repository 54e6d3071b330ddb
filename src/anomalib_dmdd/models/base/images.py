"""Clear words about image files that cannot be read, or are read wrongly."""

import logging
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from PIL import Image

logger = logging.getLogger(__name__)


class ImageFileReport(Callback):
    """Names broken image files, and warns of 16-bit images, which Anomalib reads as white.

    Files are opened only where there is a reason: those of the first batch, and all of them after an error of reading.
    """

    def on_train_batch_start(self, trainer: Trainer, _module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Look at the file format of the first batch."""
        if batch_idx == 0 and trainer.current_epoch == 0 and trainer.is_global_zero:
            _warn_of_16_bit(batch)

    def on_predict_batch_start(
        self,
        _trainer: Trainer,
        _module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        _dataloader_idx: int = 0,
    ) -> None:
        """Look at the file format of the first batch."""
        if batch_idx == 0:
            _warn_of_16_bit(batch)

    def on_exception(self, trainer: Trainer, _module: LightningModule, exception: BaseException) -> None:
        """After an error of reading, name the files that cannot be read."""
        if not isinstance(exception, OSError | SyntaxError):  # Pillow raises both
            return
        broken = [str(path) for path in _image_paths(trainer) if not _is_readable(path)]
        if broken:
            logger.error("%d image files cannot be read: %s", len(broken), ", ".join(broken))


def _warn_of_16_bit(batch: Any) -> None:  # noqa: ANN401
    deep = [path for path in batch.image_path or [] if _mode(Path(path)).startswith("I")]
    if deep:
        logger.warning(
            "%s has 16 bits a pixel, which Anomalib reads as white. Convert such images to 8 bits before the training.",
            deep[0],
        )


def _mode(path: Path) -> str:
    try:
        with Image.open(path) as image:
            return str(image.mode)
    except OSError:
        return ""


def _image_paths(trainer: Trainer) -> list[Path]:
    """Files of the data sets that are in use."""
    loaders = [trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders, trainer.predict_dataloaders]
    paths: list[Path] = []
    for loader in (one for some in loaders if some is not None for one in (some if isinstance(some, list) else [some])):
        samples = getattr(loader.dataset, "samples", None)
        found = samples["image_path"] if samples is not None else getattr(loader.dataset, "image_filenames", [])
        paths += [Path(path) for path in found]
    return paths


def _is_readable(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError):
        return False
    return True

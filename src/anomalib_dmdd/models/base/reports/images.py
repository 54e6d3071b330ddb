"""Clear words about image files that cannot be read, or are read wrongly."""

import logging
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from PIL import Image

logger = logging.getLogger(__name__)

UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot read."""


class ImageFileReport(Callback):
    """Names broken image files, and warns of those that Anomalib reads as white or black."""

    def __init__(self) -> None:
        self._warned = False

    def on_train_batch_start(self, trainer: Trainer, _module: LightningModule, batch: Any, *_: Any) -> None:  # noqa: ANN401
        """Look at the file formats once."""
        if trainer.current_epoch == 0:
            self._look(batch)

    def on_validation_batch_start(self, *args: Any) -> None:
        """Look at the file formats once."""
        self.on_train_batch_start(*args)

    def on_test_batch_start(self, _trainer: Trainer, _module: LightningModule, batch: Any, *_: Any) -> None:  # noqa: ANN401
        """Look at the file formats."""
        self._look(batch)

    def on_predict_batch_start(self, *args: Any) -> None:
        """Look at the file formats."""
        self.on_test_batch_start(*args)

    def _look(self, batch: Any) -> None:  # noqa: ANN401
        paths = () if self._warned else getattr(batch, "image_path", None) or ()
        if deep := next((path for path in paths if _mode(Path(path)).startswith(("I", "F"))), None):
            self._warned = True
            logger.warning(
                "%s has more than 8 bits a channel. Anomalib may read it as white or black. Convert such images to 8 "
                "bits before the training.",
                deep,
            )

    def on_exception(self, trainer: Trainer, _module: LightningModule, exception: BaseException) -> None:
        """After an error of reading, name the files that cannot be read."""
        if not isinstance(exception, UNREADABLE):
            return
        broken = [str(path) for path in _image_paths(trainer) if not _is_readable(path)]
        if broken:
            logger.error("%d image files cannot be read: %s", len(broken), ", ".join(broken))


def _mode(path: Path) -> str:
    try:
        with Image.open(path) as image:
            return str(image.mode)
    except UNREADABLE:
        return ""


def _image_paths(trainer: Trainer) -> list[Path]:
    """Files of the data sets that are in use."""
    loaders = [trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders, trainer.predict_dataloaders]
    paths: list[Path] = []
    for loader in (one for some in loaders if some is not None for one in (some if isinstance(some, list) else [some])):
        dataset = getattr(loader, "dataset", None)  # a dictionary of loaders has none
        samples = getattr(dataset, "samples", None)
        found = samples["image_path"] if samples is not None else getattr(dataset, "image_filenames", [])
        paths += [Path(path) for path in found]
    return paths


def _is_readable(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except UNREADABLE:
        return False
    return True

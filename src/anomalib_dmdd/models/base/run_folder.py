"""The folder of a test or prediction before any training."""

import os
from pathlib import Path

from anomalib.utils.path import create_versioned_dir
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only


@rank_zero_only
def make_latest_a_link(trainer: Trainer) -> None:
    """Make the missing folder ``latest`` a link to a new version, as a training does.

    Otherwise Anomalib 2.7 makes it a folder, and each later training there fails with ``IsADirectoryError``.
    """
    folder = Path(trainer.default_root_dir)
    if os.name == "posix" and folder.name == "latest" and not folder.exists():
        create_versioned_dir(folder.parent)

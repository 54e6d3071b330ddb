"""The folder of a run, and new files in it."""

import logging
import os
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from anomalib.utils.path import create_versioned_dir
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from .checkpoints.checkpoint_file import keeps_a_model

logger = logging.getLogger(__name__)


@rank_zero_only
def make_latest_a_link(trainer: Trainer) -> None:
    """Make the missing folder ``latest`` a link to a new version, as a training does.

    Otherwise Anomalib 2.7 makes it a folder, and each later training there fails with ``IsADirectoryError``.
    """
    folder = Path(trainer.default_root_dir)
    if os.name == "posix" and folder.name == "latest" and not folder.exists():
        create_versioned_dir(folder.parent)


class LatestRun(Callback):
    """Points ``latest`` at a run with a checkpoint: this one, if it has trained."""

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ANN401  # a LastModelMixin
        """Point it here, or elsewhere if nothing was left to train."""
        if keeps_a_model(trainer):
            (point_latest_here if pl_module.trains else repoint_latest)(trainer)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:  # noqa: ANN401  # a LastModelMixin
        """Point it elsewhere after a run that ended before its first step."""
        del pl_module, exception
        if trainer.state.fn == TrainerFn.FITTING and not trainer.global_step:
            repoint_latest(trainer)


@rank_zero_only
def repoint_latest(trainer: Trainer) -> None:
    """Point ``latest`` at the newest run with a checkpoint again.

    A run that ends before its first step, such as one with a misspelt folder, leaves nothing to point at.
    """
    folder = Path(trainer.default_root_dir)
    latest = folder.parent / "latest"
    if not latest.is_symlink() or latest.resolve() != folder.resolve():
        return
    runs = [path.parents[2] for path in folder.parent.glob("v*/weights/lightning/*.ckpt")]
    if runs := [run for run in runs if _is_version(run)]:
        newest = max(runs, key=lambda run: int(run.name.removeprefix("v")))
        _link(latest, newest)
        logger.warning("Nothing was trained. %s leads to %s, the newest run with a checkpoint.", latest, newest.name)


@rank_zero_only
def point_latest_here(trainer: Trainer) -> None:
    """Point ``latest`` at this run, unless a newer one has a checkpoint.

    A second training that failed meanwhile has pointed it elsewhere.
    """
    folder = Path(trainer.default_root_dir)
    latest = folder.parent / "latest"
    if not latest.is_symlink() or not _is_version(folder):
        return
    current = latest.resolve()
    newer = _is_version(current) and int(current.name[1:]) > int(folder.name[1:])
    if not (newer and any(current.glob("weights/lightning/*.ckpt"))):
        _link(latest, folder)


def _is_version(folder: Path) -> bool:
    return folder.name.startswith("v") and folder.name[1:].isdecimal()


def _link(latest: Path, folder: Path) -> None:
    """Replace the link in one step, because another training may do so, too."""
    link = latest.with_name(f"latest_{folder.name}")
    try:
        link.unlink(missing_ok=True)  # left by a process that was killed between the next two lines
        link.symlink_to(folder.resolve(), target_is_directory=True)
        link.replace(latest)
    except OSError as error:
        logger.warning("%s does not lead to %s: %s", latest, folder.name, error)


def new_file(folder: Path, name: str) -> Path:
    """Make a new, empty CSV file: ``NAME.csv``, ``NAME_2.csv`` and so on.

    Args:
        folder: Folder of the file, made if it is missing.
        name: Name of the file without number and suffix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = chain([f"{name}.csv"], (f"{name}_{number}.csv" for number in count(2)))
    for path in map(folder.joinpath, names):  # it never ends without a new one
        with suppress(FileExistsError):
            path.touch(exist_ok=False)  # in one step, because another process may look for a name, too
            break
    return path


def share_run_folder(trainer: Trainer) -> None:
    """Let all processes write where the first one does: Anomalib gives each its own folder."""
    own = trainer.default_root_dir
    shared = trainer.strategy.broadcast(own)
    if shared != own:
        trainer._default_root_dir = shared  # type: ignore[attr-defined]  # noqa: SLF001  # it has no setter
        with suppress(OSError):  # it stays if it holds something
            Path(own).rmdir()

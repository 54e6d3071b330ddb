"""Checkpoint files: whether they are wanted, and complete or absent on a full disk."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def save_complete(checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
    """Write a checkpoint beside its final place, and then rename it in one step.

    Lightning 2.6 writes to the system's temporary folder. If that is on another disk, the file is copied over the
    earlier checkpoint, and a full disk leaves a truncated one.

    Args:
        checkpoint: What ``torch.save`` accepts.
        path: File or URL. Lightning writes to URLs.
        storage_options: As in ``TorchCheckpointIO.save_checkpoint``, which refuses them.

    Raises:
        OSError: If the file cannot be written. An earlier file of that name stays as it is.
    """
    if "://" in str(path) or storage_options is not None:
        TorchCheckpointIO().save_checkpoint(checkpoint, path, storage_options)
        return
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    buffer = io.BytesIO()  # torch.save to a file reports a full disk as a RuntimeError without the cause
    torch.save(checkpoint, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(buffer.getbuffer())
        part.replace(path)
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else error
        raise OSError(error.errno, f"No checkpoint was written ({cause}), an earlier one is kept", str(path)) from error
    finally:
        part.unlink(missing_ok=True)  # also after Ctrl-C


def keeps_a_model(trainer: Trainer) -> bool:
    """Whether a model is wanted at the end. ``ModelCheckpoint(save_top_k=0)`` and ``fast_dev_run`` say that none is."""
    kept = [
        bool(callback.save_top_k or callback.save_last)
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint)
    ]
    return not trainer.fast_dev_run and (any(kept) or not kept)  # type: ignore[attr-defined]


def keep_checkpoints_complete(trainer: Trainer) -> None:
    """Make a trainer use :func:`save_complete`, unless a plugin of the user writes in another way."""
    plugin = trainer.strategy.checkpoint_io
    if type(plugin).save_checkpoint is TorchCheckpointIO.save_checkpoint:
        plugin.save_checkpoint = save_complete  # type: ignore[method-assign]

"""A trained model from its checkpoint, for the commands."""

import pickle
from pathlib import Path
from typing import Any

import torch
from anomalib.models.components import AnomalibModule

import anomalib_dmdd
from anomalib_dmdd.models import __all__ as models
from anomalib_dmdd.models.base import DistillationPostProcessor
from anomalib_dmdd.models.base.checkpoints.checkpoint import CHECKPOINT_KEY


def load_trained(path: Path) -> tuple[AnomalibModule, dict[str, Any]]:
    """Load a model of this package from a checkpoint.

    Args:
        path: Checkpoint of a training.

    Returns:
        The model, which has a :class:`DistillationPostProcessor`, and the content of the checkpoint.

    Raises:
        ValueError: If the file is missing, broken, or of another model or post-processor.
    """
    if not path.is_file():
        raise ValueError(f"There is no checkpoint {path}.")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a readable checkpoint.") from error
    facts = checkpoint.get(CHECKPOINT_KEY, {}) if isinstance(checkpoint, dict) else {}
    if facts.get("model") not in models:
        raise ValueError(f"{path} is not a checkpoint of {', '.join(models)}.")
    try:
        model = getattr(anomalib_dmdd, facts["model"]).load_from_checkpoint(path, map_location="cpu")
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{path} does not fit this version of anomalib-dmdd: {what}") from error
    if "tiles" in model.trained_with:
        raise ValueError(f"{path}: the model was trained on tiles. Only the commands of Anomalib can cut them.")
    if not isinstance(model.post_processor, DistillationPostProcessor):
        raise ValueError(  # noqa: TRY004  # a fault of the file, not of an argument
            f"{path}: the post-processor is not of this package, so it has no threshold to work with."
        )
    return model, checkpoint

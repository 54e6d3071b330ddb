"""Facts in a checkpoint about its model, and what happens if they differ."""

import logging
import pickle
from collections.abc import Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from anomalib.post_processing import PostProcessor

from anomalib_dmdd.classes import arguments_of, subclasses
from anomalib_dmdd.models.base.tiles import describe_tiles

from .asked_settings import same

if TYPE_CHECKING:
    from anomalib.data.utils.tiler import Tiler

    from .checkpoint_mixin import CheckpointMixin

CHECKPOINT_KEY = "anomalib_dmdd"
"""Where a checkpoint holds this: plain values, so that it loads with ``weights_only=True``."""

logger = logging.getLogger(__name__)

TRAINING = ("augment", "foreground", "known_defects", "textures")
"""Arguments of the models that only a training needs."""
STRUCTURE = ("backbone", "layers", "embedding_input", "anomaly_map_mode")
"""Arguments of the models that decide which weights and thresholds fit."""


def own_version() -> str:
    """Version of this package, or "unknown" where it is not installed but on the path."""
    try:
        return version("anomalib-dmdd")
    except PackageNotFoundError:
        return "unknown"


def describe(model: "CheckpointMixin") -> dict[str, Any]:
    """Class names and arguments of a model, and facts of its training."""
    return {
        **model.trained_with,
        "version": own_version(),
        "model": type(model).__name__,
        "network": type(model.model).__name__,
        "post_processor": _path(type(model.post_processor)),
        # Lightning's load_from_checkpoint replaces those that it keeps by what the user passes.
        "arguments": {name: model.hparams[name] for name in STRUCTURE if name in model.hparams},
    }


def training_facts(datamodule: object, tiler: "Tiler | None") -> dict[str, str]:
    """Name of the training set, the date of today, and the tiles."""
    names = [getattr(datamodule, name, None) for name in ("name", "category")]
    tiles = {} if tiler is None else {"tiles": describe_tiles(tiler)}
    return {"dataset": " ".join(filter(None, names)) or "unknown", "trained": date.today().isoformat(), **tiles}


def restore_settings(model: "CheckpointMixin", checkpoint: Mapping[str, Any], *, resume: bool) -> None:
    """Rebuild a model as its checkpoint was trained, where the user asked for nothing else.

    Arguments that the user left at their default take the values of the checkpoint. So do not those of a training that
    is resumed, whose settings must agree.

    Args:
        model: The model that is about to take the weights; changed in place.
        checkpoint: The loaded checkpoint.
        resume: Whether a training continues from it.

    Raises:
        ValueError: If the checkpoint is of another model, or an argument or the post-processor contradicts it.
    """
    found = checkpoint.get(CHECKPOINT_KEY)
    if found is None or found["network"] != type(model.model).__name__:
        trained = found["model"] if found else "a model of another package"
        raise ValueError(f"The checkpoint holds {trained}, but the model to load it into is {type(model).__name__}.")
    model.written_by = found.get("version", "an earlier version")
    model.trained_with = {name: found[name] for name in ("dataset", "trained", "tiles") if name in found}
    _adopt_arguments(model, checkpoint["hyper_parameters"] | found.get("arguments", {}), resume=resume)
    _adopt_post_processor(model, found["post_processor"])


def refuse_other_model(cls: type, path: object) -> None:
    """Refuse a checkpoint of another model, whose arguments a class would complain about.

    Args:
        cls: Class that the checkpoint was to be loaded into.
        path: The file.

    Raises:
        ValueError: If it is of another model, or no checkpoint at all.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
    except (OSError, RuntimeError, pickle.UnpicklingError):
        return  # the complaint of the class says more
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} is not a checkpoint.")  # noqa: TRY004  # a fault of the file, not of an argument
    found = checkpoint.get(CHECKPOINT_KEY, {}).get("model")
    if found is not None and found not in [base.__name__ for base in cls.__mro__]:
        raise ValueError(f"The checkpoint holds {found}, but the model to load it into is {cls.__name__}.")


def _adopt_arguments(model: "CheckpointMixin", trained: Mapping[str, Any], *, resume: bool) -> None:
    signature = arguments_of(type(model))
    for name in TRAINING if resume else ():
        if name in signature and name in trained and str(trained[name]) != str(model.hparams[name]):
            logger.warning(
                "%s: the training began with %s, and goes on with %s.", name, trained[name], model.hparams[name]
            )
    if (weights := model.hparams.get("teacher_weights")) and str(weights) != str(trained.get("teacher_weights")):
        logger.warning("teacher_weights: %s is not read, because the checkpoint holds a teacher.", weights)
    changed = {}
    for name in STRUCTURE:
        if name not in signature or name not in trained or same(trained[name], model.hparams[name]):
            continue
        if resume or not same(model.hparams[name], signature[name].default):
            raise ValueError(
                f"{name}: the checkpoint was trained with {trained[name]!r}, but {model.hparams[name]!r} was asked for."
            )
        changed[name] = trained[name]
    if changed:
        arguments = {**trained, "evaluator": False, "visualizer": False}
        rebuilt = type(model)(**{name: value for name, value in arguments.items() if name in signature})
        rebuilt.model.tiler = model.model.tiler
        model.model = rebuilt.model
        model.hparams.update(changed)


def _adopt_post_processor(model: "CheckpointMixin", path: str) -> None:
    current = model.post_processor
    if current is None or _path(type(current)) == path:
        return
    # Only classes that are imported already: a checkpoint must not decide which code runs.
    known = (type(None), PostProcessor, *subclasses(PostProcessor))
    cls = next((cls for cls in known if _path(cls) == path), None)
    if cls is None or type(current).__module__.partition(".")[0] != __name__.partition(".")[0]:
        raise ValueError(
            f"post_processor: the checkpoint was trained with {path}, but the model has {_path(type(current))}. "
            "Pass the same one (--model.post_processor, or post_processor= in Python), or import its module first."
        )
    model.post_processor = cls()
    logger.info("The post-processor is that of the training: %s.", path)
    if (trainer := model._trainer) is not None:  # noqa: SLF001  # `trainer` raises where there is none
        # The trainer took the former one for a callback before the checkpoint was read.
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        replaced = [model.post_processor if callback is current else callback for callback in callbacks]
        callbacks[:] = [callback for callback in replaced if callback is not None]


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"

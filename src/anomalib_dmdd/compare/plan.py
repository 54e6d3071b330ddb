"""From settings to runs; unknown names and wrong types are reported before any run."""

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.fabric import Fabric
from lightning.pytorch import Trainer

from anomalib_dmdd import data as _our_data  # noqa: F401  # makes the names known
from anomalib_dmdd import models as _our_models  # noqa: F401
from anomalib_dmdd.classes import arguments_of, subclasses

from .versions import code_version, images_version

MAXIMA = ("max_epochs", "max_steps", "max_time")
LENGTH = (*MAXIMA, "min_epochs", "min_steps")
GIVEN_TO_MODEL = ("pre_processor", "evaluator", "visualizer")
GIVEN_TO_TRAINER = ("accelerator", "callbacks", "default_root_dir", "devices", "logger", "enable_progress_bar")
SAME_FOR_ALL = ("image_size", "accelerator", "threads", "openvino", "timed_passes")
OPTIONAL = ("init_args", "trainer", "train_batch_size", "label")  # what an entry of ``models`` may have
PUBLISHED: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("baselines.yaml").read_text())


class SettingsError(ValueError):
    """A wrong setting, found before anything was run."""


@dataclass(frozen=True)
class Run:
    """One training and test of one model.

    Runs that differ only in ``label`` are the same run. Changed code or images make another run.
    """

    label: str
    model: dict[str, Any]
    trainer: dict[str, Any]
    data: dict[str, Any]
    category: str
    seed: int
    code: str
    images: str
    image_size: int
    accelerator: str
    threads: int | None
    openvino: list[str]
    timed_passes: int

    @property
    def id(self) -> str:
        """Folder name: readable, and different as soon as any field but the label differs."""
        settings = asdict(self) | {"label": ""}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
        name = f"{self.model['class_path'].rpartition('.')[2]}-{self.category}-{self.seed}-{digest}"
        return name.replace("/", "_")

    @property
    def cores(self) -> int:
        """Number of threads on this computer; without one, the run is the same on each."""
        return self.threads or os.cpu_count() or 1

    @property
    def title(self) -> str:
        """Name in messages."""
        return f"{self.label}, {self.category}, seed {self.seed}"


def plan(settings: Namespace) -> list[Run]:
    """Expand the grid of models, backbones, categories and seeds, category by category.

    Raises:
        SettingsError: If a model, data module, category or argument is unknown, or two models have the same label.
    """
    try:
        Fabric(accelerator=settings.accelerator, devices=1)
    except (ValueError, RuntimeError) as error:
        raise SettingsError(f"Cannot use --accelerator {settings.accelerator}: {error}") from error
    models = [model for entry in settings.models for model in _expand_model(entry, settings)]
    labels = [model["label"] for model, _ in models]
    if repeated := {label for label in labels if labels.count(label) > 1}:
        raise SettingsError(f"More than one model is called {', '.join(repeated)}. Give each a `label`.")
    same = {name: settings[name] for name in SAME_FOR_ALL}
    runs = []
    seeds = dict.fromkeys(settings.seeds)  # each once
    for seed, (category, data, images), (model, size) in product(seeds, [*_expand_data(settings.data)], models):
        # The batch size of a model fills the gap if the data module has none for all models.
        entry = data | {"init_args": ({"train_batch_size": size} if size else {}) | data["init_args"]}
        code = code_version(model["model"], entry)
        runs.append(Run(**model, data=entry, category=category, seed=seed, code=code, images=images, **same))
    return runs


def known(base: type) -> dict[str, type]:
    """Subclasses of ``base`` that can be built, by class name."""
    return {cls.__name__: cls for cls in subclasses(base) if not inspect.isabstract(cls)}


def read_entry(base: type, class_path: str, init_args: Mapping[str, Any]) -> tuple[ArgumentParser, Namespace]:
    """Find a model or data module by name or class path, and check its arguments.

    Returns:
        The parser, and what it read: ``entry.class_path`` and all ``entry.init_args``.

    Raises:
        SettingsError: If there is no such class, or an argument is unknown, missing or of a wrong type.
    """
    folded = {name.lower(): name for name in known(base)}
    class_path = folded.get(class_path.replace("_", "").lower(), class_path)
    if "." not in class_path and class_path not in folded.values():
        close = get_close_matches(class_path.lower(), folded, n=1)
        hint = f" Did you mean {folded[close[0]]}?" if close else ""
        raise SettingsError(f"There is no {class_path!r}.{hint} Known: {', '.join(sorted(folded.values()))}.")
    given = set(GIVEN_TO_MODEL if base is AnomalibModule else ())  # passed later, may not be set
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "entry", skip=given, required=True, fail_untyped=False)
    entry = {"class_path": class_path, "init_args": deepcopy(dict(init_args))}  # the parser changes nested mappings
    try:
        return parser, parser.parse_object({"entry": entry})
    except ArgumentError as error:
        cls = known(base).get(class_path.rpartition(".")[2])
        names = [name for name in arguments_of(cls) if name not in given] if cls else []
        raise SettingsError(f"{class_path}: {error}\n  Arguments: {', '.join(names)}.") from error


def build(base: type, entry: Mapping[str, Any], call: Callable[..., Any] | None = None) -> Any:  # noqa: ANN401
    """Build a model or data module from its ``class_path`` and ``init_args``; ``call`` may add arguments."""
    parser, config = read_entry(base, entry["class_path"], entry["init_args"])
    if call:
        parser.add_instantiator(call, base)
    return parser.instantiate_classes(config).entry


def _expand_model(entry: str | dict[str, Any], settings: Namespace) -> Iterator[tuple[dict[str, Any], int | None]]:
    """Complete an entry of ``models`` with published settings, once per backbone.

    Yields:
        The fields of a run that depend on the model, and its batch size.
    """
    wanted: dict[str, Any] = entry if isinstance(entry, dict) else {"class_path": entry}
    if "class_path" not in wanted or not set(wanted) <= {"class_path", *OPTIONAL}:
        raise SettingsError(f"A model needs class_path and may have {', '.join(OPTIONAL)}; this is: {entry}.")
    _, config = read_entry(AnomalibModule, wanted["class_path"], wanted.get("init_args", {}))
    class_path, name = config.entry.class_path, config.entry.class_path.rpartition(".")[2]
    published = PUBLISHED.get(name, {})
    init_args = published.get("init_args", {}) | wanted.get("init_args", {})
    trainer: dict[str, Any] = {}
    for arguments in (published.get("trainer", {}), wanted.get("trainer", {}), settings.trainer):
        _check_trainer(arguments)
        has_length = any(key in arguments for key in MAXIMA)  # replaces one of another kind, too
        trainer = {key: value for key, value in trainer.items() if not (has_length and key in LENGTH)} | arguments
    label = wanted.get("label") or name
    backbones = settings.backbones if "backbone" in config.entry.init_args else []
    for backbone in backbones or [None]:
        arguments = init_args | ({"backbone": backbone} if backbone else {})
        read_entry(AnomalibModule, class_path, arguments)
        fields = {
            "label": f"{label} {backbone}" if len(backbones) > 1 else label,
            "model": {"class_path": class_path, "init_args": arguments},
            "trainer": trainer,
        }
        yield fields, wanted.get("train_batch_size") or published.get("train_batch_size")


def _expand_data(data: Namespace) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Complete the settings of the data module, once per category.

    Yields:
        Category, settings, and the version of the images.
    """
    _, config = read_entry(AnomalibDataModule, data.class_path, data.init_args)
    class_path, arguments = config.entry.class_path, config.entry.init_args
    if data.category and "category" not in arguments:
        raise SettingsError(f"{class_path} has no categories. Leave out --data.category.")
    # Without its own seed, a random split would depend on the random numbers that the model has drawn before.
    init_args = ({"seed": 0} if "seed" in arguments else {}) | data.init_args
    for category in dict.fromkeys(data.category or [""]):  # each once
        entry = {"class_path": class_path, "init_args": init_args | ({"category": category} if category else {})}
        datamodule = build(AnomalibDataModule, entry)
        names = _categories(datamodule)
        if datamodule.category and names and datamodule.category not in names:
            where = f"{class_path} at {getattr(datamodule, 'root', '?')}"
            raise SettingsError(f"{where} has no category {datamodule.category!r}. Known: {', '.join(sorted(names))}.")
        try:
            images = images_version(datamodule)
        except Exception as error:
            raise SettingsError(f"{class_path}: {error}") from error
        yield datamodule.category or datamodule.name, entry, images


def _categories(datamodule: AnomalibDataModule) -> set[str]:
    """Categories that Anomalib lists for a data set, and folders with training images."""
    modules = [cls.__module__.replace("datamodules", "datasets") for cls in type(datamodule).__mro__]
    published = {name for module in modules for name in getattr(sys.modules.get(module), "CATEGORIES", ())}
    root = Path(getattr(datamodule, "root", None) or "-")
    return published | {folder.parent.name for folder in root.glob("*/train")}


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    names = set(inspect.signature(Trainer.__init__).parameters) - {"self", *GIVEN_TO_TRAINER}
    if unknown := sorted(set(trainer) - names):
        raise SettingsError(f"The trainer cannot be given {', '.join(unknown)}. Known: {', '.join(sorted(names))}.")

"""From settings to a list of runs; everything that can be wrong is said here, before the first run starts."""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from lightning.fabric import Fabric
from lightning.pytorch import Trainer

from .components import SettingsError, accepts, build_data, find_class, known_categories, path_of, prepare
from .settings import Settings

ENTRY_KEYS = ("class_path", "init_args", "trainer", "train_batch_size", "label")
LENGTH = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps")
GIVEN_TO_MODEL = ("pre_processor", "evaluator", "visualizer")
GIVEN_TO_TRAINER = ("accelerator", "callbacks", "default_root_dir", "devices", "logger", "enable_progress_bar")


@dataclass(frozen=True)
class Run:
    """One model, trained and tested once. Two runs with equal settings are the same run; ``label`` is only its name."""

    label: str
    model: dict[str, Any]
    data: dict[str, Any]
    category: str
    seed: int
    trainer: dict[str, Any]
    image_size: int
    accelerator: str
    threads: int
    openvino: list[str]
    timed_passes: int

    @property
    def id(self) -> str:
        """Name of its folder: readable, and different as soon as any setting is."""
        settings = {name: value for name, value in asdict(self).items() if name != "label"}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
        name = f"{self.model['class_path'].rpartition('.')[2]}-{self.category}-{self.seed}-{digest}"
        return name.replace("/", "_")

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.label}, {self.category}, seed {self.seed}"


def plan(settings: Settings) -> list[Run]:
    """Expand the grid of models, backbones, categories and seeds; all models of a category follow each other.

    Raises:
        SettingsError: If a model, data module, category or argument is unknown, or two models have the same label.
    """
    _check_trainer(settings.trainer)
    _check_accelerator(settings.accelerator)
    models = [model for entry in settings.models for model in _expand_model(entry, settings)]
    labels = [model["label"] for model in models]
    if repeated := {label for label in labels if labels.count(label) > 1}:
        raise SettingsError(f"More than one model is called {', '.join(sorted(repeated))}; give them a `label` each.")
    data = list(_expand_data(settings.data))
    return [
        Run(
            label=model["label"],
            model={"class_path": model["class_path"], "init_args": model["init_args"]},
            data=_with_batch_size(dataset, model["train_batch_size"]),
            category=category,
            seed=seed,
            trainer=model["trainer"],
            image_size=settings.image_size,
            accelerator=settings.accelerator,
            threads=settings.threads,
            openvino=list(settings.openvino),
            timed_passes=settings.timed_passes,
        )
        for seed, (category, dataset), model in product(settings.seeds, data, models)
    ]


def published_settings() -> dict[str, dict[str, Any]]:
    """Training settings of well-known models by class name."""
    settings: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("baselines.yaml").read_text())
    return settings


def _expand_model(entry: str | dict[str, Any], settings: Settings) -> Iterator[dict[str, Any]]:
    """Complete one entry of ``models``: once, or once per backbone where the model has one."""
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    if "class_path" not in entry or set(entry) - set(ENTRY_KEYS):
        raise SettingsError(f"A model needs class_path and may have {', '.join(ENTRY_KEYS[1:])}; this is: {entry}.")
    cls = find_class(entry["class_path"], AnomalibModule)
    published = published_settings().get(cls.__name__, {})
    trainer = {**published.get("trainer", {}), **entry.get("trainer", {})}
    _check_trainer(trainer)
    if any(key in settings.trainer for key in LENGTH):
        trainer = {key: value for key, value in trainer.items() if key not in LENGTH}
    label = entry.get("label", cls.__name__)
    backbones: list[str | None] = [*settings.backbones] if accepts(cls, "backbone") else []
    for backbone in backbones or [None]:
        init_args = {**published.get("init_args", {}), **entry.get("init_args", {})}
        init_args |= {"backbone": backbone} if backbone else {}
        prepare(cls, init_args, GIVEN_TO_MODEL)
        yield {
            "class_path": path_of(cls),
            "init_args": init_args,
            "trainer": trainer | settings.trainer,
            "train_batch_size": entry.get("train_batch_size", published.get("train_batch_size")),
            "label": f"{label} {backbone}" if len(backbones) > 1 else label,
        }


def _expand_data(data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Complete the data module's settings, once per category."""
    cls = find_class(data["class_path"], AnomalibDataModule)
    # Without a seed of its own, a random split would depend on what the model before it has drawn.
    init_args = ({"seed": 0} if accepts(cls, "seed") else {}) | data["init_args"]
    categories = data["category"] or init_args.pop("category", None)
    if categories and not accepts(cls, "category"):
        raise SettingsError(f"{cls.__name__} has no categories; leave out --data.category.")
    for category in [categories] if isinstance(categories, str) else categories or [None]:
        settings = init_args | ({"category": category} if category else {})
        datamodule = build_data(data["class_path"], settings)
        names = known_categories(datamodule)
        if category and names and category not in names:
            where = f"{cls.__name__} at {getattr(datamodule, 'root', '?')}"
            raise SettingsError(f"{where} has no category {category!r}. Known: {', '.join(names)}.")
        yield datamodule.category or datamodule.name, {"class_path": path_of(cls), "init_args": settings}


def _with_batch_size(data: dict[str, Any], size: int | None) -> dict[str, Any]:
    """What is set for the data module holds for all models; a model's own batch size fills the gap."""
    return data if size is None else data | {"init_args": {"train_batch_size": size} | data["init_args"]}


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    names = set(inspect.signature(Trainer.__init__).parameters) - {"self", *GIVEN_TO_TRAINER}
    if unknown := sorted(set(trainer) - names):
        raise SettingsError(f"The trainer cannot be given {', '.join(unknown)}. Known: {', '.join(sorted(names))}.")


def _check_accelerator(name: str) -> None:
    try:
        Fabric(accelerator=name, devices=1)
    except (ValueError, RuntimeError) as error:
        raise SettingsError(f"Cannot use --accelerator {name}: {error}") from error

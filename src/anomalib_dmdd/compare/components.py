"""Find, check and build models and data modules by name or class path."""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser

from anomalib_dmdd import data as _our_data  # noqa: F401  # makes the names known
from anomalib_dmdd import models as _our_models  # noqa: F401


class SettingsError(ValueError):
    """A setting is wrong, found before anything was run."""


def known(base: type) -> dict[str, type]:
    """All subclasses of ``base`` that can be built, by class name."""
    found: dict[str, type] = {}
    cls: type
    for cls in base.__subclasses__():
        found |= known(cls)
        if not inspect.isabstract(cls):
            found[cls.__name__] = cls
    return found


def find_class(name: str, base: type) -> type[Any]:
    """Find a subclass of ``base``.

    Args:
        name: Class name, in any case and with or without underscores, or class path with dots.
        base: ``AnomalibModule`` or ``AnomalibDataModule``.

    Raises:
        SettingsError: If there is no such class; the message lists those that there are.
    """
    names = known(base)
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            cls = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise SettingsError(f"Cannot import {name}: {error}.") from error
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise SettingsError(f"{name} is not an Anomalib {base.__name__}.")
        return cls
    folded = {known_name.lower(): known_class for known_name, known_class in names.items()}
    if found := folded.get(name.replace("_", "").lower()):
        return found
    close = get_close_matches(name.lower(), folded, n=1)
    hint = f" Did you mean {folded[close[0]].__name__}?" if close else ""
    kind = "model" if base is AnomalibModule else "data module"
    raise SettingsError(f"There is no {kind} {name!r}.{hint} Known: {', '.join(sorted(names))}.")


def path_of(cls: type) -> str:
    """Full class path, by which any process finds the class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def accepts(cls: type, argument: str) -> bool:
    """Whether the constructor of ``cls`` has this argument."""
    return argument in inspect.signature(cls).parameters


def prepare(cls: type, init_args: Mapping[str, Any], given: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check plain constructor arguments against the signature and build those that are classes themselves.

    Args:
        cls: The class that will be built.
        init_args: Its arguments as they stand in a configuration file.
        given: Arguments that are passed as objects later and may not be set here.

    Raises:
        SettingsError: If an argument is unknown, of a wrong type or missing.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "init_args", skip=set(given), instantiate=False, fail_untyped=False)
    try:
        config = parser.parse_object({"init_args": deepcopy(dict(init_args))})  # it changes nested ones in place
    except ArgumentError as error:
        arguments = [name for name in inspect.signature(cls).parameters if name not in given]
        raise SettingsError(f"{cls.__name__}: {error}\n  Its arguments: {', '.join(arguments)}.") from error
    built = parser.instantiate_classes(config).get("init_args", {})
    return {name: built[name] for name in init_args}


def build_data(class_path: str, init_args: Mapping[str, Any]) -> AnomalibDataModule:
    """Build a data module; nothing is read or downloaded yet."""
    cls = find_class(class_path, AnomalibDataModule)
    return cls(**prepare(cls, init_args))


def known_categories(datamodule: AnomalibDataModule) -> list[str]:
    """Categories of a data module: the published ones and the folders under its root that have a ``train`` folder."""
    names: set[str] = set()
    for cls in type(datamodule).__mro__:
        if cls.__module__.startswith("anomalib.data.datamodules."):
            names.update(_published(cls.__module__) or _published(cls.__module__.replace("datamodules", "datasets")))
    root = Path(getattr(datamodule, "root", None) or "-")
    names.update(folder.parent.name for folder in root.glob("*/train"))
    return sorted(names)


def _published(module: str) -> tuple[str, ...]:
    try:
        found = import_module(module)
    except ImportError:
        return ()
    return getattr(found, "CATEGORIES", ()) or getattr(found, "VISA_CATEGORIES", ())

"""Adds the nearest name to the command's error about a misspelt name or option."""

import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib.cli import AnomalibCLI
    from jsonargparse import ArgumentParser

BEFORE_ITS_CLASS = {"AnomalibModule": "--model", "AnomalibDataModule": "--data"}
"""Classes that jsonargparse names in errors about an option that is given before its class, and the option of each."""


def let_command_suggest() -> None:
    """Make the command's parser suggest names.

    Does nothing in a program that has not imported the command.
    """
    command: type[AnomalibCLI] | None = getattr(sys.modules.get("anomalib.cli.cli"), "AnomalibCLI", None)
    if command is None or command.init_parser.__module__ == __name__:
        return
    build: Callable[..., ArgumentParser] = command.init_parser

    def init_parser(**kwargs: Any) -> "ArgumentParser":
        parser = build(**kwargs)
        fail = parser.error
        parser.error = lambda message, *rest: fail(message + suggestion(message, _options(parser)), *rest)
        return parser

    command.init_parser = staticmethod(init_parser)


def suggestion(message: str, options: Iterable[str] = ()) -> str:
    """A line with the nearest names for a parser's message, or nothing.

    Args:
        message: Error of jsonargparse about a class, an argument of a class or an option that it does not know.
        options: Options of the command, such as ``--trainer.max_steps``.
    """
    if argument := re.search(r"class_path '\S*?(\w+)':\s+Option '(\w+)' is not accepted", message):
        if kind := BEFORE_ITS_CLASS.get(argument[1]):
            return f"\n\n{kind}.{argument[2]} came before {kind}. Write {kind} NAME first, then its options."
        from .classes import arguments_of  # noqa: PLC0415  # of no use to a command without mistakes

        cls = _classes().get(argument[1])  # not of an optimiser
        given, known = argument[2], set(arguments_of(cls)) if cls else set()
    elif option := re.search(r"Unrecognized arguments:.*?--([^\s=]+)|does not accept option '([\w.]+)'", message):
        given, known = f"--{option[1] or option[2]}", set(options)
    elif unresolved := re.findall(r"dot import path string: (\S+)", message):
        given, known = unresolved[-1], set(_classes())
        if os.path.exists(given) and given.lower() not in map(str.lower, known):  # noqa: PTH110  # Path fails for a long name
            return f"\n\n{given!r} is a path. With options, --data needs the name of a data module, such as Folder."
    else:
        return ""
    close = _nearest(given, known)
    return f"\n\nThere is no {given!r}. Did you mean {' or '.join(close)}?" if close else ""


def _nearest(given: str, known: Iterable[str]) -> list[str]:
    """Up to three similar names, or the one that differs by its case alone."""
    from difflib import get_close_matches  # noqa: PLC0415  # of no use to a command without mistakes

    folded = {name.lower(): name for name in known}
    given = given.lower()
    return [folded[name] for name in ([given] if given in folded else get_close_matches(given, folded, n=3))]


def _options(parser: "ArgumentParser") -> set[str]:
    """Options of a parser and of its subcommands."""
    subcommands = getattr(getattr(parser, "_subcommands_action", None), "choices", {}).values()
    names = {option for part in (parser, *subcommands) for option in part._option_string_actions}  # noqa: SLF001
    return {name for name in names if name.startswith("--") and not name.endswith((".help", "+"))}


def _classes() -> dict[str, type]:
    """All models, data modules, callbacks and loggers that are imported, by name."""
    from anomalib.data import AnomalibDataModule  # noqa: PLC0415  # the command has imported all of them
    from anomalib.models import AnomalibModule  # noqa: PLC0415
    from lightning.pytorch.callbacks import Callback  # noqa: PLC0415
    from lightning.pytorch.loggers import Logger  # noqa: PLC0415

    from .classes import subclasses  # noqa: PLC0415

    bases = (AnomalibDataModule, AnomalibModule, Callback, Logger)
    return {cls.__name__: cls for base in bases for cls in subclasses(base)}

"""Adds the nearest name to the command's error about a misspelt model or data module."""

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib.cli import AnomalibCLI
    from jsonargparse import ArgumentParser


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
        parser.error = lambda message, *rest: fail(message + suggestion(message), *rest)
        return parser

    command.init_parser = staticmethod(init_parser)


def suggestion(message: str) -> str:
    """A line with the nearest names for a parser's message, or nothing.

    Args:
        message: Error of jsonargparse, whose last unresolved value is looked up.
    """
    unresolved = re.findall(r"dot import path string: (\S+)", message)
    if not unresolved:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415  # of no use to a command without mistakes

    known = {name.lower(): name for name in _names()}
    given = unresolved[-1].lower()
    close = [known[name] for name in ([given] if given in known else get_close_matches(given, known, n=3))]
    return f"\n\nThere is no {unresolved[-1]!r}. Did you mean {' or '.join(close)}?" if close else ""


def _names() -> set[str]:
    """Names of all models and data modules that are imported."""
    from anomalib.data import AnomalibDataModule  # noqa: PLC0415  # the command has imported both
    from anomalib.models import AnomalibModule  # noqa: PLC0415

    pending: list[type] = [AnomalibDataModule, AnomalibModule]
    names: set[str] = set()
    while pending:
        subclasses: list[type] = pending.pop().__subclasses__()
        names.update(cls.__name__ for cls in subclasses)
        pending += subclasses
    return names

"""Validation of arguments that are one of several words."""

from difflib import get_close_matches
from typing import Any, get_args


def check_choice(argument: str, value: str, choices: Any) -> None:  # noqa: ANN401  # a Literal has no type of its own
    """Refuse a word that is not among the choices.

    Args:
        argument: Name of the argument, for the message.
        value: What the caller passed.
        choices: The ``Literal`` that lists the allowed words.

    Raises:
        ValueError: If ``value`` is not allowed.

    Example:
        >>> from typing import Literal
        >>> check_choice("mode", "heads", Literal["head", "sum"])
        Traceback (most recent call last):
            ...
        ValueError: mode: 'heads' is not one of head, sum. Did you mean 'head'?
    """
    allowed = get_args(choices)
    if value in allowed:
        return
    close = get_close_matches(str(value), allowed, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{argument}: {value!r} is not one of {', '.join(allowed)}.{hint}")

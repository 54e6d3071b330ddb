"""What can be known of classes without making an object."""

import inspect
from collections.abc import Iterator


def subclasses(cls: type) -> Iterator[type]:
    """Direct and indirect subclasses of a class that are imported."""
    subclass: type
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def arguments_of(cls: type) -> dict[str, inspect.Parameter]:
    """Arguments that a class takes, with those that its bases take as ``**kwargs``."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            _, *parameters = inspect.signature(vars(base)["__init__"]).parameters.values()  # the first is self
            named = (one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))
            found = {one.name: one for one in named} | found
            if all(one.kind != one.VAR_KEYWORD for one in parameters):
                break
    return found

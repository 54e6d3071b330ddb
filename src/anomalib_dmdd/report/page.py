"""The page of a report, from its template."""

import json
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any


def render(data: Mapping[str, Any]) -> str:
    """Put data, style and script into the template.

    Names of files reach the page as data only, and the script writes them as text, so none can be markup.

    Args:
        data: What ``report.js`` reads.

    Example:
        >>> "<b>" in render({"title": "<b>"})
        False
    """
    here = files(__package__)
    parts = {name: here.joinpath(f"report.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    template = Template(here.joinpath("template.html").read_text(encoding="utf-8"))
    # Within a script element only "<" can end the text early.
    return template.substitute(parts, data=json.dumps(data).replace("<", "\\u003c"))

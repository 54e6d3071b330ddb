"""Commands of the documents: read from fenced blocks, word for word."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("src/**/*.md")])


def blocks(document: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block of a Markdown file."""
    return _blocks(document.read_text())


def sections(document: Path) -> dict[str, list[tuple[str, str]]]:
    """Blocks of a Markdown file under each of its headings of the second level."""
    parts = re.split(r"^## (.*)$", document.read_text(), flags=re.MULTILINE)[1:]
    return {title: found for title, text in zip(parts[::2], parts[1::2], strict=True) if (found := _blocks(text))}


def commands(text: str) -> list[str]:
    """Commands of a shell block, lines that end in a backslash joined."""
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def usage(script: Path) -> list[str]:
    """Commands in the docstring of a script: lines that start with ``python examples/``."""
    docstring = script.read_text().split('"""')[1]
    return re.findall(r"^ *(python examples/.*)$", docstring.replace("\\\n", " "), flags=re.MULTILINE)


def _blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)

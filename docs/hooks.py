# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Hooks of MkDocs: pages and files from outside ``docs``, and formulas without JavaScript."""

import re
from pathlib import Path
from posixpath import dirname, relpath
from typing import Any

from griffe import Extension, Object
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "models/dmdd.md": "src/anomalib_dmdd/models/dmdd/README.md",
    "models/dskd.md": "src/anomalib_dmdd/models/dskd/README.md",
    "models/bikd.md": "src/anomalib_dmdd/models/bikd/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site that lie elsewhere in the repository, where GitHub shows them, too."""

EQUATIONS = ROOT / "docs/equations"
"""What the page of a model says after its README."""

LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
ROLE = re.compile(r":(?:class|data|func|meth|mod):(?=`)")


def on_config(config: MkDocsConfig) -> None:
    """Let blocks of the language ``math`` become MathML, as GitHub renders them too."""
    fence = {"name": "math", "class": "math", "format": formula}
    config.mdx_configs["pymdownx.superfences"]["custom_fences"].append(fence)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that lie elsewhere."""
    for place, source in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Add equations to the page of a model, and mend links."""
    source = Path(str(page.file.abs_src_path))
    text = mended(markdown, source.parent, page, config, files)
    equations = EQUATIONS / f"{source.parent.name}.md"
    if source.name == "README.md" and equations.is_file():
        text += "\n" + mended(equations.read_text(encoding="utf-8"), EQUATIONS, page, config, files)
    return text


def mended(markdown: str, folder: Path, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of a text in this folder lead to their page, or to a copy of the file in ``files``."""
    places = {file.abs_src_path: file.src_uri for file in files}

    def mend(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        if str(target) not in places and target.is_file():
            copy = File.generated(config, f"files/{target.relative_to(ROOT).as_posix()}", abs_src_path=str(target))
            files.append(copy)
            places[str(target)] = copy.src_uri
        place = places.get(str(target))
        return f"]({relpath(place, dirname(page.file.src_uri))}" if place else link[0]

    return LINK.sub(mend, markdown)


def formula(source: str, *_: Any, **__: Any) -> str:
    """A block of LaTeX as MathML."""
    return f"<p>{convert(source, display='block')}</p>"


class Docstrings(Extension):
    """Brings docstrings into the form that mkdocstrings reads: ``Examples``, and names without roles."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of an object after it is read."""
        if obj.docstring:
            text = ROLE.sub("", obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)

"""The notebook of the first steps runs from its first to its last cell."""

import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from documents import REPOSITORY
from nbclient import NotebookClient

NOTEBOOK = REPOSITORY / "examples" / "notebooks" / "first_steps.ipynb"


def shown(notebook: nbformat.NotebookNode) -> Counter[str]:
    """How many pictures and tables the cells show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return Counter(kind for output in outputs for kind in output.get("data", {}) if kind != "text/plain")


def test_first_steps(demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = shown(notebook)
    settings = notebook.cells[1]
    assert re.findall(r"^\w+", settings.source, flags=re.MULTILINE) == ["STEPS", "SIZE"]
    settings.source = "STEPS, SIZE = 2, 64"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/DemoParts").symlink_to(demo_root)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert shown(notebook) == stored
    assert {"image/jpeg", "text/html"} == set(stored)


def test_the_stored_notebook_is_small_and_names_no_folder_of_its_author() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"(?<![\w.])/(home|root|tmp|Users|mnt|work)/", re.sub(r'"image/jpeg": ".*"', "", text))

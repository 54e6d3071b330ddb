import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from jsonargparse import Namespace

from anomalib_dmdd.compare.plan import plan
from anomalib_dmdd.compare.versions import code_version, package_version

MakeSettings = Callable[..., Namespace]
MODULE = """
from anomalib.models import Padim

class Variant(Padim):
    '''PaDiM by another name.'''
"""


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=A Person", "-c", "user.email=person@example.com"]
    done = subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True)  # noqa: S607
    return done.stdout.strip()


def version_now(package: Path) -> str:
    package_version.cache_clear()
    return package_version(package)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository of its own."""
    folder = tmp_path / "src" / "package"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("depth = 1\n")
    (folder / "README.md").write_text("A model.\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "A model")
    return folder


def test_version_follows_commits_and_uncommitted_changes(package: Path) -> None:
    first = version_now(package)
    assert git(package, "rev-parse", "HEAD").startswith(first)
    assert len(first) == 12

    (package / "model.py").write_text("depth = 2\n")
    changed = version_now(package)
    (package / "model.py").write_text("depth = 3\n")
    again = version_now(package)
    (package / "loss.py").write_text("")
    new_file = version_now(package)
    git(package, "add", ".")
    assert version_now(package) == new_file, "it does not matter whether a change is staged"
    git(package, "commit", "--quiet", "--message", "Deeper")
    second = version_now(package)

    versions = [first, changed, again, new_file, second]
    assert len(set(versions)) == len(versions)
    assert all(text.startswith(f"{first}+") for text in (changed, again, new_file))
    assert git(package, "rev-parse", "HEAD").startswith(second)


def test_version_stays_when_only_text_changes(package: Path) -> None:
    first = version_now(package)
    (package / "README.md").write_text("A good model.\n")
    assert version_now(package) == first
    git(package, "commit", "--all", "--quiet", "--message", "Say more")
    assert version_now(package) == first


def test_version_number_without_a_repository(package: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    number = version("anomalib-dmdd")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert version_now(elsewhere).startswith(f"{number}+")
    installed = package.parents[1] / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "model.py").touch()
    first = version_now(installed)
    assert first.startswith(f"{number}+"), "git does not track an installed package in a project folder"
    (installed / "model.py").write_text("DEPTH = 2")
    assert version_now(installed) != first


def test_files_of_classes_outside_the_package_are_hashed(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_variants.py"
    file.write_text(MODULE)
    (before,) = plan(make_settings(["own_variants.Variant"]))
    file.write_text(MODULE + "\nDEPTH = 2\n")
    (after,) = plan(make_settings(["own_variants.Variant"]))
    sys.modules.pop("own_variants")
    assert "own_variants.py:" in before.code
    assert before.id != after.id
    (stock,) = plan(make_settings(["Padim"]))
    assert stock.code == code_version(), "installed packages have a version of their own"

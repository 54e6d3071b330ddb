"""Versions of code, packages and hardware, to tell results apart."""

import hashlib
import json
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import cache
from importlib import import_module
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import openvino
import torch
from anomalib.data import AnomalibDataModule
from anomalib.data.utils.synthetic import SyntheticAnomalyDataset

PACKAGE = Path(__file__).parents[1]
CODE = ("*.py", "*.yaml")


def code_version(*settings: Any) -> str:
    """Version of this package, and ``name.py:hash`` of other code of a run."""
    class_paths = re.findall(r'"class_path": "(\w[\w.]*\.\w+)"', json.dumps(settings, default=str))
    files = sorted({file for path in class_paths for file in _own_files(path)})
    return " ".join([package_version(), *(f"{file.name}:{_digest([file])}" for file in files)])


def images_version(data: AnomalibDataModule) -> str:
    """Hash of the names and sizes of all images and masks; images that Anomalib simulates do not count.

    They are downloaded or drawn first, where the data module does that.
    """
    data.prepare_data()
    data.setup()
    splits = [getattr(data, f"{split}_data", None) for split in ("train", "val", "test")]
    tables = [split.samples for split in splits if split and not isinstance(split, SyntheticAnomalyDataset)]
    names = {name for table in tables for column in ("image_path", "mask_path") for name in table.get(column, ())}
    files = sorted(Path(name) for name in names if name and Path(name).is_file())
    return hashlib.sha256("".join(f"{file} {file.stat().st_size}\n" for file in files).encode()).hexdigest()[:8]


@cache  # a process runs the code that it has loaded
def package_version(package: Path = PACKAGE) -> str:
    """Last commit that changed the code of a package and ``+hash`` of uncommitted changes.

    Without a repository it is the version number.
    """
    try:
        commit = _git(package, "log", "-1", "--format=%h", "--abbrev=12", "--", *CODE)
        changed = _git(package, "status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        commit = changed = ""
    if not commit:
        return version("anomalib-dmdd")
    return f"{commit}+{_digest(file for glob in CODE for file in package.rglob(glob))}" if changed else commit


def _git(folder: Path, *command: str) -> str:
    # Git refuses the repository of another user by default, as in a container, and the version would be lost.
    git = ["git", "-c", "safe.directory=*", "-C", str(folder), *command]
    return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def _digest(files: Iterable[Path]) -> str:
    content = b"".join(f"{file.name}\n".encode() + file.read_bytes() for file in sorted(files))
    return hashlib.sha256(content).hexdigest()[:8]


def _own_files(class_path: str) -> list[Path]:
    """Files of a class and its bases outside of this and installed packages."""
    module, _, name = class_path.rpartition(".")
    cls = getattr(import_module(module), name)
    modules = [sys.modules.get(base.__module__) for base in getattr(cls, "__mro__", (cls,))]
    files = [Path(file).resolve() for module in modules if (file := getattr(module, "__file__", None))]
    covered = [PACKAGE, *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))]
    return [file for file in files if not any(file.is_relative_to(folder) for folder in covered)]


def environment() -> dict[str, Any]:
    """Describe what a comparison runs on: packages, hardware, code version and command line."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "code": package_version(),
        "python": platform.python_version(),
        "packages": dict(sorted((package.name.lower(), package.version) for package in distributions())),
        "system": platform.platform(),
        "cpu": openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }

"""Versions of code, images, packages and hardware, to tell results apart."""

import hashlib
import json
import os
import platform
import re
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
import pandas as pd
import torch
from anomalib.data import AnomalibDataModule

from anomalib_dmdd.shell import command_line

PACKAGE = Path(__file__).parents[1]
CODE = ("*.py", "*.yaml")
SAMPLE = "_path$|^label_index$"
"""Columns of a table of images."""
COMPRESSED = {".jpeg", ".jpg", ".png", ".webp"}
"""Files of these kinds change almost everywhere with any change of the image."""


def code_version(*settings: Any) -> str:
    """Version of this package, and ``name.py:hash`` of other code of a run."""
    class_paths = re.findall(r'"class_path": "(\w[\w.]*\.\w+)"', json.dumps(settings, default=str))
    files = sorted({file for path in class_paths for file in _own_files(path)})
    return " ".join([package_version(), *(f"{file.name}:{_digest([file])}" for file in files)])


def images_version(data: AnomalibDataModule) -> str:
    """Hash of the images of a data module, with their splits, labels and masks.

    It is empty if the data module can only be set up with a trainer. The images are downloaded or drawn first, where
    the data module does that. Those that Anomalib simulates count as the good ones that it simulates from. Where the
    folder lies does not count.
    """
    data.prepare_data()
    try:
        data.setup()
    except AttributeError as error:
        if data.trainer is None and error.obj is None:  # the data module asked the trainer, which is missing
            return ""
        raise
    splits = [getattr(data, f"{split}_data", None) for split in ("train", "val", "test")]
    tables = [getattr(split, "source_samples", getattr(split, "samples", pd.DataFrame())) for split in splits]
    table = pd.concat([table.filter(regex=SAMPLE).assign(split=split) for split, table in enumerate(tables)])
    paths = [column for column in table if column.endswith("_path")]
    names = {str(name) for column in paths for name in table[column].dropna()}
    files = {name: Path(name) for name in names if name and Path(name).is_file()}
    root = os.path.commonprefix(list(files))  # noqa: RUF071  # commonpath refuses files on two drives
    versions = {name: f"{name.removeprefix(root)} {_sketch(file)}" for name, file in files.items()}
    for column in paths:
        table[column] = [versions.get(str(name), str(name)) for name in table[column]]
    rows = table.sort_values(list(table)).to_csv(index=False)
    return hashlib.sha256(rows.encode()).hexdigest()[:8]


def _sketch(file: Path) -> str:
    """Hash of a file; of a compressed one its size and middle are enough."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        if file.suffix.lower() not in COMPRESSED:
            return hashlib.sha256(opened.read()).hexdigest()
        opened.seek(size // 2)
        return hashlib.sha256(f"{size} ".encode() + opened.read(4096)).hexdigest()


@cache  # a process runs the code that it has loaded
def package_version(package: Path = PACKAGE) -> str:
    """Last commit that changed the code of a package and ``+hash`` of uncommitted changes.

    Without a repository it is the version number and ``+hash`` of the code.
    """
    try:
        commit = _git(package, "log", "-1", "--format=%h", "--abbrev=12", "--", *CODE)
        changed = _git(package, "status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        commit = changed = ""
    if commit and not changed:
        return commit
    digest = _digest(file for glob in CODE for file in package.rglob(glob))
    return f"{commit or version('anomalib-dmdd')}+{digest}"


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
        "command": command_line(sys.argv),
        "code": package_version(),
        "python": platform.python_version(),
        "packages": dict(sorted((package.name.lower(), package.version) for package in distributions())),
        "system": platform.platform(),
        "cpu": openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }

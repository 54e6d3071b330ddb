"""A folder in which the commands of the documents find what they name: drawn images and a cache of weights."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import timm
from documents import REPOSITORY
from safetensors.torch import save_file


def make_sandbox(folder: Path, demo_root: Path) -> Path:
    """Lay out the images, configurations and scripts that README and examples name."""
    for name in ("configs", "examples", "benchmarks"):
        (folder / name).symlink_to(REPOSITORY / name)
    flange = demo_root / "flange"
    copy_images(flange / "train/good", folder / "parts/good", 24)
    copy_images(flange / "test/chip", folder / "parts/defective", 6)
    copy_images(flange / "ground_truth/chip", folder / "parts/masks", 6)
    copy_images(flange / "test/good", folder / "parts/new", 4)
    for mask in (folder / "parts/masks").iterdir():
        mask.rename(mask.with_name(mask.name.replace("_mask", "")))
    (folder / "datasets").mkdir()
    (folder / "datasets/DemoParts").symlink_to(demo_root)
    return folder


def copy_images(source: Path, target: Path, count: int) -> None:
    """Copy the first images of a folder."""
    target.mkdir(parents=True)
    for path in sorted(source.glob("*.png"))[:count]:
        shutil.copy(path, target)


def make_weight_cache(folder: Path, names: list[str]) -> None:
    """Put random weights where timm looks for those that it has downloaded."""
    for name in names:
        repository = folder / "hub" / f"models--timm--{name}"
        revision = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        (repository / "snapshots" / revision).mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(revision)
        state = timm.create_model(name, pretrained=False).state_dict()
        save_file(state, repository / "snapshots" / revision / "model.safetensors")


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does who has activated this environment."""
    scripts = str(Path(sys.executable).parent)
    inherited = {name: value for name, value in os.environ.items() if name != "PL_GLOBAL_SEED"}
    path = os.pathsep.join([scripts, inherited["PATH"]])
    settings = {"PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        ["bash", "-c", command],  # noqa: S607  # the shell of the person who reads
        cwd=folder,
        env=inherited | settings | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )

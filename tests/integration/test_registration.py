"""The stock ``anomalib`` command and Anomalib's own functions find what this package brings, each in a new process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

CONFIG = Path(__file__).parents[2] / "configs" / "dmdd.yaml"

SMALL_MODEL = ["--model.backbone", "test_resnet", "--model.pre_trained", "false"]
SHORT_RUN = [
    *("--data.train_batch_size", "4", "--data.eval_batch_size", "4", "--data.num_workers", "0"),
    *("--trainer.accelerator", "cpu", "--trainer.max_steps", "2"),
    *("--trainer.limit_val_batches", "0.1", "--trainer.limit_test_batches", "0.1"),
]


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # A seed that another test has set in this process would be the command's, too.
    ours = ("TORCH_DEVICE_BACKEND_AUTOLOAD", "PL_GLOBAL_SEED")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def anomalib(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the ``anomalib`` command that was installed beside this interpreter."""
    command = shutil.which("anomalib", path=str(Path(sys.executable).parent))
    assert command, "Anomalib is not installed in this environment"
    return run([command, *arguments], folder, **environment)


def assert_trained(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """A checkpoint of Dmdd was written and tested."""
    result = folder / "results" / "Dmdd" / "DemoParts" / "flange" / "v0"
    assert (result / "weights" / "lightning" / "model.ckpt").is_file()
    assert yaml.safe_load((result / "config.yaml").read_text())["model"]["class_path"] == "anomalib_dmdd.Dmdd"
    assert "image_AUROC" in done.stdout


def test_train_by_short_name_beside_a_broken_plugin(tmp_path: Path, demo_root: Path) -> None:
    broken = tmp_path / "site" / "broken_plugin-1.0.dist-info"
    broken.mkdir(parents=True)
    (broken / "METADATA").write_text("Name: broken-plugin\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[anomalib.models]\nBroken = broken_plugin:Broken\n")

    done = anomalib(
        *("train", "--model", "Dmdd", *SMALL_MODEL, "--data", "DemoParts", "--data.root", str(demo_root), *SHORT_RUN),
        folder=tmp_path,
        PYTHONPATH=str(broken.parent),
    )

    assert_trained(done, tmp_path)
    (warning,) = (line for line in (done.stdout + done.stderr).splitlines() if "broken_plugin" in line)
    assert "plugin Broken = broken_plugin:Broken of broken-plugin is left out: ModuleNotFoundError" in warning


@pytest.mark.parametrize(("autoload", "data"), [("1", "DemoParts"), ("0", "anomalib_dmdd.DemoParts")])
def test_train_by_class_path(tmp_path: Path, demo_root: Path, autoload: str, data: str) -> None:
    done = anomalib(
        *(
            "train",
            "--model",
            "anomalib_dmdd.Dmdd",
            *SMALL_MODEL,
            "--data",
            data,
            "--data.root",
            str(demo_root),
            *SHORT_RUN,
        ),
        folder=tmp_path,
        TORCH_DEVICE_BACKEND_AUTOLOAD=autoload,
    )
    assert_trained(done, tmp_path)


def test_train_by_configuration(tmp_path: Path, demo_root: Path) -> None:
    done = anomalib(
        *(
            "train",
            "--config",
            str(CONFIG),
            *SMALL_MODEL,
            "--data",
            "DemoParts",
            "--data.root",
            str(demo_root),
            *SHORT_RUN,
        ),
        folder=tmp_path,
    )
    assert_trained(done, tmp_path)


def test_the_seed_repeats_a_run_of_the_command(tmp_path: Path, demo_root: Path) -> None:
    def train(name: str, *arguments: str) -> tuple[dict[str, torch.Tensor], Path]:
        """The trained weights, and the configuration that the command wrote beside them."""
        folder = tmp_path / name
        folder.mkdir()
        anomalib("train", *arguments, folder=folder)
        result = folder / "results" / "Dmdd" / "DemoParts" / "flange" / "v0"
        weights = torch.load(result / "weights" / "lightning" / "model.ckpt", weights_only=False)["state_dict"]
        return weights, result / "config.yaml"

    short = ("--model", "Dmdd", *SMALL_MODEL, "--data", "DemoParts", "--data.root", str(demo_root), *SHORT_RUN)
    random, config = train("random", *short)
    seed = yaml.safe_load(config.read_text())["seed_everything"]
    again, _ = train("again", *short, "--seed_everything", str(seed))
    other, _ = train("other", *short, "--seed_everything", str((seed + 1) % 2**32))

    assert random.keys() == again.keys()
    assert all(torch.equal(random[name], again[name]) for name in random)
    assert not all(torch.equal(random[name], other[name]) for name in random)


@pytest.mark.parametrize(
    "first",
    [
        "from anomalib.models import get_model, list_models",  # imports torch on its way
        "from anomalib_dmdd import Dmdd",  # imports anomalib.models on its way
    ],
)
def test_names_after_any_first_import(tmp_path: Path, first: str) -> None:
    program = f"""
{first}
import json
import anomalib.models
from anomalib.data import get_datamodule
from anomalib.models import get_model, list_models

small = {{"backbone": "resnet18", "pre_trained": False}}
made = [
    get_model("dmdd"),
    get_model({{"class_path": "Dmdd", "init_args": small}}),
    get_model({{"class_path": "anomalib_dmdd.Dmdd", "init_args": small}}),
    get_datamodule({{"class_path": "MVTec"}}),
    get_datamodule({{"class_path": "DemoParts"}}),
]
print(json.dumps(["dmdd" in list_models(), anomalib.models.Dmdd.__name__, *(type(one).__name__ for one in made)]))
"""
    done = run([sys.executable, "-c", program], tmp_path)
    assert json.loads(done.stdout.splitlines()[-1]) == [True, *["Dmdd"] * 4, "MVTec", "DemoParts"]


def test_without_autoloading_the_import_registers_the_model(tmp_path: Path) -> None:
    program = """
from anomalib.models import get_model, list_models
before = "dmdd" in list_models()
from anomalib_dmdd import Dmdd
print(before, "dmdd" in list_models(), type(get_model("dmdd", backbone="resnet18", pre_trained=False)) is Dmdd)
"""
    done = run([sys.executable, "-c", program], tmp_path, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
    assert done.stdout.splitlines()[-1] == "False True True"

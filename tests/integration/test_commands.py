"""Every command of README and of the examples, word for word, in a folder that holds what it names."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from anomalib.engine import Engine
from documents import REPOSITORY, commands, sections, usage
from sandbox import make_sandbox, make_weight_cache, shell
from small_models import build

from anomalib_dmdd import DemoParts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the documents use a POSIX shell")

SHORTER = {
    "anomalib train": "--trainer.max_steps 1 --trainer.limit_test_batches 1 --trainer.accelerator cpu",
    "examples/compare_models.py": "--models Padim --trainer.max_steps 2 --timed_passes 2 --openvino",
    "examples/custom_post_processor.py": "--steps 2 --image_size 64",
    "examples/train_on_your_folder.py": "--steps 2 --image_size 64 --backbone resnet18.tv_in1k",
}
"""Appended to a command so that it takes seconds, by a part of the command."""

NOT_RUN = {
    "python3 -m venv": ".ci/run installs in this way",
    "source .venv": ".ci/run uses this environment",
    "pip install": ".ci/run installs in this way",
    "pytest": "it would start itself",
}
ONLY_PARSED = {"--data MVTec": ("--print_config", "it would download MVTec AD")}
"""Not run, or run with an option that ends after parsing, and the reason."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, demo_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("sandbox")
    make_weight_cache(folder / "cache", ["resnet18.a1_in1k", "resnet18.tv_in1k"])
    return make_sandbox(folder, demo_root)


def run(command: str, sandbox: Path, **environment: str) -> None:
    if any(part in command for part in NOT_RUN):
        return
    parsed = next((option for part, (option, _) in ONLY_PARSED.items() if part in command), None)
    suffix = parsed or next((suffix for part, suffix in SHORTER.items() if part in command), "")
    done = shell(f"{command} {suffix}", sandbox, HF_HOME=str(sandbox / "cache"), **environment)
    assert done.returncode == 0, f"{command} {suffix}\n{done.stdout}\n{done.stderr}"


README = sections(REPOSITORY / "README.md")


def test_every_block_of_the_readme_has_a_language_that_is_run() -> None:
    assert {language for blocks in README.values() for language, _ in blocks} == {"bash", "python"}


@pytest.mark.parametrize("title", README)
def test_section_of_the_readme(title: str, sandbox: Path) -> None:
    for number, (language, text) in enumerate(README[title]):
        if language == "bash":
            for command in commands(text):
                run(command, sandbox)
        else:  # Lightning takes defaults of the Trainer from the environment, so that the block stays as it is
            program = sandbox / f"block{number}.py"
            program.write_text(text)
            short = {"PL_TRAINER_MAX_STEPS": "1", "PL_TRAINER_LIMIT_TEST_BATCHES": "1", "PL_TRAINER_ACCELERATOR": "cpu"}
            run(f"python {program.name}", sandbox, **short)


@pytest.fixture
def checkpoint(sandbox: Path, parts: DemoParts, engine: Callable[..., Engine]) -> None:
    """A trained model where the examples look for one."""
    training = engine(max_steps=2)
    training.fit(build("Dmdd"), datamodule=parts)
    (sandbox / "path/to").mkdir(parents=True, exist_ok=True)
    shutil.copy(training.best_model_path, sandbox / "path/to/model.ckpt")


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize("script", sorted((REPOSITORY / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_usage_of_an_example(script: Path, sandbox: Path) -> None:
    lines = usage(script)
    assert lines, f"{script.name} does not say how it is used"
    for command in lines:
        run(command, sandbox)

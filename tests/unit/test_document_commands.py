"""Commands, programs and messages of all documents, without running a training.

``tests/integration/test_commands.py`` runs those of the README.
"""

import ast
import re
import shlex
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data.datasets.image import folder
from anomalib.data.utils import path as path_checks
from anomalib.data.utils.tiler import Tiler
from documents import DOCUMENTS, REPOSITORY, blocks, commands

import anomalib_dmdd
from anomalib_dmdd.__main__ import SUBCOMMANDS
from anomalib_dmdd.models.components import DistillationModel

SOURCES = Path(anomalib_dmdd.__file__).parent
NOT_PARSED = {
    ".ci/run": "the script that runs this test",
    ".venv/bin/pip": "installs",
    "pip": "installs",
    "pre-commit": "is not installed here",
    "pytest": "it would start itself",
    "python3": "makes an environment",
    "ruff": ".ci/run runs it",
    "source": "is part of the shell",
    "srun": "needs a cluster",
    "torchrun": "needs two machines",
}
"""Not checked, by the first word, and the reason."""

Parse = Callable[[list[str]], object]


def parse_script(words: list[str]) -> None:
    """Look for the file of ``python FILE ...`` and for its options."""
    file = next((folder / words[0] for folder in (REPOSITORY, SOURCES) if (folder / words[0]).is_file()), None)
    assert file, f"there is no {words[0]}"
    source = file.read_text()
    known = set(re.findall(r'add_argument\(\s*"--(\w+)"', source))
    for function in re.findall(r"auto_cli\((\w+)\)", source):  # arguments with a default are options
        signature = source.split(f"def {function}(")[1].split(") ->")[0]
        known |= set(re.findall(r"^ +(\w+): .* = ", signature, re.MULTILINE))
    unknown = [word for word in words if word.startswith("--") and word[2:] not in known]
    assert not unknown, f"{words[0]} has no {' '.join(unknown)}"


def parse_tool(words: list[str]) -> None:
    """Parse the arguments of ``anomalib-dmdd`` in a folder that holds the folders it names."""
    for word in words[1:]:
        if re.fullmatch(r"[a-z][\w/]*", word):
            Path(word).mkdir(parents=True, exist_ok=True)
    module = import_module(SUBCOMMANDS[words[0]][0])
    module.parse(words[1:])


@pytest.fixture(scope="module")
def parsers() -> dict[str, Parse]:
    """What parses the arguments of a program, by its name."""
    stock = AnomalibCLI.__new__(AnomalibCLI)  # its constructor also builds the model
    stock.parser, stock.subcommand_parsers, stock.subcommand_method_arguments = stock.init_parser(), {}, {}
    stock.add_subcommands()
    return {"anomalib": stock.parser.parse_args, "anomalib-dmdd": parse_tool, "python": parse_script}


@pytest.fixture
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the configurations of the repository."""
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)


def check(command: str, parsers: dict[str, Parse]) -> str | None:
    """What is wrong with a command."""
    program, *words = shlex.split(command)
    if program in NOT_PARSED:
        return None
    if program not in parsers:
        return f"{command}: nothing parses it. Add it to NOT_PARSED with a reason."
    try:
        parsers[program](words)
    except SystemExit as end:
        return f"{command}: refused" if end.code else None
    except AssertionError as error:
        return f"{command}: {error}"
    return None


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_commands_are_understood(document: Path, parsers: dict[str, Parse]) -> None:
    found = [command for language, text in blocks(document) if language == "bash" for command in commands(text)]
    wrong = [problem for command in found if (problem := check(command, parsers))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize(
    "command",
    [
        "anomalib train --model Dmdd --model.backbon resnet18 --data MVTec",
        "anomalib-dmdd report results --output page.html",
        "anomalib-dmdd compare --model Dmdd",
        "python inspector.py model.xml parts --thresh 0.5",
        "python examples/no_such_file.py",
        "conda install anomalib",
    ],
)
def test_a_wrong_command_is_found(command: str, parsers: dict[str, Parse]) -> None:
    assert check(command, parsers)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_programs_compile(document: Path) -> None:
    for language, text in blocks(document):
        if language == "python":
            compile(text, str(document), "exec")


def test_messages_are_those_of_the_code() -> None:
    messages = re.findall(r"^\| `(.+?)` \|", (REPOSITORY / "docs/trouble.md").read_text(), flags=re.MULTILINE)
    assert len(messages) > 50
    files = [*SOURCES.rglob("*.py"), Path(folder.__file__), Path(path_checks.__file__)]
    texts = [text for path in files for text in strings(ast.parse(path.read_text()))]
    patterns = {message: ".*".join(map(re.escape, message.split("..."))) for message in messages}
    missing = [message for message, pattern in patterns.items() if not any(re.search(pattern, text) for text in texts)]
    assert not missing


def strings(tree: ast.AST) -> list[str]:
    """All strings of a module, with a space in place of each value in braces."""
    joined = [
        "".join(str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
    ]
    plain = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [*joined, *plain]


def test_model_of_the_plugin_page(monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(text for language, text in blocks(REPOSITORY / "docs/how-to/plugin.md") if language == "python")
    names: dict[str, type] = {}
    exec(compile(block, "plugin.md", "exec"), names)  # noqa: S102  # our own document
    model = names["Plain"](pre_trained=False, image_size=64)
    monkeypatch.setattr(DistillationModel, "load_pretrained", lambda _: None)
    monkeypatch.setattr(names["Plain"], "trainer", SimpleNamespace(ckpt_path=None, global_step=0, datamodule=None))
    names["Plain"](image_size=64).on_fit_start()  # asks for nothing that the page does not give
    images = torch.rand(2, 3, 64, 64)
    assert [tuple(distance.shape) for distance in model.model.train()(images)] == [
        (2, 1, 16, 16),
        (2, 1, 8, 8),
        (2, 1, 4, 4),
    ]
    model.model.tiler = Tiler(tile_size=32, stride=32)
    assert model.model(images)[0].shape == (8, 1, 8, 8), "it learns from the tiles that it is tested on"
    model.model.tiler = None
    answer = model.model.eval()(images)
    assert answer.anomaly_map.shape == (2, 1, 64, 64)
    assert answer.pred_score.shape == (2,)

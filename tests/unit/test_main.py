import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from anomalib_dmdd.__main__ import SUBCOMMANDS, main

ROOT = Path(__file__).parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def test_help_lists_the_subcommands() -> None:
    done = run("-m", "anomalib_dmdd", "--help")
    assert done.returncode == 0
    for name, (_, summary) in SUBCOMMANDS.items():
        assert re.search(rf"^ +{name}\s+{summary}", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"""
import sys
from anomalib_dmdd.__main__ import main
try:
    main({arguments})
finally:
    heavy = {{"torch", "anomalib", "lightning", "pandas", "matplotlib"}} & set(sys.modules)
    assert not heavy, heavy
"""
    done = run("-c", program)
    assert done.returncode == 0, done.stderr
    assert "usage: anomalib-dmdd" in done.stdout


def test_subcommands_exist() -> None:
    for module, _ in SUBCOMMANDS.values():
        assert callable(import_module(module).main)


@pytest.mark.parametrize("arguments", [[], ["campare"]])
def test_wrong_command_line_ends_with_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


def test_console_script() -> None:
    (target,) = re.findall(r'^anomalib-dmdd = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    module, _, name = target.partition(":")
    assert getattr(import_module(module), name) is main

"""The hook against small stand-ins for torch, Anomalib and a plugin, each program in an interpreter of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import anomalib_dmdd

STAND_INS = {
    "torch/__init__.py": """
        import os
        from importlib.metadata import entry_points

        if os.getenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") == "1":
            for entry in entry_points(group="torch.backends"):
                entry.load()()
        """,
    "anomalib/__init__.py": "",
    "anomalib/data/__init__.py": """
        import torch

        class AnomalibDataModule: pass
        """,
    "anomalib/models/__init__.py": """
        from anomalib.models import legacy  # imports torch, for the first time if nobody else has
        from anomalib.models.components import AnomalibModule
        from anomalib.models.image import Patchcore

        ALLOWED_MODULES = {"anomalib.models"}

        def list_models():
            return sorted(model.__name__ for model in AnomalibModule.__subclasses__())
        """,
    "anomalib/models/legacy.py": "import torch",
    "anomalib/models/components.py": """
        from anomalib.data import AnomalibDataModule

        class AnomalibModule: pass
        """,
    "anomalib/models/image.py": """
        import os
        from anomalib.models.components import AnomalibModule

        if os.getenv("BREAK_ANOMALIB"):
            raise ImportError("broken Anomalib")

        class Patchcore(AnomalibModule): pass
        """,
    "anomalib/engine.py": """
        import torch
        from anomalib.models import AnomalibModule

        class Engine: pass
        """,
    "anomalib/cli.py": "from anomalib.engine import Engine",
    # A plugin that needs all of Anomalib, and that Anomalib must not ask for its classes while it is being imported.
    "lines/__init__.py": """
        from lines.models import Lines
        from lines.data import LineScans
        """,
    "lines/models.py": """
        from anomalib.engine import Engine
        from anomalib.models import AnomalibModule, Patchcore

        class Lines(AnomalibModule): pass
        """,
    "lines/data.py": """
        from anomalib.data import AnomalibDataModule

        class LineScans(AnomalibDataModule): pass
        """,
    "lines-1.0.dist-info/METADATA": "Name: lines\nVersion: 1.0",
    "lines-1.0.dist-info/entry_points.txt": """
        [anomalib.models]
        Lines = lines:Lines
        [anomalib.data]
        LineScans = lines:LineScans
        """,
    "hook-1.0.dist-info/METADATA": "Name: hook\nVersion: 1.0",
    "hook-1.0.dist-info/entry_points.txt": """
        [torch.backends]
        hook = anomalib_dmdd.plugin:install
        """,
}

SHOW = """
import anomalib.data, anomalib.models
print(
    anomalib.models.list_models(),
    anomalib.models.Lines.__name__,
    anomalib.data.LineScans.__name__,
    sorted(anomalib.models.ALLOWED_MODULES),
)
"""
SHOWN = "['Lines', 'Patchcore'] Lines LineScans ['anomalib.models', 'lines']\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder to import from that has the stand-ins, and of this package no more than the hook and what it imports."""
    package = tmp_path / "anomalib_dmdd"
    package.mkdir()
    for name in ("__init__.py", "names.py", "plugin.py", "seed.py"):
        shutil.copy(Path(str(anomalib_dmdd.__file__)).with_name(name), package)
    write(tmp_path, STAND_INS)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text))


def run(site: Path, program: str, **environment: str) -> tuple[str, str]:
    """What a program writes to stdout and stderr, with nothing to import but the standard library and the folder."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "1", "PYTHONPATH": str(site), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "import torch",
        "import anomalib.models",
        "import anomalib.models.image",
        "from anomalib.models import Lines, list_models",
        "import anomalib.data",
        "import anomalib.engine",
        "import anomalib.cli",
        "import lines",
        "import lines.data",
        "import lines.models",
    ],
)
def test_every_import_order_ends_with_the_plugins(site: Path, first: str) -> None:
    assert run(site, f"{first}\n{SHOW}") == (SHOWN, "")


def test_without_anomalib_nothing_but_the_hook_is_imported(site: Path) -> None:
    added, problems = run(
        site,
        """
import importlib.metadata, logging, sys  # torch has them too
before = set(sys.modules)
import torch
print(sorted(set(sys.modules) - before))
""",
    )
    assert added == "['anomalib_dmdd', 'anomalib_dmdd.names', 'anomalib_dmdd.plugin', 'anomalib_dmdd.seed', 'torch']\n"
    assert problems == ""


def test_a_broken_entry_costs_one_warning_that_names_it(site: Path) -> None:
    broken = {
        "Gone": ("no_such_module:Gone", "ModuleNotFoundError"),
        "Typo": ("lines:Typo", "AttributeError"),
        "Raises": ("raises:Raises", "RuntimeError: bad luck"),
        "Garbled": ("not a module", "Error"),
        "Patchcore": ("lines:Lines", "anomalib.models has a Patchcore already"),
    }
    entries = "".join(f"{name} = {value}\n" for name, (value, _) in broken.items())
    write(
        site,
        {
            "raises.py": "raise RuntimeError('bad luck')",
            "broken-1.0.dist-info/METADATA": "Name: broken\nVersion: 1.0",
            "broken-1.0.dist-info/entry_points.txt": "[anomalib.models]\n" + entries,
        },
    )

    shown, problems = run(site, f"from anomalib_dmdd.plugin import install\n{SHOW}\ninstall()")

    assert shown == SHOWN
    assert len(problems.splitlines()) == len(broken)
    for name, (value, error) in broken.items():
        (warning,) = (
            line for line in problems.splitlines() if f"plugin {name} = {value} of broken is left out" in line
        )
        assert error in warning


def test_an_entry_does_not_replace_what_anomalib_has(site: Path) -> None:
    write(
        site,
        {
            "rival.py": "from anomalib.models import AnomalibModule\nclass Patchcore(AnomalibModule): pass",
            "rival-1.0.dist-info/METADATA": "Name: rival\nVersion: 1.0",
            "rival-1.0.dist-info/entry_points.txt": "[anomalib.models]\nPatchcore = rival:Patchcore",
        },
    )
    shown, problems = run(site, "import anomalib.models as m; print(m.Patchcore.__module__, m.list_models())")
    assert shown == "anomalib.models.image ['Lines', 'Patchcore']\n"
    assert "rival" in problems


def test_two_packages_with_one_name_keep_the_first(site: Path) -> None:
    write(
        site,
        {
            "rival.py": "class Lines: pass",
            "rival-1.0.dist-info/METADATA": "Name: rival\nVersion: 1.0",
            "rival-1.0.dist-info/entry_points.txt": "[anomalib.models]\nLines = rival:Lines",
        },
    )
    shown, problems = run(site, "import anomalib.models as m; print(m.Lines.__module__)")
    assert shown in {"lines.models\n", "rival\n"}
    assert len(problems.splitlines()) == 1
    assert "anomalib.models has a Lines already" in problems


@pytest.mark.parametrize("by_hand", ["install()\nimport anomalib.models", "import anomalib.models\ninstall()"])
def test_install_works_by_hand_where_autoloading_is_off(site: Path, by_hand: str) -> None:
    off = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    assert run(site, "import sys, anomalib.models; print('anomalib_dmdd' in sys.modules)", **off) == ("False\n", "")
    assert run(site, f"from anomalib_dmdd.plugin import install\n{by_hand}\n{SHOW}", **off) == (SHOWN, "")


def test_reloading_keeps_the_plugins(site: Path) -> None:
    program = f"""
from importlib import reload
import torch, anomalib.models
reload(anomalib.models)
from anomalib.models import Lines
reload(torch)
{SHOW}
"""
    assert run(site, program) == (SHOWN, "")


@pytest.mark.parametrize("first", ["import torch", ""])
def test_a_failed_import_of_anomalib_can_be_repeated(site: Path, first: str) -> None:
    program = f"""
import os
{first}
try:
    import anomalib.models
except ImportError as error:
    print(error)
del os.environ["BREAK_ANOMALIB"]
{SHOW}
"""
    assert run(site, program, BREAK_ANOMALIB="1") == (f"broken Anomalib\n{SHOWN}", "")


def test_threads_may_import_at_the_same_time(site: Path) -> None:
    for name in ("torch/__init__.py", "anomalib/models/image.py", "lines/data.py"):
        path = site / name
        path.write_text("import time; time.sleep(0.05)\n" + path.read_text())
    program = f"""
from importlib import import_module
from threading import Barrier, Thread
names = ["torch", "anomalib.models", "anomalib.engine", "anomalib.data", "lines", "lines.models"] * 2
together = Barrier(len(names))
def work(name):
    together.wait()
    import_module(name)
threads = [Thread(target=work, args=[name]) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
{SHOW}
"""
    assert run(site, program) == (SHOWN, "")


def test_install_never_raises(site: Path) -> None:
    program = """
from anomalib_dmdd import plugin
def entry_points(group):
    raise OSError("unreadable metadata")
plugin.entry_points = entry_points
import anomalib.models
print(anomalib.models.list_models())
"""
    shown, problems = run(site, program)
    assert shown == "['Patchcore']\n"
    assert "Anomalib plugins could not be loaded." in problems
    assert "unreadable metadata" in problems

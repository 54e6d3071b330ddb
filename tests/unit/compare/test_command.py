import json
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace
from rich.console import Console

from anomalib_dmdd.compare import command, launcher, table
from anomalib_dmdd.compare.plan import Run

MakeRun = Callable[..., Run]
RESULTS = {
    "Good": {"status": "ok", "image_AUROC": 0.987, "train_seconds": 61.2},
    "Bad": {"status": "failed", "error": "ValueError: [no] layer"},
}
ABOUT = {"date": "2026-01-02T03:04:05", "cpu": "Abacus 3000", "gpus": []}


def show(runs: list[Run], folder: Path, monkeypatch: pytest.MonkeyPatch, launch: Callable[..., Any]) -> str:
    """What a person sees while runs are replaced by their results."""
    monkeypatch.setattr(launcher, "launch", launch)
    monkeypatch.setattr(table, "markdown", lambda *_: "")
    out = StringIO()
    settings = Namespace(out=folder, threads=1, keep_weights=True)
    command.run_all(runs, settings, ABOUT, Console(file=out, width=200))
    return out.getvalue()


def test_one_line_per_finished_run(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(run: Run, *_: Any, watch: Callable[[str], None], **__: Any) -> dict[str, Any]:
        watch("training 50%")
        return RESULTS[run.label]

    before = make_run("Before")
    folder = launcher.folder_of(before, tmp_path)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"status": "ok"}')
    runs = [before, make_run("Good"), make_run("Bad")]
    text = show(runs, tmp_path, monkeypatch, launch)
    assert "1 done in an earlier start" in text
    assert "[2/3] Good, bolt, seed 0: image AUROC 98.7, trained in 0:01:01" in text
    assert "[3/3] Bad, bolt, seed 0: FAILED: ValueError: [no] layer" in text


def test_many_starts_in_one_folder_are_all_recorded(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from anomalib_dmdd.compare.command import _record_start\n"
        "for number in range(20): _record_start(Path(sys.argv[1]), {'number': number})"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)]
    assert [job.wait(60) for job in jobs] == [0, 0, 0]
    starts = json.loads((tmp_path / "versions.json").read_text())
    assert sorted(start["number"] for start in starts) == sorted([*range(20)] * 3)


def test_changed_code_is_run_again(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []

    def launch(run: Run, out: Path, **_: Any) -> dict[str, Any]:
        launched.append(run.code)
        folder = launcher.folder_of(run, out)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text('{"status": "ok", "image_AUROC": 0.5, "train_seconds": 1}')
        return launcher.result_of(run, out)

    for code in ("one", "one", "two", "one"):
        show([make_run("Good", code=code)], tmp_path, monkeypatch, launch)
    assert launched == ["one", "two"]


def test_a_stopped_job_is_an_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(command, "_compare", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert command.main(["--models", "Padim"]) == 130
    assert "Run the same command again to continue" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == before

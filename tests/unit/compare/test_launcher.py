import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anomalib_dmdd.compare import launcher, table
from anomalib_dmdd.compare.plan import Run

MakeRun = Callable[..., Run]


def leave_result(run: Run, out: Path, **result: object) -> None:
    folder = launcher.folder_of(run, out)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))


def replace_run(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a launched run be a program of Python, whose argument is the folder of the run."""
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **rest: popen([command[0], "-c", program, command[-1]], **rest)
    )


def test_only_fine_runs_are_done(make_run: MakeRun, tmp_path: Path) -> None:
    fine, failed, stopped, other = (make_run(seed=seed) for seed in range(4))
    leave_result(fine, tmp_path, status="ok", image_AUROC=0.5)
    leave_result(failed, tmp_path, status="failed", error="no")
    launcher.folder_of(stopped, tmp_path).mkdir()
    assert [launcher.is_done(run, tmp_path) for run in (fine, failed, stopped, other)] == [True, False, False, False]
    assert not launcher.is_done(make_run(seed=0, image_size=65), tmp_path), "another size is another run"
    assert not launcher.is_done(make_run(seed=0, code="0123456789ab+1a2b3c4d"), tmp_path), "changed code is another run"
    rows = table.collect([fine, failed, stopped, other], tmp_path)
    assert rows[["seed", "status"]].to_numpy().tolist() == [[0, "ok"], [1, "failed"]]
    assert rows.loc[0, "image_AUROC"] == 0.5
    assert rows["code"].tolist() == ["0123456789ab"] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_interrupt_stops_the_run_and_its_workers(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in for a run starts a worker of its own and ignores the polite signal."""
    program = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); child = os.fork();"
        "open(f'{sys.argv[1]}/{os.getpid()}.pid', 'w').close(); time.sleep(60)"
    )
    replace_run(monkeypatch, program)
    run = make_run()
    folder = launcher.folder_of(run, tmp_path)
    found: list[int] = []

    start = time.monotonic()

    def interrupt(_stage: str) -> None:
        found[:] = [int(path.stem) for path in folder.glob("*.pid")]
        if len(found) == 2:
            raise KeyboardInterrupt
        assert time.monotonic() - start < 30

    with pytest.raises(KeyboardInterrupt):
        launcher.launch(run, tmp_path, keep_weights=True, watch=interrupt)
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in found):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not launcher.is_done(run, tmp_path)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_a_killed_comparison_leaves_no_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")  # reading it waits for ever
    command = [sys.executable, "-m", "anomalib_dmdd.compare.worker", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while not (tmp_path / "stage").exists():
            assert process.poll() is None
            time.sleep(0.05)
        assert process.stdin is not None
        process.stdin.close()  # as the system does when the comparison is killed
        assert process.wait(60) == 1


def test_a_killed_run_is_a_row_with_its_error(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import os, sys; open(f'{sys.argv[1]}/stage', 'w').write('testing'); os.kill(os.getpid(), 9)"
    replace_run(monkeypatch, program)
    result = launcher.launch(make_run(), tmp_path, keep_weights=True, watch=lambda *_: None)
    assert result["status"] == "failed"
    assert signal.Signals(9).name in result["error"]
    assert "while testing" in result["error"]
    assert "memory" in result["error"]


def test_weights_go_where_they_are_not_wanted(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import sys, pathlib; folder = pathlib.Path(sys.argv[1]); (folder / 'weights').mkdir();"
        "(folder / 'model.ckpt').touch(); (folder / 'result.json').write_text('{\"status\": \"ok\"}')"
    )
    replace_run(monkeypatch, program)
    for seed, (keep, left) in enumerate(((True, True), (False, False))):
        run = make_run(seed=seed)
        launcher.launch(run, tmp_path, keep_weights=keep, watch=lambda *_: None)
        folder = launcher.folder_of(run, tmp_path)
        assert (folder / "model.ckpt").exists() == (folder / "weights").exists() == left
        assert (folder / "run.json").exists()


def test_two_comparisons_in_one_folder_share_a_run(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, sys, time, pathlib; time.sleep(0.5);"
        'pathlib.Path(sys.argv[1], \'result.json\').write_text(\'{"status": "ok", "pid": %d}\' % os.getpid())'
    )
    replace_run(monkeypatch, program)
    with ThreadPoolExecutor() as threads:
        both = [
            threads.submit(launcher.launch, make_run(), tmp_path, keep_weights=True, watch=lambda *_: None)
            for _ in range(2)
        ]
    first, second = (one.result() for one in both)
    assert first == second
    assert first["status"] == "ok"

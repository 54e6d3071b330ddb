"""Launch runs, each in its own process, and read their results."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from .plan import Run


def folder_of(run: Run, out: Path) -> Path:
    """Folder with the files of a run."""
    return out / "runs" / run.id


def result_of(run: Run, out: Path) -> dict[str, Any]:
    """Result of a run from this or an earlier start; empty without one."""
    try:
        return dict(json.loads((folder_of(run, out) / "result.json").read_text()))
    except FileNotFoundError:  # another comparison may start the run again at this moment
        return {}


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write the result of a run in one step, because another comparison may read it."""
    unfinished = folder / "result.json.unfinished"
    unfinished.write_text(json.dumps(result, indent=2))
    unfinished.replace(folder / "result.json")


def is_done(run: Run, out: Path) -> bool:
    """Whether a run has succeeded; failed and interrupted runs are started again."""
    return result_of(run, out).get("status") == "ok"


def launch(run: Run, out: Path, *, keep_weights: bool, watch: Callable[[str], None]) -> dict[str, Any]:
    """Launch a run in its own process, wait for it and return its result.

    An interrupt stops it with everything that it started. If another comparison in the same folder does the run at the
    moment, its result is awaited.
    ``watch`` is called several times a second with what the run is doing.
    """
    folder = folder_of(run, out)
    lock = out / "locks" / f"{run.id}.lock"
    for parent in (folder.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    watch("waiting for another comparison")
    with FileLock(lock):  # released when this process ends, however it does
        if not is_done(run, out):
            _launch(run, folder, keep_weights=keep_weights, watch=watch)
        return result_of(run, out)  # before another comparison starts a failed run again


def _launch(run: Run, folder: Path, *, keep_weights: bool, watch: Callable[[str], None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(asdict(run), indent=2))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(run.cores))
    with (
        (folder / "log.txt").open("w") as log,
        subprocess.Popen(  # noqa: S603  # this program itself
            [sys.executable, "-m", "anomalib_dmdd.compare.worker", str(folder)],
            stdin=subprocess.PIPE,  # closed when this process ends, however it does: the other then ends, too
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | threads,
            start_new_session=True,  # Ctrl-C reaches this process only, which then stops the other with its workers
        ) as process,
    ):
        try:
            while process.poll() is None:
                watch(_read(folder / "stage"))
                time.sleep(0.2)
        finally:
            _kill(process)
    if not keep_weights:
        shutil.rmtree(folder / "weights", ignore_errors=True)
        (folder / "model.ckpt").unlink(missing_ok=True)
    if not (folder / "result.json").exists():
        error = _describe_death(process.returncode, folder)
        write_result(folder, {"status": "failed", "error": error})


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with its children unless it has ended."""
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _describe_death(code: int, folder: Path) -> str:
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    memory = "; the system killed it, most likely for lack of memory" if "SIGKILL" in cause else ""
    last = _read(folder / "log.txt").strip().splitlines()[-1:]
    return f"The process ended with {cause} while {_read(folder / 'stage')}{memory}. {''.join(last)}".strip()


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else "starting"

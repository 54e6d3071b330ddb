"""Launch runs, each in its own process, and read their results."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .plan import Run

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 5


def folder_of(run: Run, out: Path) -> Path:
    """Folder with the files of a run."""
    return out / "runs" / run.id


def result_of(run: Run, out: Path) -> dict[str, Any] | None:
    """Result of a run from this or an earlier start; ``None`` without one."""
    path = folder_of(run, out) / "result.json"
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def is_done(run: Run, out: Path) -> bool:
    """Whether a run has succeeded; failed and interrupted runs are started again."""
    return (result_of(run, out) or {}).get("status") == "ok"


def launch(run: Run, out: Path, *, keep_weights: bool, watch: Callable[[str], None]) -> dict[str, Any]:
    """Launch a run in its own process and wait for it.

    An interrupt stops it with everything that it started.

    Args:
        run: What to run.
        out: Folder of the comparison.
        keep_weights: Keep the checkpoint and the exported models.
        watch: Called several times a second with what the run is doing.

    Returns:
        The result of the run.
    """
    folder = folder_of(run, out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(asdict(run), indent=2))
    threads = {name: str(run.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(  # noqa: S603  # this program itself
            [sys.executable, "-m", "anomalib_dmdd.compare.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | threads,
            start_new_session=True,  # Ctrl-C reaches this process only, which then stops the other with its workers
        )
        try:
            while process.poll() is None:
                watch(_read(folder / "stage"))
                time.sleep(POLL_SECONDS)
        finally:
            stop(process)
    if not keep_weights:
        shutil.rmtree(folder / "weights", ignore_errors=True)
        (folder / "model.ckpt").unlink(missing_ok=True)
    if not (folder / "result.json").exists():
        _record_death(process.returncode, folder)
    return result_of(run, out) or {}


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process and its children, and kill those that do not end."""
    for name in ("SIGTERM", "SIGKILL"):
        if process.poll() is not None:
            return
        if sys.platform == "win32":
            process.terminate()
        else:
            os.killpg(process.pid, signal.Signals[name])
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)


def _record_death(code: int, folder: Path) -> None:
    """Write the result of a run that ended without writing one."""
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    memory = "; the system killed it, most likely for lack of memory" if code == -9 else ""  # noqa: PLR2004  # SIGKILL
    last = _read(folder / "log.txt").strip().splitlines()[-1:]
    error = f"The process ended with {cause} while {_read(folder / 'stage')}{memory}. {''.join(last)}"
    (folder / "result.json").write_text(json.dumps({"status": "failed", "error": error.strip()}))


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else "starting"

"""The command: plan, run, report."""

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markdown import Markdown

from .settings import Settings, parse

if TYPE_CHECKING:
    import pandas as pd

    from .plan import Run

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare models.

    Args:
        arguments: The command line without the program, or ``None`` for that of this process.

    Returns:
        Exit code: 0 all runs are fine, 1 some failed, 2 the settings are wrong, 130 interrupted.
    """
    settings = parse(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, soft_wrap=True)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job keeps what is finished, too
    try:
        return _compare(settings, console)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _compare(settings: Settings, console: Console) -> int:
    with console.status("Checking models and data"):
        from .components import SettingsError  # noqa: PLC0415  # takes seconds to import
        from .plan import plan  # noqa: PLC0415
        from .versions import environment  # noqa: PLC0415

        try:
            runs = plan(settings)
            _make_folder(settings.out)
        except SettingsError as error:
            console.print(f"error: {error}", style="red", markup=False)
            return WRONG
        about = environment() | {"settings": json.loads(json.dumps(asdict(settings), default=str))}
    _record_start(settings.out / "versions.json", about)
    completed = _run_all(runs, settings, about, console)
    failed = _show(runs, settings.out, about, console)
    if not completed:
        console.print("Interrupted. The same command goes on from here.")
        return INTERRUPTED
    return FAILED if failed else OK


def _make_folder(out: Path) -> None:
    from .components import SettingsError  # noqa: PLC0415

    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingsError(f"Cannot write to {out}: {error.strerror}. Choose another folder with --out.") from error


def _record_start(path: Path, about: dict[str, Any]) -> None:
    """Add this start to the list: what an earlier start did may have been done by other versions."""
    starts = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*starts, about], indent=2))


def _run_all(runs: "list[Run]", settings: Settings, about: dict[str, Any], console: Console) -> bool:
    """Do all runs that are not done; ``False`` if a person stopped it."""
    from .display import Display  # noqa: PLC0415
    from .launcher import launch, is_done, result_of  # noqa: PLC0415

    out = settings.out
    finished = [(run, (result_of(run, out) or {})["run_seconds"]) for run in runs if is_done(run, out)]
    done = {run.id for run, _ in finished}
    waiting = [run for run in runs if run.id not in done]
    console.print(f"{len(runs)} runs, {settings.threads} threads, folder {out}", markup=False)
    if done:
        console.print(f"{len(done)} done in an earlier start, not done again.")
    display = Display(console, waiting, finished)
    with display.progress:
        try:
            for run in waiting:
                display.finish(launch(run, out, keep_weights=settings.keep_weights, watch=display.watch))
                _write_tables(runs, out, about)
        except KeyboardInterrupt:
            return False
    return True


def _write_tables(runs: "list[Run]", out: Path, about: dict[str, Any]) -> "pd.DataFrame":
    from . import report, table  # noqa: PLC0415

    rows = table.collect(runs, out)
    rows.to_csv(out / "results.csv", index=False)
    (out / "results.md").write_text(report.markdown(runs, rows, about))
    return rows


def _show(runs: "list[Run]", out: Path, about: dict[str, Any], console: Console) -> bool:
    """Write tables and pictures of what is there and show the summary; ``True`` if something failed."""
    from . import plots, report, table  # noqa: PLC0415

    rows = _write_tables(runs, out, about)
    means, spreads = table.summarise(rows)
    if len(means):
        plots.plot_accuracy(means, spreads, out / "accuracy.png")
        plots.plot_pareto(means, out / "pareto.png")
        plots.plot_maps(runs, out, out / "maps.png")
        console.print(Markdown(report.summary(runs, rows)))
    console.print(f"\nTables, pictures and weights: {out}", markup=False)
    return bool((rows["error"] != "").any())

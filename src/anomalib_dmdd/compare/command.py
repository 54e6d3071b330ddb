"""The command: plan, run, report."""

import json
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .settings import parse

if TYPE_CHECKING:
    from .plan import Run

SUCCEEDED, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare models.

    Args:
        arguments: Command line without the program; by default that of this process.

    Returns:
        Exit code: 0 all runs succeeded, 1 some failed, 2 the settings are wrong, 130 interrupted.
    """
    settings = parse(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, soft_wrap=True)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job keeps what is finished, too
    try:
        return _compare(settings, console)
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command again to continue.")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _compare(settings: Namespace, console: Console) -> int:
    with console.status("Checking models and data"):
        from .plan import SettingsError, plan  # noqa: PLC0415  # takes seconds to import
        from .versions import environment  # noqa: PLC0415

        try:
            runs = plan(settings)
            about = environment() | {"settings": json.loads(json.dumps(settings.as_dict(), default=str))}
            _record_start(settings.out, about)
        except (SettingsError, OSError) as error:
            console.print(f"error: {error}", style="red", markup=False)
            return WRONG
    try:
        run_all(runs, settings, about, console)
    finally:
        all_fine = _show(runs, settings.out, about, console)
    return SUCCEEDED if all_fine else FAILED


def _record_start(out: Path, about: dict[str, Any]) -> None:
    """Add this start to the list, because earlier starts may have used other versions."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "versions.json"
    starts = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*starts, about], indent=2))


def run_all(runs: "list[Run]", settings: Namespace, about: dict[str, Any], console: Console) -> None:
    """Do all runs that are not done, and write the tables after each."""
    from . import launcher, table  # noqa: PLC0415

    waiting = [run for run in runs if not launcher.is_done(run, settings.out)]
    finished = len(runs) - len(waiting)
    console.print(f"{len(runs)} runs, {settings.threads} threads, folder {settings.out}", markup=False)
    if finished:
        console.print(f"{finished} done in an earlier start, not done again.")
    columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    shown = Progress(*columns, TextColumn("{task.description}"), console=console, speed_estimate_period=float("inf"))
    with shown as progress:
        task = progress.add_task("", total=len(runs), completed=finished)
        progress.advance(task, 0)  # the speed is measured from here
        for number, run in enumerate(waiting, finished + 1):

            def watch(stage: str, title: str = run.title) -> None:
                progress.update(task, description=f"{title}: {stage}")

            result = launcher.launch(run, settings.out, keep_weights=settings.keep_weights, watch=watch)
            progress.advance(task)
            console.print(f"[{number}/{len(runs)}] {run.title}: {outcome(result)}", markup=False)
            table.write(runs, settings.out, about)


def outcome(result: dict[str, Any]) -> str:
    """One line about a result."""
    if result["status"] != "ok":
        return f"FAILED: {result['error']}"
    names = {"image AUROC": "image_AUROC", "AUPRO": "pixel_AUPRO"}
    parts = [f"{title} {100 * result[name]:.1f}" for title, name in names.items() if name in result]
    parts.append(f"trained in {timedelta(seconds=round(result['train_seconds']))}")
    return ", ".join(parts) + (f" ({result['error']})" if "error" in result else "")


def _show(runs: "list[Run]", out: Path, about: dict[str, Any], console: Console) -> bool:
    """Write tables and pictures, show the summary; ``True`` if nothing failed."""
    from . import plots, table  # noqa: PLC0415

    rows = table.write(runs, out, about)
    means, spreads = table.summarise(rows)
    if len(means):
        plots.plot_accuracy(means, spreads, out / "accuracy.png")
        plots.plot_pareto(means, out / "pareto.png")
        plots.plot_maps(runs, out, out / "maps.png")
        console.print(Markdown(table.summary(runs, rows)))
    console.print(f"\nTables, pictures and weights: {out}", markup=False)
    return bool((rows["error"] == "").all())

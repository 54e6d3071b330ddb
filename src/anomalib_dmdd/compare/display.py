"""What a person sees while a comparison runs: what is running, what is done, time left."""

from collections import defaultdict
from datetime import timedelta
from statistics import mean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .plan import Run


def seconds_left(waiting: list[Run], finished: list[tuple[Run, float]], running_for: float = 0.0) -> float | None:
    """Guess how long the waiting runs take, the first of which is running.

    Args:
        waiting: Runs that are not finished.
        finished: Finished runs and their seconds; a model's own runs count, or all where it has none.
        running_for: Seconds that the first waiting run has taken so far.

    Returns:
        Seconds, or ``None`` while nothing is known.
    """
    if not finished:
        return None
    by_model = defaultdict(list)
    for run, seconds in finished:
        by_model[run.label].append(seconds)
    overall = mean(seconds for _, seconds in finished)
    expected = [mean(by_model[run.label]) if by_model[run.label] else overall for run in waiting]
    return sum(expected) - (min(running_for, expected[0]) if expected else 0)


class Display:
    """Progress of a comparison, shown while `progress` is entered.

    One line stays for each finished run, also where the output is no terminal.

    Args:
        console: Where to.
        waiting: Runs to do, in order.
        finished: Runs that are done already and the seconds they took, for the time left.
    """

    def __init__(self, console: Console, waiting: list[Run], finished: list[tuple[Run, float]]) -> None:
        self.waiting = list(waiting)
        self.finished = list(finished)
        self.total = len(waiting) + len(finished)
        self.progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self.task = self.progress.add_task("", total=self.total, completed=len(finished))

    def watch(self, stage: str, seconds: float) -> None:
        """Show what the first waiting run is doing, for so many seconds now."""
        left = seconds_left(self.waiting, self.finished, seconds)
        guess = f", about {timedelta(seconds=round(left))} left" if left is not None else ""
        self.progress.update(self.task, description=f"{self.waiting[0].title}: {stage}{guess}")

    def finish(self, result: dict[str, Any]) -> None:
        """Say how the first waiting run ended."""
        run = self.waiting.pop(0)
        if result["status"] == "ok":
            self.finished.append((run, result["run_seconds"]))
        self.progress.update(self.task, advance=1, description="")
        number = int(self.progress.tasks[0].completed)
        self.progress.console.print(f"[{number}/{self.total}] {run.title}: {outcome(result)}", markup=False)


def outcome(result: dict[str, Any]) -> str:
    """One line about a result."""
    if result["status"] != "ok":
        return f"FAILED: {result['error']}"
    parts = [f"image AUROC {100 * result['image_AUROC']:.1f}"]
    if result.get("pixel_AUPRO") is not None:
        parts.append(f"AUPRO {100 * result['pixel_AUPRO']:.1f}")
    parts.append(f"trained in {timedelta(seconds=round(result['train_seconds']))}")
    return ", ".join(parts) + (f" ({result['error']})" if result.get("error") else "")

"""The command: settings, plan, runs, report. Heavy imports wait, so ``--help`` is quick."""

import json
import re
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from .plan import Run

DESCRIPTION = """Train and test several Anomalib models on the same images and show which one to use. Example:
anomalib-dmdd compare --models Dmdd Patchcore --data MVTec --data.category bottle screw.
Run the same command again to continue where it was stopped.
Exit code: 0 all runs succeeded, 1 some failed, 2 the settings are wrong and nothing was run, 130 interrupted."""
LISTS = ("--models", "--data.category", "--backbones", "--seeds", "--openvino")
MODELS = "names or class paths; in YAML also mappings with class_path, init_args, trainer, train_batch_size, label"

LARGEST_SEED = 2**32 - 1  # that NumPy takes

# With dict[str, Any] the parser would replace mappings that have a class_path by objects of its own.
Arguments = dict[str, bool | int | float | list | dict | str | None]  # type: ignore[type-arg]


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Replace the short forms of options by those that the parser knows.

    >>> spell_out(["--seeds", "0", "1", "--models=Dmdd", "--data", "MVTec", "--data.root=parts"])
    ['--data.class_path', 'MVTec', '--data.init_args.root=parts', '--seeds=["0", "1"]', '--models=["Dmdd"]']
    """
    others: list[str] = []
    lists: dict[str, list[str]] = {}
    option = ""
    for argument in arguments:
        long = re.sub(r"^--data(?=$|=)", "--data.class_path", argument)
        long = re.sub(r"^--data\.(?!class_path|category|init_args)", "--data.init_args.", long)
        value = long
        if long.startswith("--"):
            option, _, value = long.partition("=")
        if option not in LISTS:
            others.append(long)
            continue
        values = lists.setdefault(option, [])
        if long.startswith("--"):
            values.clear()
        if value:  # a mapping, a list in brackets, or a text
            values.append(value.strip("[]") if value[:1] in "[{" else json.dumps(value))
    return others + [f"{option}=[{', '.join(values)}]" for option, values in lists.items()]


def parse(arguments: Sequence[str]) -> Namespace:
    """Read the settings from a command line; exits with code 2 on a mistake."""
    parser = ArgumentParser(prog="anomalib-dmdd compare", description=DESCRIPTION)
    add = parser.add_argument
    add("--config", action="config", help="YAML file with any of these settings")
    add("--models", type=list[str | Arguments], required=True, help=MODELS)
    add("--data.class_path", type=str, default="MVTec", help="data module; short form: --data MVTec")
    add("--data.category", type=list[str] | None, help="one or more; by default the category of the data module")
    add("--data.init_args", type=Arguments, default={}, help="other arguments; short form: --data.root FOLDER")
    add("--backbones", type=list[str], default=[], help="run each model that has a backbone with each of these")
    add("--seeds", type=list[NonNegativeInt], default=[0], help="a best model is named from three seeds on")
    add("--trainer", type=Arguments, default={}, help="Lightning Trainer arguments, e.g. --trainer.max_steps 100")
    add("--image_size", type=PositiveInt, default=256, help="height and width in pixels that every model sees")
    add("--accelerator", type=str, default="auto", help="where training, testing and torch timing happen")
    add("--threads", type=PositiveInt | None, help="CPU threads of torch and OpenVINO; by default one for each core")
    add("--openvino", type=list[Literal["FP32", "INT8"]], default=["FP32"], help="exports to test; none without values")
    add("--timed_passes", type=PositiveInt, default=50, help="forward passes per latency, after 10 to warm up")
    add("--keep_weights", type=bool, default=True, help="keep the checkpoint and the exported models of each run")
    add("--out", type=Path, default=Path("results/compare"), help="folder for everything that is written")
    settings = parser.parse_args(spell_out(arguments))
    if not (settings.models and settings.seeds):
        parser.error("give at least one model and one seed")
    if max(settings.seeds) > LARGEST_SEED:
        parser.error(f"seeds: {max(settings.seeds)} is larger than {LARGEST_SEED}")
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare models as a command line says, and return the exit code."""
    settings = parse(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, soft_wrap=True)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job keeps what is finished, too
    try:
        return _compare(settings, console)
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command again to continue.")
        return 130
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
            return 2
    try:
        run_all(runs, settings, about, console)
    finally:
        all_fine = _show(runs, settings.out, about, console)
    return 0 if all_fine else 1


def _record_start(out: Path, about: dict[str, Any]) -> None:
    """Add this start to the list, because earlier starts may have used other versions."""
    path, unfinished, lock = out / "versions.json", out / "versions.json.unfinished", out / "locks" / "versions.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # many jobs may share a folder
        starts = json.loads(path.read_text()) if path.exists() else []
        unfinished.write_text(json.dumps([*starts, about], indent=2))
        unfinished.replace(path)


def run_all(runs: "list[Run]", settings: Namespace, about: dict[str, Any], console: Console) -> None:
    """Do all runs that are not done, and write the tables after each."""
    from . import launcher, table  # noqa: PLC0415

    waiting = [run for run in runs if not launcher.is_done(run, settings.out)]
    finished = len(runs) - len(waiting)
    console.print(f"{len(runs)} runs, {runs[0].cores} threads, folder {settings.out}", markup=False)
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
        if means[[*table.METRICS]].notna().any(axis=None):
            plots.plot_accuracy(means, spreads, out / "accuracy.png")
            plots.plot_pareto(means, out / "pareto.png")
        plots.plot_maps(runs, out, out / "maps.png")
        console.print(Markdown(table.summary(runs, rows)))
    console.print(f"\nTables, pictures and weights: {out}", markup=False)
    return bool((rows["error"] == "").all())

"""The command line and the configuration file of a comparison; imports nothing heavy, so that ``--help`` is quick."""

import os
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace
from jsonargparse.typing import PositiveInt

DESCRIPTION = """Train and test several Anomalib models on the same images and show which one to use.

example: python -m anomalib_dmdd.compare --models Dmdd Patchcore --data MVTec --data.category bottle screw

Any Anomalib model goes by its name or class path. The same command with the same --out goes on where it was stopped.
Exit code: 0 all runs are fine, 1 some failed, 2 the settings are wrong (nothing was run), 130 interrupted."""

Precision = Literal["FP32", "INT8"]


@dataclass
class Settings:
    """What is compared and how; every field is an option of the command line, where it is explained."""

    models: list[str | dict[str, Any]]
    data: dict[str, Any]
    backbones: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    trainer: dict[str, Any] = field(default_factory=dict)
    image_size: int = 256
    accelerator: str = "auto"
    threads: int = os.cpu_count() or 1
    openvino: list[Precision] = field(default_factory=lambda: ["FP32"])
    timed_passes: int = 50
    keep_weights: bool = True
    out: Path = Path("results/compare")


class _Help(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


def build_parser() -> ArgumentParser:
    """Build the parser of the command."""
    parser = ArgumentParser(
        prog="python -m anomalib_dmdd.compare",
        usage="%(prog)s [--config FILE] --models NAME ... [--data NAME] [--data.category NAME ...] [...]",
        description=DESCRIPTION,
        formatter_class=_Help,
    )
    add = parser.add_argument
    add("--config", action="config", help="YAML file with any of these settings")
    add(
        "--models",
        nargs="+",
        type=dict[str, Any] | str,
        required=True,
        help="names or class paths; in YAML also mappings with class_path, init_args, trainer, train_batch_size, label",
    )
    add("--data.class_path", type=str, default="MVTec", help="data module, also as: --data MVTec")
    add("--data.category", nargs="+", type=str, help="one or more categories (default: the data module's own)")
    add("--data.init_args", type=dict[str, Any], default={}, help="its other arguments, also as: --data.root FOLDER")
    add("--backbones", nargs="*", type=str, default=[], help="run each model that has a backbone with each of these")
    add("--seeds", nargs="+", type=int, default=[0], help="run everything once per seed")
    add(
        "--trainer",
        type=dict[str, Any],
        default={},
        help="Lightning Trainer arguments for all models, e.g. --trainer.max_steps 100; replaces their own length",
    )
    add("--image_size", type=PositiveInt, default=256, help="height and width that every model sees")
    add("--accelerator", type=str, default="auto", help="where training, testing and torch timing happen")
    add("--threads", type=PositiveInt, default=os.cpu_count() or 1, help="CPU threads of torch and OpenVINO")
    add("--openvino", nargs="*", type=Precision, default=["FP32"], help="exports to time; nothing after it: none")
    add("--timed_passes", type=PositiveInt, default=50, help="forward passes per latency, after 10 to warm up")
    add("--keep_weights", type=bool, default=True, help="keep each run's checkpoint and exported models")
    add("--out", type=Path, default=Path("results/compare"), help="folder for everything that is written")
    return parser


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Replace the short forms that Anomalib users know by full option names.

    >>> spell_out(["--data", "MVTec", "--data.root=parts", "--data.category", "bottle"])
    ['--data.class_path', 'MVTec', '--data.init_args.root=parts', '--data.category', 'bottle']
    """
    known = ("data.class_path", "data.category", "data.init_args")
    full = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == "--data":
            name = "--data.class_path"
        elif name.startswith("--data.") and not name.removeprefix("--").startswith(known):
            name = name.replace("--data.", "--data.init_args.", 1)
        full.append(f"{name}{equals}{value}")
    return full


def parse(arguments: Sequence[str]) -> Settings:
    """Read the settings from a command line; leaves the program with a message if they cannot be read."""
    values = _plain(build_parser().parse_args(spell_out(arguments)))
    values.pop("config")
    return Settings(**values)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Mappings in the place of namespaces; ``as_dict`` overlooks those inside of mappings."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value

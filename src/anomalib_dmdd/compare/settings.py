"""Settings of a comparison and their parser.

Nothing heavy is imported, so that ``--help`` is quick.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

DESCRIPTION = """Train and test several Anomalib models on the same images and show which one to use. Example:
anomalib-dmdd compare --models Dmdd Patchcore --data MVTec --data.category bottle screw.
Run the same command again to continue where it was stopped.
Exit code: 0 all runs succeeded, 1 some failed, 2 the settings are wrong and nothing was run, 130 interrupted."""
LISTS = ("--models", "--data.category", "--backbones", "--seeds", "--openvino")


@dataclass
class Data:
    """The images.

    Args:
        class_path: data module; short form: --data MVTec
        category: one or more categories; by default that of the data module
        init_args: other arguments of the data module; short form: --data.root FOLDER
    """

    class_path: str = "MVTec"
    category: list[str] | None = None
    init_args: dict[str, Any] = field(default_factory=dict)


@dataclass
class Settings:
    """What is compared and how. Each field is an option of the command line.

    Args:
        models: names or class paths; in YAML also mappings with class_path, init_args, trainer, train_batch_size, label
        data: the images
        backbones: run each model that has a backbone with each of these
        seeds: run everything once per seed; a best model is named from three seeds on
        trainer: Lightning Trainer arguments for all models, e.g. --trainer.max_steps 100
        image_size: height and width in pixels that every model sees
        accelerator: where training, testing and torch timing happen
        threads: CPU threads of torch and OpenVINO
        openvino: precisions to export, test and time; none if nothing follows
        timed_passes: forward passes per latency, after 10 to warm up
        keep_weights: keep the checkpoint and the exported models of each run
        out: folder for everything that is written
    """

    models: list[str | dict[str, Any]]
    data: Data = field(default_factory=Data)
    backbones: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    trainer: dict[str, Any] = field(default_factory=dict)
    image_size: PositiveInt = 256
    accelerator: str = "auto"
    threads: PositiveInt = os.cpu_count() or 1
    openvino: list[Literal["FP32", "INT8"]] = field(default_factory=lambda: ["FP32"])
    timed_passes: PositiveInt = 50
    keep_weights: bool = True
    out: Path = Path("results/compare")


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Replace the short forms of options by those that the parser knows.

    >>> spell_out(["--data", "MVTec", "--data.root=parts", "--data.category", "bottle", "screw"])
    ['--data.class_path=MVTec', '--data.init_args.root=parts', '--data.category=["bottle", "screw"]']
    """
    options: list[list[str]] = []
    for argument in arguments:
        if argument.startswith("-") or not options:
            options.append(argument.split("=", 1))
        else:
            options[-1].append(argument)
    return [argument for name, *values in options for argument in _spell_out_one(name, values)]


def _spell_out_one(name: str, values: list[str]) -> list[str]:
    name = "--data.class_path" if name == "--data" else name
    if not name.startswith(("--data.class_path", "--data.category", "--data.init_args")):
        name = name.replace("--data.", "--data.init_args.", 1)
    if name in LISTS and not (values and values[0].startswith("[")):
        items = (value if value.startswith("{") else json.dumps(value) for value in values)
        values = [f"[{', '.join(items)}]"]
    return [f"{name}={values[0]}"] if len(values) == 1 else [name, *values]


def parse(arguments: Sequence[str]) -> Settings:
    """Read the settings from a command line; exits with code 2 on a mistake."""
    parser = ArgumentParser(prog="anomalib-dmdd compare", description=DESCRIPTION)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    parser.add_class_arguments(Settings, as_group=False)
    values = _plain(parser.parse_args(spell_out(arguments)))
    for name in ("models", "seeds"):
        if not values[name]:
            parser.error(f"--{name} needs at least one value")
    del values["config"]
    return Settings(**values | {"data": Data(**values["data"])})


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Replace namespaces by mappings; ``as_dict`` leaves those inside of mappings."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value

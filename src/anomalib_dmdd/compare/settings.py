"""Settings of a comparison; nothing heavy is imported, so that ``--help`` is quick."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

DESCRIPTION = """Train and test several Anomalib models on the same images and show which one to use. Example:
anomalib-dmdd compare --models Dmdd Patchcore --data MVTec --data.category bottle screw.
Run the same command again to continue where it was stopped.
Exit code: 0 all runs succeeded, 1 some failed, 2 the settings are wrong and nothing was run, 130 interrupted."""
MODELS = "names or class paths; in YAML also mappings with class_path, init_args, trainer, train_batch_size, label"

# With dict[str, Any] the parser would replace mappings that have a class_path by objects of its own.
Arguments = dict[str, bool | int | float | list | dict | str | None]  # type: ignore[type-arg]


def parse(arguments: Sequence[str]) -> Namespace:
    """Read the settings from a command line; exits with code 2 on a mistake.

    >>> parse(["--models", "Dmdd", "--data", "DemoParts", "--data.root=parts"]).data
    Namespace(class_path='DemoParts', category=None, init_args={'root': 'parts'})
    """
    parser = ArgumentParser(prog="anomalib-dmdd compare", description=DESCRIPTION)
    add = parser.add_argument
    add("--config", action="config", help="YAML file with any of these settings")
    add("--models", type=str | Arguments, nargs="+", required=True, help=MODELS)
    add("--data.class_path", type=str, default="MVTec", help="data module; short form: --data MVTec")
    add("--data.category", type=str, nargs="*", help="one or more; by default the category of the data module")
    add("--data.init_args", type=Arguments, default={}, help="other arguments; short form: --data.root FOLDER")
    add("--backbones", type=str, nargs="*", default=[], help="run each model that has a backbone with each of these")
    add("--seeds", type=int, nargs="+", default=[0], help="a best model is named from three seeds on")
    add("--trainer", type=Arguments, default={}, help="Lightning Trainer arguments, e.g. --trainer.max_steps 100")
    add("--image_size", type=PositiveInt, default=256, help="height and width in pixels that every model sees")
    add("--accelerator", type=str, default="auto", help="where training, testing and torch timing happen")
    add("--threads", type=PositiveInt, default=os.cpu_count() or 1, help="CPU threads of torch and OpenVINO")
    add(
        "--openvino",
        type=Literal["FP32", "INT8"],
        nargs="*",
        default=["FP32"],
        help="exports to time and test, or none",
    )
    add("--timed_passes", type=PositiveInt, default=50, help="forward passes per latency, after 10 to warm up")
    add("--keep_weights", type=bool, default=True, help="keep the checkpoint and the exported models of each run")
    add("--out", type=Path, default=Path("results/compare"), help="folder for everything that is written")
    short_forms = {
        r"^--data(?=$|=)": "--data.class_path",
        r"^--data\.(?!class_path|category|init_args)": "--data.init_args.",
    }
    for short, long in short_forms.items():
        arguments = [re.sub(short, long, argument) for argument in arguments]
    return parser.parse_args(arguments)

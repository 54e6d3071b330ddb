"""Where the files of a run are, and the commands that go on from it."""

from pathlib import Path

import anomalib.models
from anomalib.data.datasets import AnomalibDataset
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_dmdd.shell import command_line

from .prediction_table import PredictionTable


class RunSummary(Callback):
    """Prints where the files of a run are, and the next commands.

    A training ends with its checkpoint and the command that predicts. Its test adds the results and the export. The
    lines are not logged, because the log of Anomalib breaks long lines, which could then not be copied.
    """

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the lines of the run, after the metrics and in the first process only."""
        checkpoint = getattr(trainer.checkpoint_callback, "best_model_path", None)
        lines = results(trainer) if stage in {"test", "predict"} else []
        if checkpoint and (stage == "fit" or (stage == "test" and trainer.global_step)):  # a test restores no steps
            lines += [f"Checkpoint: {short(checkpoint)}", *next_commands(trainer, pl_module, checkpoint, stage)]
        if lines and trainer.is_global_zero:
            print(*lines, sep="\n")


def next_commands(trainer: Trainer, pl_module: LightningModule, checkpoint: str, stage: str) -> list[str]:
    """Commands that predict and export with a checkpoint, each below its title."""
    name = model_name(type(pl_module))
    if name.startswith("__main__."):  # a class of the script, which no command can name
        return []
    options = "--model", name, "--ckpt_path", short(checkpoint)
    lines = [f"The commands find {name} if its module is on PYTHONPATH."] if "." in name else []
    lines.append("Predict the images of a folder:")
    tiled = getattr(pl_module.model, "tiler", None) is not None  # only the user knows the file that says so
    tiles = ["--config", "path/to/tiles.yaml"] if tiled else []
    lines.append(command("predict", *options, "--data", images_to_predict(trainer), *tiles))
    if stage == "test" and not tiled:
        lines.append("Export to OpenVINO:")
        folder = short(trainer.default_root_dir)
        size = getattr(pl_module, "input_size", None)  # without it large images are shrunk in another way
        sized = ["--input_size", f"[{size[0]},{size[1]}]"] if size else []
        lines.append(command("export", *options, "--export_type", "openvino", "--export_root", folder, *sized))
    return lines


def model_name(cls: type) -> str:
    """Name of a model on the command line.

    It is the class path unless Anomalib finds the model by the name of its class.

    Example:
        >>> from anomalib_dmdd import Dmdd
        >>> model_name(Dmdd), model_name(type("Mine", (Dmdd,), {"__module__": "my_models"}))
        ('Dmdd', 'my_models.Mine')
    """
    known = getattr(anomalib.models, cls.__name__, None) is cls
    return cls.__name__ if known else f"{cls.__module__}.{cls.__qualname__}"


def results(trainer: Trainer) -> list[str]:
    """Places of table and pictures, if the run has written some."""
    lines = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, PredictionTable) and callback.path:
            lines.append(f"Scores of {callback.images} images: {short(callback.path)}")
        drawn_to = getattr(callback, "drawn_to", None) or getattr(callback, "output_dir", None)
        if isinstance(callback, Visualizer) and drawn_to:
            lines.append(f"Pictures: {short(drawn_to)}")
    test_data = getattr(getattr(trainer, "datamodule", None), "test_data", None)
    if trainer.state.fn == TrainerFn.TESTING and isinstance(test_data, AnomalibDataset) and not test_data.has_anomalous:
        lines.append("No test image is defective, so AUROC and F1 score mean nothing.")
    return lines


def images_to_predict(trainer: Trainer) -> str:
    """A folder of test images without training images, as an example of ``--data``."""
    datamodule = getattr(trainer, "datamodule", None)
    trained, tested = (
        [Path(path).parent for path in data.samples["image_path"]] if isinstance(data, AnomalibDataset) else []
        for data in (getattr(datamodule, "train_data", None), getattr(datamodule, "test_data", None))
    )
    known = set(trained)
    return next((short(folder) for folder in reversed(tested) if folder not in known), "path/to/images")


def command(*arguments: str) -> str:
    """A command of Anomalib, indented."""
    return f"    {command_line(['anomalib', *arguments])}"


def short(path: str | Path) -> str:
    """A path relative to the working directory if it lies below it."""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

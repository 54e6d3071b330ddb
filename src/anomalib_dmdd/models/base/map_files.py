"""Anomaly maps as files, beside the pictures of a test or prediction."""

from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import Batch
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anomalib_dmdd.picture_names import SOURCE, as_png, source_of

from .post_processor import DistillationPostProcessor


class MapFiles(Callback):
    """Writes each normalised map as a grey picture to ``maps`` in the run's folder.

    White stands for a value of 1. Each file names its image, because images of several folders can have one name. The
    pictures of Anomalib hold maps only under titles and blended with images.
    Without a visualizer no maps are written either.
    """

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Write the maps of a batch that the post-processor has finished."""
        del args, kwargs
        paths = getattr(outputs, "image_path", None)
        drawn = any(isinstance(callback, Visualizer) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        if paths is None or not drawn or not isinstance(pl_module.post_processor, DistillationPostProcessor):
            return
        data = getattr(trainer, "datamodule", None)
        names = getattr(data, "name", None), getattr(data, "category", None)
        maps = (255 * outputs.anomaly_map.clamp(0, 1)).round().byte().cpu().numpy()  # (N, 1, H, W) or (N, H, W)
        for path, values in zip(map(Path, paths), maps, strict=True):
            target = as_png(generate_output_filename(path, Path(trainer.default_root_dir) / "maps", *names))
            source = PngInfo()
            source.add_itxt(SOURCE, str(path))
            Image.fromarray(np.squeeze(values)).save(free_name(target, str(path)), pnginfo=source)

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Write the maps of a batch that the post-processor has finished."""
        self.on_test_batch_end(*args, **kwargs)


def free_name(target: Path, source: str) -> Path:
    """First of ``1.png``, ``1_2.png`` and so on that holds no other image."""
    names = chain([target], (target.with_stem(f"{target.stem}_{number}") for number in count(2)))
    return next(path for path in names if not path.exists() or source_of(path) == source)

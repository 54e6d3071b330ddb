"""Anomaly maps as files, beside the pictures of a test or prediction."""

from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import Batch
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from anomalib_dmdd.models.base.post_processor import DistillationPostProcessor
from anomalib_dmdd.picture_names import as_png, save_picture


class MapFiles(Callback):
    """Writes each normalised map as a grey picture to ``maps`` in the run's folder.

    White stands for a value of 1. The pictures of Anomalib hold maps only under titles and blended with images. Without
    a visualizer no maps are written either.
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
            save_picture(Image.fromarray(np.squeeze(values)), target, path)

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Write the maps of a batch that the post-processor has finished."""
        self.on_test_batch_end(*args, **kwargs)

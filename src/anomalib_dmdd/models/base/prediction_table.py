"""Table of the scores of a test or prediction, beside its pictures."""

import logging
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import Batch
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from .post_processor import DistillationPostProcessor
from .run_folder import new_file
from .validation_scores import gather_objects

logger = logging.getLogger(__name__)


class PredictionTable(Callback):
    """Writes ``predictions.csv`` in the folder of the run, and says where table and pictures are.

    The columns are the file, the raw and the normalised score, the label, the known label, the raw and the normalised
    threshold, the normalised threshold of pixels, and the file of the known mask. An earlier table is kept: the next
    one is called ``predictions_2.csv``.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, Any]] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the scores of a batch that the post-processor has finished, on its device."""
        del trainer, args, kwargs
        paths = getattr(outputs, "image_path", None)
        if paths is None or not isinstance(pl_module.post_processor, DistillationPostProcessor):
            return
        columns = {
            "file": paths,
            "raw_score": pl_module.post_processor.raw_scores,
            "score": outputs.pred_score,
            "anomalous": outputs.pred_label.bool(),
            "known_anomalous": None if outputs.gt_label is None else outputs.gt_label.bool(),
            "raw_threshold": pl_module.post_processor.image_threshold.expand(len(paths)),
            "threshold": pl_module.post_processor.normalized_image_threshold.expand(len(paths)),
            "pixel_threshold": pl_module.post_processor.normalized_pixel_threshold.expand(len(paths)),
            "mask": getattr(outputs, "mask_path", None),
        }
        self._batches.append(columns)

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Keep the scores of a batch that the post-processor has finished."""
        self.on_test_batch_end(*args, **kwargs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the images of all processes, each once."""
        del pl_module
        own = [
            {name: value.flatten().tolist() if isinstance(value, Tensor) else value for name, value in columns.items()}
            for columns in self._batches
        ]
        self._batches = []
        tables = [pd.DataFrame(columns) for columns in chain.from_iterable(gather_objects(own))]
        if not tables or not trainer.is_global_zero:
            return
        table = pd.concat(tables).drop_duplicates("file")
        path = new_file(Path(trainer.default_root_dir), "predictions")
        table.to_csv(path, index=False)
        logger.info("Scores of %d images: %s", len(table), path)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Visualizer) and getattr(callback, "output_dir", None):
                logger.info("Pictures: %s", callback.output_dir)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the images of all processes, each once."""
        self.on_test_epoch_end(trainer, pl_module)

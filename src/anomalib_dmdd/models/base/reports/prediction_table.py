"""Table of the scores of a test or prediction, beside its pictures."""

from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import Batch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from anomalib_dmdd.models.base.post_processor import DistillationPostProcessor
from anomalib_dmdd.models.base.run_folder import new_file
from anomalib_dmdd.models.base.validation_scores import gather_objects


class PredictionTable(Callback):
    """Writes ``predictions.csv`` in the folder of the run.

    The columns are the file, the raw and the normalised score, the label, the known label, the raw and the normalised
    threshold, the normalised threshold of pixels, and the file of the known mask. An earlier table is kept: the next
    one is called ``predictions_2.csv``. After an interruption or an error it holds the images until then.

    Attributes:
        path: The table that was written; ``None`` before, and in all processes but the first.
        images: Number of its images.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.images = 0
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
            "anomalous": None if outputs.pred_label is None else outputs.pred_label.bool(),
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
        table = pd.concat(tables)
        if trainer.world_size > 1:  # Lightning gives each process the same number of images, some of them twice
            table = table.drop_duplicates("file")
        path = new_file(Path(trainer.default_root_dir), "predictions")
        table.to_csv(path, index=False, errors="surrogateescape")  # names that are not UTF-8
        self.path, self.images = path, len(table)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the images of all processes, each once."""
        self.on_test_epoch_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the images so far, if no other process has to be waited for."""
        del exception
        if self._batches and trainer.world_size == 1:
            self.on_test_epoch_end(trainer, pl_module)
            print(f"Scores of the {self.images} images until then: {self.path}")
        self._batches = []

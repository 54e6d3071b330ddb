"""Anomaly maps of a few test images, kept for the picture that puts all models side by side."""

from pathlib import Path

import numpy as np
import torch
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import resize

EXAMPLES = 4


def save_maps(engine: Engine, model: AnomalibModule, datamodule: AnomalibDataModule, size: int, path: Path) -> None:
    """Keep the maps of a few test images: the first of each kind of defect, and the first good one as the last."""
    first = datamodule.test_data.samples.reset_index(drop=True).drop_duplicates("label")
    good = first["label_index"] == 0
    examples = datamodule.test_data.subsample([*first.index[~good][: EXAMPLES - 1], *first.index[good]])
    loader = DataLoader(examples, batch_size=EXAMPLES, collate_fn=examples.collate_fn)
    (batch,) = engine.trainer.predict(model, dataloaders=loader)
    order = batch.gt_label.int().argsort(descending=True, stable=True).cpu()
    paths = [batch.image_path[index] for index in order]
    images = torch.stack([resize(read_image(image, as_tensor=True), [size, size], antialias=True) for image in paths])
    arrays = {"map": batch.anomaly_map, "mask": batch.gt_mask}
    np.savez_compressed(
        path,
        image=(255 * images).byte().permute(0, 2, 3, 1).numpy(),
        path=[str(image) for image in paths],
        score=batch.pred_score.flatten()[order].cpu().numpy(),
        **{name: values[order].squeeze(1).cpu().numpy() for name, values in arrays.items() if values is not None},
    )

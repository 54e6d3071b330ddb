"""Choose the threshold of a trained model: the share of defects found and of good parts passed at each.

    python examples/sweep_threshold.py path/to/model.ckpt parts/new parts/defective
    python examples/sweep_threshold.py path/to/model.ckpt parts/new parts/defective --keep 0.6

The second command also stores a model with sensitivity 0.6, which means threshold 0.4. Use images that the model was
not trained on and that are not part of your final test.
"""

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from jsonargparse import auto_cli
from torchmetrics.functional.classification import binary_recall, binary_specificity

from anomalib_dmdd.trained_model import load_trained


def scores_of(engine: Engine, model: AnomalibModule, folder: Path) -> torch.Tensor:
    """Normalised score of each image of a folder."""
    batches = engine.predict(model, dataset=PredictDataset(folder))
    return torch.cat([batch.pred_score.flatten() for batch in batches])


def sweep(
    checkpoint: Path,
    good: Path,
    bad: Path,
    keep: float | None = None,
    out: Path = Path("exports"),
) -> pd.DataFrame:
    """Evaluate the sensitivities from 0.05 to 0.95.

    Args:
        checkpoint: Checkpoint of a training.
        good: Folder of good images.
        bad: Folder of images with defects.
        keep: Sensitivity to store in an exported torch model; nothing is exported without it.
        out: Folder of the exported model.

    Returns:
        Threshold of the score, share of defects found and of good parts passed, by sensitivity.
    """
    if keep is not None and not 0 <= keep <= 1:
        sys.exit(f"error: A sensitivity is from 0 to 1, not {keep}.")
    try:
        model, _ = load_trained(checkpoint)
        model.visualizer = None
        with TemporaryDirectory() as scratch:  # for the tables of the predictions
            engine = Engine(default_root_dir=scratch, logger=False, devices=1)
            logging.getLogger("anomalib.engine.engine").setLevel(logging.ERROR)  # the model is loaded already
            scores = [scores_of(engine, model, folder) for folder in (good, bad)]
    except (ValueError, OSError) as error:  # no checkpoint, no folder, no readable image
        sys.exit(f"error: {error}")
    if not model.post_processor.enable_normalization:
        sys.exit("error: The scores of this model are raw, and a sensitivity says nothing about them.")
    score = torch.cat(scores)
    label = torch.cat([torch.full(part.shape, value) for value, part in enumerate(scores)])
    rows = []
    for step in range(1, 20):
        sensitivity = step / 20
        threshold = 1 - sensitivity  # of the normalised score, as in Anomalib's post-processor
        found, passed = binary_recall(score, label, threshold), binary_specificity(score, label, threshold)
        shares = {"defects found": float(found), "good passed": float(passed)}
        rows.append({"sensitivity": sensitivity, "threshold": threshold, **shares})
    table = pd.DataFrame(rows).set_index("sensitivity")
    print(table.to_string(formatters={"threshold": "{:.2f}".format}, float_format="{:.1%}".format))
    if keep is not None:
        model.post_processor.image_sensitivity = keep
        print(f"stored: {model.to_torch(out)}")
    return table


if __name__ == "__main__":
    auto_cli(sweep)

"""Choose the threshold of a trained model: how many defects are found and how many good parts pass at each.

    python examples/sweep_threshold.py --checkpoint results/.../model.ckpt --good parts/good --bad parts/bad
    python examples/sweep_threshold.py ... --keep 0.6    # and store a model with that sensitivity

Use images that were neither trained on nor are part of your final test.
"""

from pathlib import Path

import pandas as pd
import torch
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from jsonargparse import auto_cli
from torchmetrics.functional.classification import binary_recall, binary_specificity

from anomalib_dmdd import Dmdd


def scores_of(engine: Engine, model: Dmdd, folder: Path) -> torch.Tensor:
    """Normalised score of each image of a folder."""
    batches = engine.predict(model, dataset=PredictDataset(folder, image_size=model.input_size))
    return torch.cat([batch.pred_score.flatten() for batch in batches])


def sweep(
    checkpoint: Path,
    good: Path,
    bad: Path,
    keep: float | None = None,
    out: Path = Path("exports"),
) -> pd.DataFrame:
    """Try all sensitivities.

    Args:
        checkpoint: What training left behind.
        good: Folder of good images.
        bad: Folder of images with defects.
        keep: Sensitivity to store in an exported model.
        out: Where that goes.

    Returns:
        Share of defects found and of good parts passed, by sensitivity.
    """
    model = Dmdd.load_from_checkpoint(checkpoint, visualizer=False)
    engine = Engine(default_root_dir=out, logger=False)
    scores = [scores_of(engine, model, folder) for folder in (good, bad)]
    score = torch.cat(scores)
    label = torch.cat([torch.full(part.shape, value) for value, part in enumerate(scores)])
    rows = []
    for step in range(1, 20):
        sensitivity = step / 20
        threshold = 1 - sensitivity  # of the normalised score, as in Anomalib's post-processor
        found, passed = binary_recall(score, label, threshold), binary_specificity(score, label, threshold)
        rows.append({"sensitivity": sensitivity, "defects found": float(found), "good passed": float(passed)})
    table = pd.DataFrame(rows).set_index("sensitivity")
    print(table.to_string(float_format="{:.1%}".format))
    if keep is not None:
        model.post_processor.image_sensitivity = keep
        print(f"stored: {model.to_torch(out)}")
    return table


if __name__ == "__main__":
    auto_cli(sweep)

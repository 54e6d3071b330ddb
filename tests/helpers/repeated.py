"""One of several equal runs: trains and tests each model in a folder of its own, and writes what they end with."""

import sys
from pathlib import Path

import torch
from anomalib.engine import Engine
from lightning import seed_everything
from small_models import MODELS, build

from anomalib_dmdd import DemoParts


def main(root: str, out: str) -> None:
    """Train three steps of each model. Two other processes read the images of one more training."""
    results = {}
    for name, workers in [(MODELS[0], 2), *((name, 0) for name in MODELS)]:
        seed_everything(7, workers=True)
        model, folder = build(name), Path(out) / f"{name}-{workers}"
        parts = DemoParts(root=root, train_batch_size=4, num_workers=workers)
        quiet = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "logger": False}
        engine = Engine(default_root_dir=folder, max_steps=3, limit_val_batches=1, limit_test_batches=1, **quiet)
        engine.fit(model, datamodule=parts)
        results[folder.name] = {**model.state_dict(), **engine.test(model, datamodule=parts)[0]}
    torch.save(results, Path(out) / "results.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])

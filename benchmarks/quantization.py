"""Accuracy of 8-bit exports beside single precision, on the test images of a category in the layout of MVTec AD.

python benchmarks/quantization.py Bikd path/to/model.ckpt --root path/to/set --category cookie
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import openvino as ov
import pandas as pd
import torch
from anomalib.data import MVTecAD
from anomalib.metrics.aupro import _AUPRO as AUPRO
from rich.progress import track
from torch.nn.functional import interpolate
from torchmetrics.functional.classification import binary_auroc

import anomalib_dmdd
from anomalib_dmdd.models import __all__ as models


def images(args: argparse.Namespace) -> MVTecAD:
    """The data, one image at a time."""
    data = MVTecAD(root=args.root, category=args.category, eval_batch_size=1, num_workers=0)
    data.setup("test")
    return data


def answers(path: Path, args: argparse.Namespace) -> tuple[dict[str, float], np.ndarray]:
    """Metrics of an exported model, and its labels."""
    run = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    scores, labels, known, maps, masks = [], [], [], [], []
    for batch in track(images(args).test_dataloader(), description=path.parents[2].name):
        output = run(batch.image.numpy())
        anomaly_map = torch.from_numpy(output["anomaly_map"]).reshape(1, 1, *output["anomaly_map"].shape[-2:])
        scores.append(float(output["pred_score"].item()))
        labels.append(bool(output["pred_label"].item()))
        known.append(bool(batch.gt_label.item()))
        maps.append(anomaly_map)
        masks.append(
            interpolate(batch.gt_mask.reshape(1, 1, *batch.gt_mask.shape[-2:]).float(), anomaly_map.shape[-2:])
        )
    pixels, truth = torch.cat(maps), torch.cat(masks).int()
    metrics = {
        "image_AUROC": binary_auroc(torch.tensor(scores), torch.tensor(known).int()).item(),
        "pixel_AUROC": binary_auroc(pixels.flatten(), truth.flatten()).item(),
        "pixel_AUPRO": AUPRO()(pixels[:, 0], truth[:, 0]).item(),
        "file_MB": path.with_suffix(".bin").stat().st_size / 1e6,
    }
    return metrics, np.array(labels)


def main() -> None:
    """Export, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=models)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--out", type=Path, help="CSV file to add the rows to")
    args = parser.parse_args()
    model = getattr(anomalib_dmdd, args.model).load_from_checkpoint(args.checkpoint).eval()
    rows, first = [], None
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("FP32", "FP16", "INT8", "INT8_PTQ", "INT8_ACQ"):
            compression = None if kind == "FP32" else kind
            path = model.to_openvino(Path(folder) / kind, compression_type=compression, datamodule=images(args))
            metrics, labels = answers(path, args)
            first = labels if first is None else first
            row = {"model": args.model, "category": args.category, "kind": kind}
            rows.append(row | metrics | {"equal_labels": (labels == first).mean()})
    table = pd.DataFrame(rows).round(4)
    print(table.to_markdown(index=False))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.out, mode="a", header=not args.out.exists(), index=False)


if __name__ == "__main__":
    main()

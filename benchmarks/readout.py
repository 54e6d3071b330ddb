r"""Choose map, smoothing and image score: one training of a model, then every readout of its distance maps.

    python benchmarks/readout.py Dmdd path/to/images --sets screw tile cookie --seeds 0

The sets are those of development.py. The distance maps of the test images are kept, so the same command continues where
it was stopped, and a new readout needs no new training unless the code of the package has changed. Rows go to
FOLDER/readout.csv.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.metrics.aupro import _AUPRO
from development import METRICS, OURS, SETS
from lightning import seed_everything
from rich.progress import track
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics.functional.classification import binary_auroc

import anomalib_dmdd
from anomalib_dmdd.compare.versions import package_version
from anomalib_dmdd.models.base import DistillationPostProcessor
from anomalib_dmdd.models.components import DistillationModel, geometric_mean, upsample
from anomalib_dmdd.models.dskd.torch_model import layer_weights

SIGMAS = [1.0, 2.0, 3.0, 4.0, 6.0]
"""At 128 pixels; in units of the side they would grow with the image."""
SHARES = [0.0, 0.001, 0.003, 0.01, 0.03]
"""Share of the highest pixels whose mean is the image score; 0 is the maximum."""


@torch.no_grad()
def distances(model: DistillationModel, images: Tensor) -> dict[str, Tensor]:
    """Distance maps of each branch or student at the finest resolution, ``(N, layers, h, w)``."""
    found = {}
    for name, layers in model.layer_distances(images).items():
        finest = (layers[0].shape[-2], layers[0].shape[-1])
        maps = [interpolate(one, finest, mode="bilinear") for one in layers]
        found[name.removesuffix(" student")] = torch.cat(maps, dim=1)
    if hasattr(model, "head"):
        found["head"] = model.head(torch.cat([found["normality"], found["abnormality"]], dim=1)).sigmoid()
    return found


def fusions(maps: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Candidates for the anomaly map, ``(N, 1, h, w)``."""
    if "head" in maps:
        both = torch.cat([maps["normality"], maps["abnormality"]], dim=1)
        geometric = geometric_mean(maps["normality"])
        yield "head", maps["head"]
        yield "head x normality", maps["head"] * geometric
        yield "root of head x normality", maps["head"].sqrt() * geometric
        yield "(0.1 + head) x normality", (0.1 + maps["head"]) * geometric
        yield "(0.5 + head) x normality", (0.5 + maps["head"]) * geometric
        yield "geometric mean of all", geometric_mean(both)
        yield "sum of all", both.sum(1, keepdim=True)
    if "encoder" in maps:
        first, second = (maps[name].clamp_min(1e-5) for name in ("encoder", "decoder"))
        harmonic = 2 * first * second / (first + second)
        yield "harmonic", geometric_mean(harmonic, layer_weights(harmonic.shape[1]))
        yield "harmonic, equal weights", geometric_mean(harmonic)
        yield "geometric mean of all", geometric_mean(torch.cat([first, second], dim=1))
        yield "sum of harmonic", harmonic.sum(1, keepdim=True)
    for name in maps.keys() - {"head"}:
        yield f"sum of {name}", maps[name].sum(1, keepdim=True)
        yield f"geometric mean of {name}", geometric_mean(maps[name])
        for layer in range(maps[name].shape[1]):
            yield f"{name} of layer {layer + 1}", maps[name][:, layer : layer + 1]


def trained_maps(args: argparse.Namespace, category: str, seed: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Distance maps, labels and masks of the test images; from the file of an earlier run where there is one."""
    run = (args.model, category, args.size, args.steps, seed, package_version())
    file: Path = args.out / f"{'_'.join(map(str, run))}.pt"
    if not file.exists():
        seed_everything(seed, workers=True, verbose=False)
        cls = getattr(anomalib_dmdd, args.model)
        model = cls(**OURS[args.model], image_size=args.size, visualizer=False)
        root = args.images / SETS[category]
        data = MVTecAD(root=root, category=category, train_batch_size=16, num_workers=0)
        with TemporaryDirectory() as scratch:
            quiet = {"logger": False, "enable_model_summary": False, "default_root_dir": scratch}
            engine = Engine(max_steps=args.steps, precision="bf16-mixed", check_val_every_n_epoch=sys.maxsize, **quiet)
            engine.fit(model, datamodule=data)
        model.eval()
        batches = list(data.test_dataloader())
        found = [distances(model.model, model.pre_processor.transform(batch.image)) for batch in batches]
        masks = torch.cat([interpolate(batch.gt_mask[:, None].float(), args.size)[:, 0] for batch in batches])
        labels = torch.cat([batch.gt_label for batch in batches])
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(({name: torch.cat([one[name] for one in found]) for name in found[0]}, labels, masks.bool()), file)
    return torch.load(file)


def image_scores(anomaly_map: Tensor, share: float) -> Tensor:
    """Mean of the highest pixels of each map."""
    pixels = anomaly_map.flatten(1)
    return pixels.topk(max(1, round(share * pixels.shape[1])), dim=1).values.mean(1)


def readouts(args: argparse.Namespace, category: str, seed: int) -> Iterator[dict[str, object]]:
    """Accuracy of every readout of one training, in percent."""
    maps, labels, masks = trained_maps(args, category, seed)
    for name, fused in track(list(fusions(maps)), description=f"{category}, seed {seed}"):
        full = upsample(fused, like=masks)
        for sigma in SIGMAS:
            smooth = DistillationPostProcessor(sigma=sigma).smooth(full)
            row: dict[str, object] = {"model": args.model, "category": category, "seed": seed, "steps": args.steps}
            row |= {"image_size": args.size, "map": name, "sigma": sigma}
            row["pixel_AUROC"] = 100 * float(binary_auroc(smooth.flatten(), masks.flatten().int()))
            aupro = _AUPRO(fpr_limit=0.3)
            aupro.update(smooth[:, 0] / smooth.max(), masks.int())
            row["pixel_AUPRO"] = 100 * float(aupro.compute())
            for share in SHARES:
                # torchmetrics takes scores above 1 for logits, which would saturate
                scores = image_scores(smooth, share)
                yield row | {"share": share, "image_AUROC": 100 * float(binary_auroc(scores / scores.max(), labels))}


def main() -> None:
    """Train what is left to train, and write all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=OURS)
    parser.add_argument("images", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--out", type=Path, default=Path("results/readout"))
    args = parser.parse_args()
    rows = pd.DataFrame([row for name in args.sets for seed in args.seeds for row in readouts(args, name, seed)])
    rows.round(dict.fromkeys(METRICS, 2)).to_csv(args.out / "readout.csv", index=False)
    means = rows.groupby(["map", "sigma", "share"])[METRICS].mean()
    print(means.sort_values("image_AUROC", ascending=False).head(40).round(1).to_string())


if __name__ == "__main__":
    main()

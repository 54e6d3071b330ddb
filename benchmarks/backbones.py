"""Try a model with many backbones of timm: each is built, trained for a few steps, exported and timed, or refused.

    python benchmarks/backbones.py --out docs/results/backbones.csv

The weights are random, since neither time nor size depends on them. Each backbone has a process of its own. There its
OpenVINO export takes turns with that of ResNet18, so that what else the machine does hits both alike. Rows are added to
the CSV file; those that are there are not measured again.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib.engine import Engine
from latency import build, compiled, exported, interleaved
from lightning import seed_everything
from rich.progress import track

import anomalib_dmdd
from anomalib_dmdd import DemoParts

FAMILIES = {
    "ResNet": ["resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "seresnet33ts", "res2net50_26w_4s"],
    "MobileNet": ["mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv3_large_100", "mobilenetv4_conv_small"],
    "MobileOne": ["mobileone_s0"],
    "MnasNet": ["mnasnet_100"],
    "LCNet": ["lcnet_050"],
    "EfficientNet": ["efficientnet_b0", "efficientnet_lite0", "tf_efficientnetv2_b0", "tinynet_e"],
    "GhostNet": ["ghostnet_100"],
    "RexNet": ["rexnet_100"],
    "RegNet": ["regnetx_004", "regnety_008"],
    "DenseNet": ["densenet121"],
    "VGG": ["vgg11_bn"],
    "RepVGG": ["repvgg_a0"],
    "HGNet": ["hgnetv2_b0"],
    "HRNet": ["hrnet_w18_small"],
    "DLA": ["dla34"],
    "CSPNet": ["cspresnet50"],
    "DarkNet": ["darknet53"],
    "Xception": ["xception41"],
    "Inception": ["inception_v3"],
    "StarNet": ["starnet_s1"],
    "ConvNeXt": ["convnext_atto", "convnextv2_atto", "convnext_tiny"],
    "InceptionNeXt": ["inception_next_atto"],
    "EdgeNeXt": ["edgenext_xx_small"],
    "FastViT": ["fastvit_t8"],
    "EfficientViT": ["efficientvit_b0"],
    "ViT": ["vit_tiny_patch16_224"],
    "Swin": ["swin_tiny_patch4_window7_224"],
}
REFERENCE = "resnet18"
BATCH = 4


def measure(name: str, backbone: str, size: int, steps: int, rounds: int, parts: Path) -> dict[str, Any]:
    """One row: train, export, compare the export with torch, and time it beside the reference."""
    torch.set_num_threads(1)
    seed_everything(0)
    cls = getattr(anomalib_dmdd, name)
    try:
        model = build(cls, backbone, size)
    except (ValueError, RuntimeError) as error:
        return {"status": f"refused: {error}"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            default_root_dir=folder, max_steps=steps, limit_val_batches=1, logger=False, enable_progress_bar=False
        )
        engine.fit(model.train(), datamodule=DemoParts(root=parts, train_batch_size=BATCH, eval_batch_size=BATCH))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        network = exported(model.eval(), size, Path(folder))
        (file,) = Path(folder).rglob("model.bin")
        megabytes = file.stat().st_size / 1e6
        run = compiled(network, "FP32", 1)
        image = torch.rand(1, 3, size, size)
        with torch.no_grad():
            difference = abs(run(image)["anomaly_map"] - model(image).anomaly_map.numpy()).max()
        reference = compiled(exported(build(cls, REFERENCE, size), size, Path(folder) / "reference"), "FP32", 1)
        times = interleaved({("this", ""): run, ("reference", ""): reference}, size, rounds)
    this, other = (statistics.median(times[key, ""]) for key in ("this", "reference"))
    weights = sum(parameter.numel() for parameter in model.model.parameters())
    return {
        "weights_M": round(weights / 1e6, 1),
        "file_MB": round(megabytes, 1),
        "times": round(this / other, 2),
        "training_MB": round(memory * 1024 / 1e6),  # Linux counts KiB
        "difference": float(f"{difference:.1e}"),
        "status": "ok",
    }


def main() -> None:
    """Measure what is left to do, and add a row for each backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Dmdd", choices=["Dmdd", "Dskd", "Bikd"])
    parser.add_argument("--backbones", nargs="+", default=[], choices=[*chain(*FAMILIES.values())], metavar="NAME")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("results/backbones.csv"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = (
        set(pd.read_csv(args.out)[["model", "backbone", "size"]].itertuples(index=False, name=None))
        if args.out.exists()
        else ()
    )
    todo = [
        (family, backbone)
        for family, backbones in FAMILIES.items()
        for backbone in backbones
        if backbone in (args.backbones or backbones) and (args.model, backbone, args.size) not in done
    ]
    with tempfile.TemporaryDirectory() as folder:
        DemoParts(root=folder).prepare_data()
        for family, backbone in track(todo):
            with ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn")
            ) as pool:  # a process for each, and its peak
                task = pool.submit(measure, args.model, backbone, args.size, args.steps, args.rounds, Path(folder))
                error = task.exception()
            row = {"status": f"failed: {type(error).__name__}: {error}"} if error else task.result()
            columns = ["weights_M", "file_MB", "times", "training_MB", "difference", "status"]
            named = {"model": args.model, "family": family, "backbone": backbone, "size": args.size}
            table = pd.DataFrame([named | dict.fromkeys(columns) | row])
            table.to_csv(args.out, index=False, mode="a", header=not args.out.exists())


if __name__ == "__main__":
    main()

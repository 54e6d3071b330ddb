"""Time of one image through the whole inference graph, beside Anomalib's models and the teacher alone, in one run.

    python benchmarks/latency.py --out docs/results/latency.csv

Every model has the same teacher, pre- and post-processing and input size. Weights do not change the time, so they are
random where the model allows it; Stfpm and Supersimplenet fetch those of ImageNet.
The models take turns, so that what else the machine does hits all of them alike. The teacher alone is the floor: no
method that compares its features can be faster. PatchCore's memory bank has the size that it would have for 320
training images at 10 %.
"""

import argparse
import inspect
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from pydoc import locate
from typing import Any

import numpy as np
import openvino as ov
import pandas as pd
import torch
from anomalib.models import AnomalibModule, Patchcore, ReverseDistillation, Stfpm, Supersimplenet
from rich.progress import track
from variants import VARIANTS

from anomalib_dmdd import Bikd, Dmdd, Dskd
from anomalib_dmdd.models.base.quantization import quantize
from anomalib_dmdd.models.components import Teacher

OURS = [Dmdd, Dskd, Bikd]
BASELINES = [ReverseDistillation, Stfpm, Patchcore, Supersimplenet]
TRAINING_IMAGES, CORESET, WARM_UP = 320, 0.1, 3
PRECISIONS = {"FP32": "f32", "bf16": "bf16", "INT8": "f32"}

Run = Callable[[torch.Tensor], object]


def build(cls: type[AnomalibModule], size: int, **settings: Any) -> AnomalibModule:
    """A model with random weights and made-up thresholds, ready for inference."""
    if "pre_trained" in inspect.signature(cls).parameters:
        settings["pre_trained"] = False
    model = cls(pre_processor=cls.configure_pre_processor((size, size)), visualizer=False, **settings)
    values = {"threshold": 0.5, "min": 0, "max": 1}  # the last two are those of Anomalib's post-processor
    for name, buffer in model.post_processor.named_buffers():
        buffer.fill_(values[name.rpartition("_")[2]])
    if cls is Patchcore:
        probe = model.model.train()(torch.rand(1, 3, size, size))
        patches, width = probe.shape
        model.model.memory_bank = torch.rand(int(TRAINING_IMAGES * CORESET * patches), width)
    return model.eval()


def exported(model: torch.nn.Module, size: int, scratch: Path) -> ov.Model:
    """The OpenVINO model for one image."""
    if isinstance(model, AnomalibModule):
        one_image = {"dynamic_axes": {}, "dynamic_shapes": None}  # with a free batch Patchcore's is frozen to two
        path = model.to_openvino(scratch / type(model).__name__, input_size=(size, size), onnx_kwargs=one_image)
        return ov.Core().read_model(path)
    return ov.convert_model(model, example_input=torch.rand(1, 3, size, size), input=[1, 3, size, size])


def compiled(model: ov.Model, precision: str, threads: int) -> Run:
    """The model on the CPU."""
    settings = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "INFERENCE_NUM_THREADS": threads}
    run = ov.Core().compile_model(model, "CPU", settings)
    return lambda image: run(image.numpy())


def interleaved(runs: dict[tuple[str, str], Run], size: int, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each, taken in turns."""
    image = torch.rand(1, 3, size, size)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    with torch.inference_mode():
        for number in track(range(rounds + WARM_UP), description="Timing"):
            for key, run in runs.items():
                start = time.perf_counter()
                run(image)
                if number >= WARM_UP:
                    times[key].append(1000 * (time.perf_counter() - start))
    return times


def counters(model: ov.Model, threads: int, image: np.ndarray, rounds: int = 10) -> pd.Series:
    """Share of the time of each kind of operation in single precision, in percent, by OpenVINO's own counters."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    rows = []
    for number in range(rounds + WARM_UP):
        request.infer([image])
        if number >= WARM_UP:
            rows += [(one.node_name, one.node_type, one.real_time.total_seconds()) for one in request.profiling_info]
    nodes = pd.DataFrame(rows, columns=["node", "kind", "seconds"]).groupby(["node", "kind"])["seconds"].median()
    kinds = nodes.groupby("kind").sum().sort_values(ascending=False)
    return (100 * kinds / kinds.sum()).round(1)


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=[], choices=VARIANTS, metavar="NAME", help="of variants.py")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--counters", type=Path, help="CSV file for the time of each kind of operation in FP32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models: dict[str, torch.nn.Module] = {"teacher alone": Teacher(args.backbone, pre_trained=False).eval()}
    models |= {cls.__name__: build(cls, args.size, backbone=args.backbone) for cls in (*BASELINES, *OURS)}
    for name in args.variants:
        settings = {"backbone": args.backbone} | VARIANTS[name].get("init_args", {})
        models[name] = build(locate(VARIANTS[name]["class_path"]), args.size, **settings)
    runs: dict[tuple[str, str], Run] = {(name, "torch"): model for name, model in models.items()}
    sizes, shares = {}, {}
    images = [np.random.default_rng(number).random((1, 3, args.size, args.size), np.float32) for number in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            exact = exported(model, args.size, Path(folder))
            runs[name, "FP32"], runs[name, "bf16"] = (compiled(exact, kind, args.threads) for kind in ("FP32", "bf16"))
            if args.counters:
                shares[name] = counters(exact, args.threads, images[0])
            if name in {cls.__name__ for cls in OURS}:
                small = quantize(exact, images)
                runs[name, "INT8"] = compiled(small, "INT8", args.threads)
                for kind, candidate in (("FP32", exact), ("INT8", small)):
                    path = Path(folder) / f"{name}-{kind}.xml"
                    ov.save_model(candidate, path, compress_to_fp16=False)
                    sizes[name, kind] = path.with_suffix(".bin").stat().st_size / 1e6
        times = interleaved(runs, args.size, args.rounds)
    floor = {kind: statistics.median(times["teacher alone", kind]) for kind in ("torch", "FP32", "bf16")}
    floor["INT8"] = floor["FP32"]
    rows = []
    for (name, kind), values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        row = {"model": name, "kind": kind, "median_ms": middle, "quartile_1_ms": low, "quartile_3_ms": high}
        rows.append(row | {"times_teacher": middle / floor[kind], "file_MB": sizes.get((name, kind))})
    table = pd.DataFrame(rows).round(2).sort_values(["kind", "times_teacher"])
    print(f"{args.backbone}, {args.size}x{args.size}, batch 1, {args.threads} CPU threads")
    print(table.to_markdown(index=False))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.out, index=False)
    if args.counters:
        pd.DataFrame(shares).T.rename_axis("model").fillna(0.0).to_csv(args.counters)


if __name__ == "__main__":
    main()

"""Time of one image through the whole inference graph, as a ratio to Anomalib's ReverseDistillation in the same run.

Every model has the same teacher, pre- and post-processing, random weights (they do not change the time) and input size.
PatchCore's memory bank has the size that it would have for 320 training images at 10 %.

usage: python benchmarks/inference.py [--backbone resnet18] [--size 256] [--rounds 30] [--threads 2] [--openvino]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from anomalib.models import AnomalibModule, Patchcore, ReverseDistillation
from rich.console import Console
from rich.progress import track
from rich.table import Table

from anomalib_dmdd import Bikd, Dmdd, Dskd

MODELS = [ReverseDistillation, Patchcore, Dmdd, Dskd, Bikd]
TRAINING_IMAGES, CORESET = 320, 0.1


def build(cls: type[AnomalibModule], backbone: str, size: int) -> AnomalibModule:
    """A model with random weights and made-up thresholds, ready for inference."""
    model = cls(
        backbone=backbone, pre_processor=cls.configure_pre_processor((size, size)), visualizer=False, pre_trained=False
    )
    for name, value in (("_image_threshold", 0.5), ("_pixel_threshold", 0.5), ("image_min", 0), ("image_max", 1)):
        getattr(model.post_processor, name).fill_(value)
    model.post_processor.pixel_min.fill_(0)
    model.post_processor.pixel_max.fill_(1)
    if cls is Patchcore:
        probe = model.model.train()(torch.rand(1, 3, size, size))
        patches, width = probe.shape
        model.model.memory_bank = torch.rand(int(TRAINING_IMAGES * CORESET * patches), width)
    return model.eval()


def openvino(model: AnomalibModule, size: int, threads: int) -> Callable[[torch.Tensor], object]:
    """The model's OpenVINO export, compiled for single precision on the CPU."""
    import openvino as ov  # noqa: PLC0415  # only where it is asked for

    with tempfile.TemporaryDirectory() as folder:
        one_image = {"dynamic_axes": {}, "dynamic_shapes": None}  # with a free batch Patchcore's is frozen to two
        path = model.to_openvino(folder, input_size=(size, size), onnx_kwargs=one_image)
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = ov.Core().compile_model(path, "CPU", settings)
    return lambda image: compiled(image.numpy())


def interleaved(runs: dict[str, Callable[[torch.Tensor], object]], size: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, taken in turns, so that what else the machine does hits all of them alike."""
    image = torch.rand(1, 3, size, size)
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for number in track(range(rounds + 3), description="Timing"):
            for name, run in runs.items():
                start = time.perf_counter()
                run(image)
                if number >= 3:  # noqa: PLR2004  # warm-up
                    times[name].append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--openvino", action="store_true", help="time the OpenVINO exports as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models = {cls.__name__: build(cls, args.backbone, args.size) for cls in MODELS}
    kinds: dict[str, dict[str, Callable[[torch.Tensor], object]]] = {"torch": dict(models)}
    if args.openvino:
        kinds["OpenVINO"] = {name: openvino(model, args.size, args.threads) for name, model in models.items()}
    for kind, runs in kinds.items():
        times = interleaved(runs, args.size, args.rounds)
        base = statistics.median(times["ReverseDistillation"])
        title = f"{kind}, {args.backbone}, {args.size} x {args.size}, batch 1, {args.threads} CPU threads"
        table = Table("model", "median ms", "quartiles", "ratio to ReverseDistillation", title=title)
        for name, values in times.items():
            low, middle, high = statistics.quantiles(values, n=4)
            table.add_row(name, f"{middle:.1f}", f"{low:.1f} - {high:.1f}", f"{middle / base:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()

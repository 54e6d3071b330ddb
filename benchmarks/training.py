"""Training steps of the models beside Anomalib's, in one run: images per second, share of each part, peak memory.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/training.py --out docs/results/training.csv

Each model trains in a process of its own, with Lightning and Anomalib as a user starts it. The processes take turns
step by step, so that what else the machine does hits all of them alike; only ratios within one run count. A normal
image and its simulated copy count as one image. Weights do not change the time, so they are random where the model
allows it; Stfpm fetches those of ImageNet. The steps spread over a whole training, because the teacher of BiKD learns
in the middle of it only.

With one thread on a CPU, times are those of the processor, so other processes on the same core do not count.
"""

import argparse
import inspect
import itertools
import logging
import resource
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anomalib.models
import pandas as pd
import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader

import anomalib_dmdd

MODELS = ["ReverseDistillation", "Stfpm", "Dskd", "Bikd", "Dmdd"]
REFERENCE = "ReverseDistillation"
TEACHERS = ("teacher", "anchor", "encoder", "teacher_model")
"""Names of the frozen or pre-trained networks in the models; the encoder of Dskd is a student."""
PARTS = ["synthesis", "augmentation", "teacher", "student", "loss", "backward", "optimiser"]
WARM_UP = 3


class Turns(Callback):
    """Waits for its turn before each step, and reports the seconds of the step and its parts.

    Args:
        turn: Connection to the process that gives the turns.
        clock: Returns seconds.
    """

    def __init__(self, turn: Connection, clock: Callable[[], float]) -> None:
        self.turn, self.clock = turn, clock
        self.seconds: dict[str, float] = defaultdict(float)
        self.started: dict[str, float] = {}

    def start(self, part: str) -> None:
        """Start the clock of a part."""
        self.started[part] = self.clock()

    def stop(self, part: str) -> None:
        """Add the time of a part."""
        self.seconds[part] += self.clock() - self.started[part]

    def watch(self, part: str, module: nn.Module | None) -> None:
        """Time the calls of a module."""
        if module is not None:
            module.register_forward_pre_hook(lambda *_: self.start(part))
            module.register_forward_hook(lambda *_: self.stop(part))

    def on_train_batch_start(self, *_: Any) -> None:
        """Wait."""
        self.turn.recv()
        self.seconds.clear()
        self.start("step")

    def on_before_backward(self, *_: Any) -> None:
        """The forward pass is over."""
        self.start("backward")

    def on_after_backward(self, *_: Any) -> None:
        """The backward pass is over."""
        self.stop("backward")

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Clipping, the step of the optimiser and its schedule begin."""
        self.start("optimiser")

    def on_train_batch_end(self, *_: Any) -> None:
        """Report."""
        self.stop("optimiser")
        self.stop("step")
        self.turn.send(dict(self.seconds))


def build(name: str, args: argparse.Namespace) -> AnomalibModule:
    """A model with random weights, if it allows them."""
    cls = getattr(anomalib_dmdd, name, None) or getattr(anomalib.models, name)
    settings = {"pre_trained": False} if "pre_trained" in inspect.signature(cls).parameters else {}
    size = cls.configure_pre_processor((args.size, args.size))
    return cls(backbone=args.backbone, pre_processor=size, visualizer=False, evaluator=False, **settings)


def watch_parts(model: AnomalibModule, turns: Turns) -> None:
    """Time the parts of a step that are modules."""
    network = model.model
    turns.watch("network", network)
    turns.watch("loss", getattr(model, "loss", None))
    turns.watch("synthesis", getattr(model, "simulator", None))
    turns.watch("augmentation", getattr(model, "augmentation", None))
    for name in TEACHERS:
        if not (name == "encoder" and hasattr(network, "teacher")):
            turns.watch("teacher", getattr(network, name, None))


def train(name: str, args: argparse.Namespace, turn: Connection) -> None:
    """Train one model step by step when its turn comes; then report its peak of memory and the time of a prediction."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    cuda = args.device == "cuda"
    model = build(name, args)
    before = peak_megabytes(cuda=False)

    def clock() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() if cuda or args.threads > 1 else time.process_time()

    turns = Turns(turn, clock)
    if args.compile:
        model.model.compile()  # parts of a compiled network cannot be timed
        turns.watch("loss", model.loss)
    else:
        watch_parts(model, turns)
    for steps in (WARM_UP, args.steps):
        shape = (args.batch, 3, args.size, args.size)
        data = DataLoader(range(steps), collate_fn=lambda _: ImageBatch(image=torch.rand(shape)))  # noqa: B023
        trainer = Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=1,
            max_steps=steps,
            limit_val_batches=0,
            precision=args.precision,
            callbacks=[turns],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, data)
    memory = peak_megabytes(cuda) - (0 if cuda else before)
    model.eval().to(args.device)  # Lightning has left it on the CPU
    images = torch.rand(shape, device=args.device)
    start = clock()
    with torch.inference_mode():
        model(images)
    turn.send({"memory_MB": memory, "prediction_s": (clock() - start) / args.batch})


def peak_megabytes(cuda: bool) -> float:
    """Highest memory so far: of the tensors on a GPU, of the whole process on a CPU."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure(args: argparse.Namespace) -> pd.DataFrame:
    """Seconds of each model, step and part, a row per step; the last columns are the same for all steps of a model."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["anomalib_dmdd", "anomalib.models"])  # imported once for all
    turns, rows = {}, []
    for name in args.models:
        turns[name], other = context.Pipe()
        context.Process(target=train, args=(name, args, other), daemon=True).start()
        other.close()  # else a process that failed would be waited for
    for step in range(-WARM_UP, args.steps):
        for name, turn in turns.items():
            turn.send("go")
            seconds = turn.recv()
            if step >= 0:
                rows.append({"model": name, "step": step} | seconds)
    ends = pd.DataFrame([{"model": name} | turn.recv() for name, turn in turns.items()])
    return pd.DataFrame(rows).fillna(0.0).merge(ends, on="model")


def summary(steps: pd.DataFrame, batch: int) -> Iterator[dict[str, Any]]:
    """Images per second and the share of each part, a row per model.

    Step times are medians within each tenth of the training, because the phases of a model differ.
    """
    for name, own in steps.groupby("model", sort=False):
        phases = own["step"] * 10 // (own["step"].max() + 1)
        mean = own.drop(columns="model").groupby(phases).median().mean()
        parts = mean.reindex(PARTS).fillna(0.0)
        timed = mean.get("network", 0.0) > 0  # Stfpm calls the method of its network, and nobody can watch that
        parts["student"] = mean["network"] - parts["teacher"] if timed else float("nan")
        row = {"model": name, "images_per_s": batch / mean["step"], **mean[["memory_MB", "prediction_s"]]}
        yield row | (parts / mean["step"]).add_suffix("_share").to_dict()


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[16], help="images per batch")
    parser.add_argument("--precisions", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile the networks with torch.compile")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    args = parser.parse_args()
    rows = []
    names = ["device", "backbone", "size", "batch", "precision", "compile"]
    for backbone, batch, precision in itertools.product(args.backbones, args.batches, args.precisions):
        args.backbone, args.batch, args.precision = backbone, batch, precision
        setting = {name: getattr(args, name) for name in names}
        rows += [setting | row for row in summary(measure(args), args.batch)]
        table = pd.DataFrame(rows)
        reference = table[table["model"] == REFERENCE].set_index(names)
        for column in ("images_per_s", "memory_MB"):
            table[f"{column}_ratio"] = table[column] / table[names].apply(tuple, axis=1).map(reference[column])
        print(table.drop(columns=names).tail(len(args.models)).round(3).to_markdown(index=False), flush=True)
        print(setting, flush=True)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            table.round(3).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()

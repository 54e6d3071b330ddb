"""Time per image of AnomalySimulator and of Anomalib's PerlinAnomalyGenerator, side by side on this machine's CPU.

Each round times every contender once, in turn, so that what else the machine does meets all of them alike.

    python benchmarks/synthesis.py --rounds 15
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from torch import Tensor
from torchvision.utils import save_image

from anomalib_dmdd.synthesis import AnomalySimulator


def main() -> None:
    """Print a table of medians over the rounds, and the ratio of each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="images per batch")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=15, help="timed batches per contender")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    images = torch.randn(args.batch, 3, args.size, args.size)

    with tempfile.TemporaryDirectory() as folder:
        for i in range(32):
            save_image(torch.rand(3, args.size, args.size), Path(folder) / f"{i}.png")
        pairs: dict[str, tuple[Callable[[Tensor], object], Callable[[Tensor], object]]] = {
            "no files": (PerlinAnomalyGenerator(probability=1.0), AnomalySimulator()),
            "folder of textures": (PerlinAnomalyGenerator(folder, probability=1.0), AnomalySimulator(folder)),
        }
        times = {
            name: [[time_of(c, images) for c in pair] for _ in range(args.rounds + 2)][2:]
            for name, pair in pairs.items()
        }

    print(
        f"batch {args.batch}, {args.size}x{args.size}, {torch.get_num_threads()} threads, {args.rounds} rounds, medians"
    )
    print(f"{'textures':20} {'Anomalib ms/image':>18} {'ours ms/image':>14} {'ratio':>6}")
    for name, rounds in times.items():
        theirs, ours = (1e3 * statistics.median(column) / args.batch for column in zip(*rounds, strict=True))
        print(f"{name:20} {theirs:18.2f} {ours:14.2f} {theirs / ours:6.1f}")


def time_of(simulate: Callable[[Tensor], object], images: Tensor) -> float:
    """Seconds for one batch."""
    start = time.perf_counter()
    simulate(images)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

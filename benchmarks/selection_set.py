r"""Make a data set to choose between variants on, out of good images alone.

A fifth of the good training images is held out. They are tested as they are, and with simulated anomalies whose seed
and textures no training sees. Choosing on it, and not on the test images, keeps the reported numbers honest:

    python benchmarks/selection_set.py datasets/MVTecAD screw datasets/selection --textures path/to/textures
    anomalib-dmdd compare --config variants.yaml --data MVTec --data.category screw \
        --data.root datasets/selection

where variants.yaml lists one model several times with different init_args.
"""

import argparse
import shutil
from pathlib import Path

import torch
from anomalib.data.utils import read_image
from rich.progress import track
from torchvision.transforms.v2 import functional
from torchvision.utils import save_image

from anomalib_dmdd.synthesis import AnomalySimulator
from anomalib_dmdd.synthesis.normalization import MEAN, STD

HELD_OUT_EVERY = 5
SEED = 20240402
"""Not one that anybody trains with."""


def main() -> None:
    """Write the set in the layout of MVTec AD."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder with categories in the layout of MVTec AD")
    parser.add_argument("category")
    parser.add_argument("out", type=Path, help="root of the new set")
    parser.add_argument("--textures", type=Path, help="folder of texture images that training does not use")
    parser.add_argument("--anomalies", type=int, default=3, help="simulated anomalies per held-out image")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    args = parser.parse_args()
    source = args.root / args.category / "train/good"
    if not source.is_dir():
        parser.error(f"There is no folder {source}.")
    good = sorted(path for path in source.iterdir() if path.is_file())
    out = args.out / args.category
    if out.exists():
        parser.error(f"{out} exists; remove it or choose another folder")
    folders = {name: out / name for name in ("train/good", "test/good", "test/simulated", "ground_truth/simulated")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    held_out = good[::HELD_OUT_EVERY]
    for path in good:
        shutil.copy(path, folders["test/good" if path in held_out else "train/good"] / path.name)

    torch.manual_seed(SEED)
    simulator = AnomalySimulator(textures=args.textures)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    images = torch.stack([functional.resize(read_image(p, as_tensor=True), [args.size] * 2) for p in held_out])
    for number in track(range(args.anomalies), description="Simulating"):
        anomalous, masks = simulator((images - mean) / std)
        for path, image, mask in zip(held_out, anomalous * std + mean, masks, strict=True):
            name = f"{path.stem}_{number}"
            save_image(image, folders["test/simulated"] / f"{name}.png")
            save_image(mask, folders["ground_truth/simulated"] / f"{name}_mask.png")


if __name__ == "__main__":
    main()

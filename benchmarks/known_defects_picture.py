r"""Draw known defects that the simulator blends into good images.

    python benchmarks/known_defects_picture.py datasets/DemoParts/flange datasets/DemoParts/flange/test

The category lies in the layout of MVTec AD. Left: known defects beside their masks. Other columns: good images with one
of them each, beside the mask that the model learns.
"""

import argparse
from pathlib import Path

import torch
from anomalib.data.utils import read_image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchvision.transforms.v2 import functional
from torchvision.utils import make_grid, save_image

from anomalib_dmdd.synthesis import AnomalySimulator
from anomalib_dmdd.synthesis.known import find_known_defects
from anomalib_dmdd.synthesis.normalization import MEAN, STD

SHOWN = 160
"""Height and width of an image in the picture in pixels."""
ROWS = 3


def read(paths: list[Path], size: int) -> Tensor:
    """Images of one size, ``(N, 3, size, size)`` in [0, 1]."""
    return torch.stack([functional.resize(read_image(path, as_tensor=True), [size, size]) for path in paths])


def main() -> None:
    """Blend and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", type=Path, help="folder of a category in the layout of MVTec AD")
    parser.add_argument("known", type=Path, help="folder of known defects")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/known_defects.png"))
    args = parser.parse_args()

    found = find_known_defects(args.known)
    defects = [found[index * len(found) // ROWS] for index in range(ROWS)]
    good = sorted((args.category / "train/good").iterdir())[: 3 * ROWS]
    images, mean, std = read(good, args.size), *(torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.manual_seed(args.seed)
    anomalous, mask = AnomalySimulator(known_defects=args.known, known_share=1.0)((images - mean) / std)
    blended = torch.cat((anomalous * std + mean, mask.expand_as(images)), dim=3)
    known = torch.cat([read(list(paths), args.size) for paths in zip(*defects, strict=True)], dim=3)
    columns = [known, *blended.split(ROWS)]
    rows = torch.stack([picture for row in zip(*columns, strict=True) for picture in row])
    small = F.interpolate(rows, (SHOWN, 2 * SHOWN), mode="bilinear", antialias=True)
    save_image(make_grid(small, nrow=len(columns), padding=4, pad_value=1.0), args.out)


if __name__ == "__main__":
    main()

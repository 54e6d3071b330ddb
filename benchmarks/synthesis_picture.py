"""Draw docs/synthesis.png: sixteen simulated anomalies on DemoParts, each beside its mask.

python benchmarks/synthesis_picture.py
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812
from torchvision.transforms.v2.functional import normalize
from torchvision.utils import make_grid, save_image

from anomalib_dmdd.data import DemoParts
from anomalib_dmdd.synthesis import AnomalySimulator
from anomalib_dmdd.synthesis.normalization import MEAN, STD

SIZE = 256


def main() -> None:
    """Simulate on the first sixteen training images and save the pairs as one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("datasets/DemoParts"), help="where DemoParts is drawn")
    parser.add_argument("--textures", type=Path, help="folder of textures (default: none are needed)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/synthesis.png"))
    args = parser.parse_args()

    data = DemoParts(root=args.root)
    data.prepare_data()
    data.setup()
    parts = torch.stack([data.train_data[i].image for i in range(16)])
    images = normalize(F.interpolate(parts, (SIZE, SIZE), mode="bilinear", antialias=True), list(MEAN), list(STD))

    torch.manual_seed(args.seed)
    anomalous, mask = AnomalySimulator(args.textures)(images)
    rgb = anomalous * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    pairs = torch.cat((rgb, mask.expand_as(rgb)), dim=3)
    small = F.interpolate(pairs, scale_factor=0.6, mode="bilinear", antialias=True)
    save_image(make_grid(small, nrow=4, padding=4, pad_value=1.0), args.out)


if __name__ == "__main__":
    main()

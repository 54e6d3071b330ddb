r"""Picture of a model's best and worst cases on the test images of a category in the layout of MVTec AD.

    python benchmarks/cases.py Dmdd path/to/model.ckpt path/to/images screw --out cases.jpg

Rows, from the top: the defects that are located best (pixel AUROC within the image), those that are located worst, the
defects with the lowest scores, the good images with the highest scores. Left the anomaly map, right the image with its
defect outlined.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from anomalib.data import ImageItem, MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from anomalib.visualization.image.functional import create_image_grid
from anomalib.visualization.image.item_visualizer import visualize_image_item
from torchmetrics.functional.classification import binary_auroc

from anomalib_dmdd.compare.plan import known

CASES = 4
"""Of each kind."""
SIDE = 160
"""Of an image, in pixels."""


def located(item: ImageItem) -> float:
    """Pixel AUROC within one image."""
    return float(binary_auroc(item.anomaly_map.flatten().float(), item.gt_mask.flatten().int()))


def score(item: ImageItem) -> float:
    """Image score."""
    return float(item.pred_score)


def select(items: Sequence[ImageItem]) -> list[ImageItem]:
    """The cases of all rows, one row after the other."""
    defects = [item for item in items if item.gt_label]
    good = [item for item in items if not item.gt_label]
    by_place, by_score = sorted(defects, key=located, reverse=True), sorted(defects, key=score)
    return [*by_place[:CASES], *by_place[-CASES:], *by_score[:CASES], *sorted(good, key=score, reverse=True)[:CASES]]


def main() -> None:
    """Predict and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or class path")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("root", type=Path, help="folder with categories in the layout of MVTec AD")
    parser.add_argument("category")
    parser.add_argument("--out", type=Path, default=Path("cases.png"))
    args = parser.parse_args()
    if not (args.root / args.category).is_dir():  # Anomalib would set out to download it
        parser.error(f"There is no folder {args.root / args.category}.")
    model = known(AnomalibModule)[args.model].load_from_checkpoint(args.checkpoint, visualizer=False)
    data = MVTecAD(root=args.root, category=args.category, num_workers=0)
    batches = Engine(logger=False).predict(model, datamodule=data)
    cases = select([item for batch in batches for item in batch.items])
    pictures = [
        visualize_image_item(
            item, ["anomaly_map"], [("image", ["gt_mask"])], (SIDE, SIDE), text_config={"enable": False}
        )
        for item in cases
    ]
    for item in cases:
        place = f"pixel AUROC {located(item):.3f}" if item.gt_label else "good"
        print(f"{item.image_path}: score {score(item):.3f}, {place}")
    create_image_grid(pictures, nrow=CASES).save(args.out)
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()

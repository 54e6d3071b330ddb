r"""Draw the best and worst cases of a model on the test images of a category in the layout of MVTec AD.

    python benchmarks/cases.py Dmdd path/to/model.ckpt path/to/images screw --out cases.jpg

Rows: the defects that are located best, by pixel AUROC within the image; those that are located worst; the defects with
the lowest scores; the good images with the highest scores. Each case is the anomaly map beside the image with its
defect outlined. Rows and columns are labelled.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from anomalib.data import ImageItem, MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from anomalib.visualization.image.item_visualizer import visualize_image_item
from PIL import Image, ImageDraw, ImageFont
from torchmetrics.functional.classification import binary_auroc

from anomalib_dmdd.compare.plan import known

CASES = 4
"""Number of cases in a row."""
SIDE = 160
"""Height and width of an image in pixels."""
LEFT, TOP = 170, 32
"""Width of the row labels and height of the column labels in pixels."""
COLUMNS = ("anomaly map", "image and defect")
"""Labels of the two pictures of a case."""


def located(item: ImageItem) -> float:
    """Pixel AUROC within one image."""
    return float(binary_auroc(item.anomaly_map.flatten().float(), item.gt_mask.flatten().int()))


def score(item: ImageItem) -> float:
    """Image score."""
    return float(item.pred_score)


def select(items: Sequence[ImageItem]) -> dict[str, list[ImageItem]]:
    """Choose the cases of each row, by the label of the row."""
    defects = [item for item in items if item.gt_label]
    good = [item for item in items if not item.gt_label]
    marked = [item for item in defects if item.gt_mask.any()]  # tiny masks can get lost when they are resized
    by_place, by_score = sorted(marked, key=located, reverse=True), sorted(defects, key=score)
    return {
        "defects\nlocated best": by_place[:CASES],
        "defects\nlocated worst": by_place[-CASES:],
        "defects with\nlowest scores": by_score[:CASES],
        "good images with\nhighest scores": sorted(good, key=score, reverse=True)[:CASES],
    }


def draw(rows: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """Arrange the pictures of the cases and label rows and columns.

    Args:
        rows: Pictures of size (2 ``SIDE``, ``SIDE``) by the label of their row.

    Returns:
        The whole picture.
    """
    picture = Image.new("RGB", (LEFT + CASES * 2 * SIDE, TOP + len(rows) * SIDE), "white")
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(size=19)
    for column in range(2 * CASES):
        place = (LEFT + (column + 0.5) * SIDE, TOP / 2)
        canvas.text(place, COLUMNS[column % 2], fill="black", font=font, anchor="mm")
    for row, (label, cases) in enumerate(rows.items()):
        place = (LEFT / 2, TOP + (row + 0.5) * SIDE)
        canvas.multiline_text(place, label, fill="black", font=font, anchor="mm", align="center")
        for column, case in enumerate(cases):
            picture.paste(case, (LEFT + column * 2 * SIDE, TOP + row * SIDE))
    return picture


def visualize(item: ImageItem) -> Image.Image:
    """Draw one case: the anomaly map beside the image with its defect outlined."""
    picture: Image.Image = visualize_image_item(
        item, ["anomaly_map"], [("image", ["gt_mask"])], (SIDE, SIDE), text_config={"enable": False}
    )
    return picture


def main() -> None:
    """Predict, print the cases and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(known(AnomalibModule)), metavar="model", help="name of a class")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("root", type=Path, help="folder with categories in the layout of MVTec AD")
    parser.add_argument("category")
    parser.add_argument("--out", type=Path, default=Path("cases.png"))
    args = parser.parse_args()
    if not (args.root / args.category).is_dir():  # otherwise MVTecAD starts a download
        parser.error(f"There is no folder {args.root / args.category}.")
    model = known(AnomalibModule)[args.model].load_from_checkpoint(args.checkpoint, visualizer=False)
    data = MVTecAD(root=args.root, category=args.category, num_workers=0)
    batches = Engine(logger=False).predict(model, datamodule=data)
    rows = select([item for batch in batches for item in batch.items])
    for item in (item for cases in rows.values() for item in cases):
        place = f"pixel AUROC {located(item):.3f}" if item.gt_label else "good"
        print(f"{item.image_path}: score {score(item):.3f}, {place}")
    draw({label: [visualize(item) for item in cases] for label, cases in rows.items()}).save(args.out)
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()

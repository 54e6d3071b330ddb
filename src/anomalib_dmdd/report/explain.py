"""The command ``anomalib-dmdd explain``: pictures of the distances that a model decides by."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.data.utils import read_image
from anomalib.models.components import AnomalibModule
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from anomalib_dmdd.inspector import absolute, below, common_folder, find_images, last_line
from anomalib_dmdd.models.base.reports.images import UNREADABLE
from anomalib_dmdd.picture_names import as_png
from anomalib_dmdd.trained_model import load_trained

from .figures import draw_explanation, draw_histogram
from .tables import EXPLAINED, folder_name

UNREAD = 3
"""Exit code if images were left out, as that of ``inspector.py``."""
RUN_FOLDER_OF_CHECKPOINT = ("weights", "lightning")


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model says about an image, and the distances behind it.

    Attributes:
        path: File of the image.
        score: Normalised score from 0 to 1.
        is_defective: Verdict of the model.
        anomaly_map: Normalised map ``(H, W)`` from 0 to 1, in the size of the model.
        mask: Pixels that the model marks ``(H, W)``.
        distances: Map ``(h_k, w_k)`` of each branch and layer.
    """

    path: Path
    score: float
    is_defective: bool
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    distances: dict[tuple[str, str], NDArray[np.float32]]

    @property
    def verdict(self) -> str:
        """``defective`` or ``good``, as the inspector says it."""
        return "defective" if self.is_defective else "good"


@torch.inference_mode()
def explain(model: AnomalibModule, path: Path) -> Explanation:
    """Predict an image by the steps of ``anomalib predict``, and keep the distances.

    Args:
        model: A model of this package in evaluation mode.
        path: File of the image.

    Raises:
        ValueError: If the file is not a readable image.
    """
    try:
        # Not PredictDataset, which refuses a file with an umlaut in its name.
        batch = ImageBatch.collate([ImageItem(image=read_image(path, as_tensor=True), image_path=str(path))])
    except (*UNREADABLE, ValueError) as error:
        raise ValueError(f"{path} is not a readable image: {last_line(error)}") from error
    if model.pre_processor:
        model.pre_processor.on_predict_batch_start(None, model, batch, 0)
    images = batch.image  # (1, 3, H, W), resized and normalised
    batch = model.predict_step(batch, 0)
    model.post_processor.post_process_batch(batch)
    layers = model.model.teacher.features.feature_info.module_name()
    distances = {
        (branch, layer): distance.squeeze().numpy()
        for branch, maps in model.model.layer_distances(images).items()
        for layer, distance in zip(layers, maps, strict=True)
    }
    return Explanation(
        path=path,
        score=batch.pred_score.item(),
        is_defective=bool(batch.pred_score > model.post_processor.normalized_image_threshold),
        anomaly_map=batch.anomaly_map.squeeze().numpy(),
        mask=(batch.anomaly_map > model.post_processor.normalized_pixel_threshold).squeeze().numpy(),
        distances=distances,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse what cannot work."""
    parser = argparse.ArgumentParser("anomalib-dmdd explain", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a training")
    parser.add_argument(
        "images", type=Path, nargs="+", help="image files, and folders that are searched with all below"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the pictures; by default 'explanations' in the run's folder"
    )
    args = parser.parse_args(arguments)
    args.out = args.out or run_folder(args.checkpoint) / "explanations"
    if (args.out / EXPLAINED).exists():
        parser.error(f"{args.out} holds explanations already. Remove it, or choose another folder with --out.")
    return args


def run_folder(checkpoint: Path) -> Path:
    """Folder of the checkpoint's run, else of the checkpoint."""
    folder = checkpoint.parent
    return folder.parents[1] if folder.parts[-2:] == RUN_FOLDER_OF_CHECKPOINT else folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Explain images, draw them, and list them in a table.

    Returns:
        Exit code.
    """
    args = parse(arguments)
    console = Console(stderr=True)
    try:
        model, _ = load_trained(args.checkpoint)
        model.eval()
        files = find_images(args.images, None)
        found, broken = explain_all(model, track(files, "Predicting", console=console, transient=True))
        table = write(found, model.post_processor.normalized_image_threshold.item(), args.out, console)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for folder, rows in table.groupby("folder", sort=False):
        print(f"{folder}: {len(rows)} images, {(rows['verdict'] == 'defective').sum()} called defective")
    print(f"Written: {args.out}")
    return UNREAD if broken else 0


def explain_all(model: AnomalibModule, files: Iterable[Path]) -> tuple[list[Explanation], int]:
    """Explanations of all readable images, and the number of the others, which are named.

    Raises:
        ValueError: If no image is readable.
    """
    found, errors = [], []
    for file in files:
        try:
            found.append(explain(model, file))
        except ValueError as error:  # noqa: PERF203  # the others are worth a picture
            errors.append(str(error))
    if not found:
        raise ValueError("\n".join(errors))
    for reason in errors:
        print(f"left out: {reason}", file=sys.stderr)
    return found, len(errors)


def write(explanations: Sequence[Explanation], threshold: float, out: Path, console: Console) -> pd.DataFrame:
    """Write a picture of each image, the histogram of all scores, and the table."""
    root = common_folder(one.path.parent for one in explanations)
    highest = {key: max(float(one.distances[key].max()) for one in explanations) for key in explanations[0].distances}
    rows = []
    for one in track(explanations, "Drawing", console=console, transient=True):
        picture = as_png(out / below(root, one.path))
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_explanation(one, threshold, highest).savefig(picture, dpi=120)
        name = picture.relative_to(out).as_posix()
        rows.append([absolute(one.path), folder_name(one.path, root), one.score, threshold, one.verdict, name])
    table: pd.DataFrame = pd.DataFrame(rows, columns=["file", "folder", "score", "threshold", "verdict", "picture"])
    groups = {str(folder): scores.to_numpy() for folder, scores in table.groupby("folder", sort=False)["score"]}
    histogram = "scores.png"
    while histogram in set(table["picture"]):  # an image may have that name
        histogram = f"all_{histogram}"
    draw_histogram(groups, threshold).savefig(out / histogram, dpi=120)
    table.to_csv(out / EXPLAINED, index=False, errors="surrogateescape")  # names that are not UTF-8
    return table

"""Thumbnails and full pictures of the images of a run."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from anomalib_dmdd.inspector import absolute, draw_overlay, read_image, to_rgb
from anomalib_dmdd.picture_names import source_of

from .tables import EXPLAINED

THUMBNAIL = 200
"""Longest side of a thumbnail in pixels."""
FULL = 2000
"""Longest side of a full picture in pixels; larger images are shrunk."""
SAME_SCORE = 0.01
"""Scores of one model may differ so much, because a prediction in bfloat16 has other roundings."""
MAP = "anomaly map, with an outline of what the model marks"
STRIP = "picture of Anomalib"
DISTANCES = "distances of each branch and layer"


class PictureIndex:
    """Files below a folder, found by the image that they belong to.

    Anomalib keeps the last folders of an image in the path of its picture, so the picture of ``parts/good/1.png`` is
    ``images/good/1.png``.

    Pictures of our models name their images.

    Args:
        folder: Folder of pictures; it may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._named: dict[Path, Path] = {}
        self._files: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*.*")) if folder.is_dir() else ():
            if source := source_of(path):
                self._named[source] = path
            else:
                self._files.setdefault(path.name, []).append(path)
        self._folder = folder

    def find(self, image: Path) -> Path | None:
        """Picture that names the image, else the one whose path fits best."""
        if image in self._named:
            return self._named[image]
        fitting = []
        for path in self._files.get(image.name, ()):
            parts = path.relative_to(self._folder).parts
            if image.parts[-len(parts) :] == parts:
                fitting.append((len(parts), path))
        return max(fitting)[1] if fitting else None


def read_explanations(results: Path) -> dict[Path, dict[Path, float]]:
    """Pictures of ``anomalib-dmdd explain`` in a folder of results, and their scores, by their images."""
    found: dict[Path, dict[Path, float]] = {}
    for path in sorted(results.rglob(EXPLAINED)):
        table = pd.read_csv(path, dtype={"file": str, "picture": str}, encoding_errors="surrogateescape")
        for file, picture, score in table[["file", "picture", "score"]].itertuples(index=False):
            found.setdefault(absolute(Path(file)), {})[path.parent / picture] = float(score)
    return found


def explanation_of(score: float, pictures: dict[Path, float]) -> Path | None:
    """Picture whose model gave an image this score; None if there is none.

    Several models can explain one image, and no table names its model.
    """
    fitting = {path: abs(found - score) for path, found in pictures.items() if abs(found - score) <= SAME_SCORE}
    return min(fitting, key=lambda path: fitting[path]) if fitting else None


@dataclass(frozen=True)
class Sources:
    """Files that an image's pictures are made of; any may be missing.

    Attributes:
        image: The image itself.
        anomaly_map: Its normalised map, as :class:`MapFiles` writes it.
        strip: Picture of Anomalib.
        mask: Known mask.
        explanation: Picture of the distances.
    """

    image: Path
    anomaly_map: Path | None
    strip: Path | None
    mask: Path | None
    explanation: Path | None


def find_sources(table: pd.DataFrame, run: Path, explanations: dict[Path, dict[Path, float]]) -> list[Sources]:
    """Files of each image of a run; its table has ``file``, ``mask`` and ``score``."""
    strips = PictureIndex(run / "images")
    pictures = (path for path in sorted((run / "maps").rglob("*")) if path.suffix.lower() == ".png")
    maps = {source_of(path): path for path in pictures}
    return [
        Sources(
            image=file,
            anomaly_map=maps.get(file),
            strip=strips.find(file),
            mask=Path(mask) if isinstance(mask, str) and mask else None,
            explanation=explanation_of(score, explanations.get(absolute(file), {})),
        )
        for file, mask, score in zip(map(Path, table["file"]), table["mask"], table["score"], strict=True)
    ]


def make_pictures(sources: Sources, pixel_threshold: float, folder: Path, stem: str) -> tuple[str, dict[str, str]]:
    """Write the full pictures of an image.

    Args:
        sources: What they are made of.
        pixel_threshold: Normalised threshold of the map, whose outline is drawn.
        folder: Folder of the pictures.
        stem: Start of their names.

    Returns:
        Thumbnail as a data URI, and the names of the pictures by their titles. Both are empty without any files.
    """
    image = _open(sources.image)
    pictures = {"image": image}
    if image is not None and (values := _open(sources.anomaly_map, "L")) is not None:
        heat = np.asarray(values, np.float32) / np.float32(255)  # (h, w), from 0 to 1
        pictures[MAP] = draw_overlay(np.asarray(image), heat, pixel_threshold)
    pictures["mask"] = _open(sources.mask)
    # Only where we cannot draw the same ourselves.
    pictures[STRIP] = None if MAP in pictures else _open(sources.strip)
    pictures[DISTANCES] = _open(sources.explanation)
    names = {}
    for number, (title, picture) in enumerate(pictures.items(), 1):
        if picture is not None:
            names[title] = f"{stem}-{number}.jpg"
            picture.save(folder / names[title], quality=90)
    shown = pictures.get(MAP) or image or pictures[STRIP]
    return (_data_uri(shown) if shown else ""), names


def _open(path: Path | None, mode: str = "RGB") -> Image.Image | None:
    """Read and shrink a picture; None if there is no readable file."""
    if path is None or not path.is_file():
        return None
    try:
        pixels = read_image(path)
        if pixels.dtype != np.uint8:  # 16 bits
            pixels = (255 * to_rgb(pixels)).round().astype(np.uint8)
    except ValueError:
        return None
    picture = Image.fromarray(pixels).convert(mode)
    picture.thumbnail((FULL, FULL))
    return picture


def _data_uri(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

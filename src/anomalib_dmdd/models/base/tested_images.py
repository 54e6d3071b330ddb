"""Known defects that are also validation or test images."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from anomalib_dmdd.synthesis.known import find_known_defects
from anomalib_dmdd.synthesis.picture import read_rgb

SHOWN = 3
"""At most so many images are named in a message."""


def refuse_tested_defects(folder: str | Path, datamodule: object) -> None:
    """Refuse known defects that thresholds or results would be computed from.

    Images are the same if their pixels are, whatever their files are called. Only test images of the size of a known
    defect are decoded.

    Args:
        folder: Folder of known defects.
        datamodule: A data module that has been set up for the training.

    Raises:
        ValueError: If a known defect is a validation or test image.
    """
    known = {_content(image): image for image, _ in find_known_defects(folder)}
    sizes = {_size(image) for image in known.values()}
    tested = {path for name in ("val_data", "test_data") for path in _paths(getattr(datamodule, name, None))}
    candidates = sorted(path for path in tested if _size(path) in sizes)
    with ThreadPoolExecutor() as pool:
        found = zip(pool.map(_content, candidates), candidates, strict=True)
        same = [(known[content], path) for content, path in found if content in known]
    if same:
        pairs = "; ".join(f"{image} is {path}" for image, path in same[:SHOWN]) + "; ..." * (len(same) > SHOWN)
        raise ValueError(
            f"known_defects: {len(same)} of the validation and test images are among the known defects ({pairs}). "
            "Results and thresholds would look better than they are. Move these images out of one of the two folders."
        )


def _paths(dataset: object) -> Iterable[Path]:
    samples = getattr(dataset, "samples", None)
    return [] if samples is None else [Path(path) for path in samples["image_path"]]


def _size(path: Path) -> tuple[int, int]:
    """Width and height, read without decoding the image."""
    with Image.open(path) as image:
        return image.width, image.height


def _content(path: Path) -> bytes:
    """Digest of the size and the pixels of an image."""
    image = read_rgb(path, "known_defects")
    return blake2b(repr(image.size).encode() + image.tobytes()).digest()

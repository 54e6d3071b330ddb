"""Known defects that are also validation or test images."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import repeat
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
    known = [image for image, _ in find_known_defects(folder)]
    tested = dict.fromkeys(
        path for name in ("val_data", "test_data") for path in _paths(getattr(datamodule, name, None))
    )
    sizes = {_size(path) for path in known}
    with ThreadPoolExecutor() as pool:
        by_content = dict(zip(pool.map(_content, known, repeat(sizes)), known, strict=True))
        contents = pool.map(_content, tested, repeat(sizes))
        same = [
            (by_content[content], path) for content, path in zip(contents, tested, strict=True) if content in by_content
        ]
    if same:
        pairs = "; ".join(f"{image} is {path}" for image, path in same[:SHOWN]) + "; ..." * (len(same) > SHOWN)
        raise ValueError(
            f"known_defects: {len(same)} of the validation and test images are among the known defects ({pairs}). "
            "Results and thresholds would look better than they are. Move these images out of one of the two folders."
        )


def _paths(dataset: object) -> Iterable[Path]:
    samples = getattr(dataset, "samples", None)
    return [] if samples is None else [Path(path) for path in samples["image_path"]]


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.width, image.height
    except OSError:
        return None  # a broken file is reported where it is read


def _content(path: Path, sizes: set[tuple[int, int] | None]) -> bytes | None:
    """Digest of the pixels of an image that has one of these sizes."""
    size = _size(path)
    if size is None or size not in sizes:
        return None
    try:
        return blake2b(repr(size).encode() + read_rgb(path, "known_defects").tobytes()).digest()
    except ValueError:
        return None

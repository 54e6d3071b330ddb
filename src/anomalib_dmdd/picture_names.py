"""Names of pictures that are drawn of image files."""

import os
from itertools import chain, count
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from PIL import Image

DESCRIPTION = 0x010E
"""EXIF tag that names the image a picture was drawn of."""
WITH_EXIF = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"}
"""Types of image files that hold EXIF data."""


def as_png(path: Path) -> Path:
    """Path of the PNG picture of an image file, different for ``1.png`` and ``1.jpg``.

    Example:
        >>> [as_png(Path(name)).name for name in ("1.png", "1.jpg")]
        ['1.png', '1.jpg.png']
    """
    return path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png")


def save_picture(picture: Image.Image, target: Path, source: Path) -> None:
    """Save a picture that names its image, without replacing the picture of another image.

    Images of several folders can have one name. So the file is the first of ``1.png``, ``1_2.png`` and so on that holds
    no other image.

    Args:
        picture: What is saved.
        target: The wished path. Types without EXIF data get PNG files.
        source: The image.
    """
    target = target if target.suffix.lower() in WITH_EXIF else as_png(target)
    names = chain([target], (target.with_stem(f"{target.stem}_{number}") for number in count(2)))
    free = next(path for path in names if not path.exists() or source_of(path) == source)
    exif = Image.Exif()
    exif[DESCRIPTION] = quote(os.fsencode(source))  # EXIF text is ASCII
    picture.save(free, exif=exif)


def source_of(picture: Path) -> Path | None:
    """The image that a picture was drawn of; None if it names none."""
    try:
        with Image.open(picture) as image:
            source = image.getexif().get(DESCRIPTION)
    except OSError:
        return None
    return Path(os.fsdecode(unquote_to_bytes(str(source)))) if source else None

"""Names of pictures that are drawn of image files."""

from pathlib import Path

from PIL import Image

SOURCE = "source"
"""Key of the text in a PNG file that names the image it was drawn of."""


def as_png(path: Path) -> Path:
    """Path of the PNG picture of an image file, different for ``1.png`` and ``1.jpg``.

    Example:
        >>> [as_png(Path(name)).name for name in ("1.png", "1.jpg")]
        ['1.png', '1.jpg.png']
    """
    return path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png")


def source_of(picture: Path) -> str | None:
    """The image that a PNG picture was drawn of; None if it names none."""
    try:
        with Image.open(picture) as image:
            source: str | None = image.info.get(SOURCE)
    except OSError:
        return None
    return source

"""Names of pictures that are drawn of image files."""

from pathlib import Path


def as_png(path: Path) -> Path:
    """Path of a PNG picture that belongs to an image file, with a name that no other image file leads to.

    Example:
        >>> [as_png(Path(name)).name for name in ("1.png", "1.jpg")]
        ['1.png', '1.jpg.png']
    """
    return path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png")

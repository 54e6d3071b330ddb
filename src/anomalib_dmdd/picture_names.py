"""Names of pictures that are drawn of image files."""

from pathlib import Path


def as_png(path: Path) -> Path:
    """Path of the PNG picture of an image file, different for ``1.png`` and ``1.jpg``.

    Example:
        >>> [as_png(Path(name)).name for name in ("1.png", "1.jpg")]
        ['1.png', '1.jpg.png']
    """
    return path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png")

"""Reading of image files that a user has put into a folder."""

from pathlib import Path

import numpy as np
from PIL import Image


def read_rgb(path: Path, option: str) -> Image.Image:
    """Read a colour image of 8 bits; of 16 bits the upper 8 are kept.

    Args:
        path: The file.
        option: Name of the option that gave the folder, for the message.

    Raises:
        ValueError: If the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # Pillow would clip its values at 255, which is white
                return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            rgb: Image.Image = image.convert("RGB")
            return rgb
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{option}: the image {path} cannot be read ({error}).") from error

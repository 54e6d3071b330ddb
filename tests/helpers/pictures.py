"""Pictures as tensors of bytes, for the tests that look at files."""

from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor


def read_picture(path: Path, mode: str = "RGB") -> torch.Tensor:
    """A picture as bytes, ``(C, H, W)``; mode is Pillow's, such as RGB or L."""
    with Image.open(path) as picture:
        return pil_to_tensor(picture.convert(mode))

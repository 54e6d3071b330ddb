"""Known defects, cut out along masks and blended into other images."""

import math
from glob import escape
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional

from .picture import read_rgb

MASKS = "ground_truth"
"""Folder of masks in the layout of MVTec AD."""
WHITE = 127
"""Values of a mask above this are white."""
GREY, MOST_GREY, MOST_SHADES = (32, 223), 0.1, 16
"""Values of a mask that are neither black nor white, their largest share, and how many may differ."""
MOST_MARKED = 0.75
"""A mask that marks more than this share of an image is taken for an inverted one."""
LEAST_WEIGHT = 0.25
"""Pixels with a lower weight at the soft edge of a defect keep the normal image."""


def find_known_defects(folder: str | Path) -> list[tuple[Path, Path]]:
    """Find the images of a folder and its subfolders, and the mask of each.

    A mask is called ``NAME_mask``, with any suffix of an image, and lies beside its image ``NAME``. It can also lie in
    ``ground_truth/KIND`` for images in ``KIND`` or ``test/KIND``, as in MVTec AD, or in ``ground_truth`` beside the
    image; there it may be called ``NAME``, too. Folders ``good`` are left out.

    Args:
        folder: Folder with images of defects.

    Returns:
        Image and mask of each defect, sorted by the path of the image.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it has no images, or an image has no mask.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"known_defects: there is no folder {str(folder)!r} on this machine.")
    images = [path for path in sorted(folder.rglob("*")) if _is_defect(path.relative_to(folder))]
    if not images:
        raise ValueError(
            f"known_defects: the folder {str(folder)!r} has no images of defects. It needs images such as 000.png, "
            "each with its mask 000_mask.png beside it."
        )
    return [(image, _mask_of(image)) for image in images]


def _is_defect(path: Path) -> bool:
    is_image = path.suffix.lower() in IMG_EXTENSIONS and not path.stem.endswith("_mask")
    return is_image and not {MASKS, "good"} & set(path.parent.parts)


def _mask_of(image: Path) -> Path:
    """The mask of an image, see :func:`find_known_defects`."""
    folder, kind, name = image.parent, image.parent.name, image.stem
    masks = [folder / MASKS, folder.parent / MASKS / kind, folder.parent.parent / MASKS / kind]
    places = [(folder, f"{name}_mask"), *((place, stem) for place in masks for stem in (f"{name}_mask", name))]
    found = (path for place, stem in places for path in sorted(place.glob(f"{escape(stem)}.*")) if path.stem == stem)
    mask = next((path for path in found if path.suffix.lower() in IMG_EXTENSIONS), None)
    if mask is None:
        raise ValueError(
            f"known_defects: {image} has no mask. Paint the defect white on black, in an image of the same size, and "
            f"save it as {image.stem}_mask.png beside the image."
        )
    return mask


def load_known_defects(folder: str | Path, size: tuple[int, int], margin: int) -> Tensor:
    """Read known defects at the size of the training images.

    Args:
        folder: Folder with images and masks, see :func:`find_known_defects`.
        size: Height and width of the result in pixels.
        margin: Width of the soft edge around a defect in pixels, an odd number.

    Returns:
        Five channels, ``(D, 5, *size)``, uint8 from 0 to 255: red, green, blue; the weight of the defect, which is 255
        on it and falls to 0 around it; and its surroundings, 255 in a ring around the soft edge.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it has no images, one has no mask, or a file is broken, or a mask is empty, covers everything or
            has another size than its image.
    """
    defects = []
    for image_path, mask_path in find_known_defects(folder):
        image = read_rgb(image_path, "known_defects")
        rgb = functional.resize(functional.pil_to_tensor(image), list(size), antialias=True)
        # The maximum, because the mean would lose what is thinner than a pixel of the result.
        marked = F.adaptive_max_pool2d(_read_mask(mask_path, image), size)
        weight = F.avg_pool2d(_widen(marked, margin), margin, 1, margin // 2, count_include_pad=False)
        ring = _widen(marked, 6 * margin + 1) * (weight == 0)
        defects.append(torch.cat((rgb, (255 * torch.cat((weight, ring))).round().byte())))
    return torch.stack(defects)


def _widen(mask: Tensor, side: int) -> Tensor:
    """Maximum over windows of an odd side in pixels."""
    widened: Tensor = F.max_pool2d(mask, side, 1, side // 2)
    return widened


def _read_mask(path: Path, image: Image.Image) -> Tensor:
    """Read the mask of an image as ``(1, H, W)``, 0 and 1.

    Raises:
        ValueError: If it does not fit the image, or does not look like the mask of a defect.
    """
    mask: Tensor = functional.pil_to_tensor(read_rgb(path, "known_defects")).amax(0, keepdim=True)
    if mask.shape[1:] != (image.height, image.width):
        raise ValueError(
            f"known_defects: the mask {path} has {mask.shape[2]}x{mask.shape[1]} pixels, but its image "
            f"{image.width}x{image.height}. Save both in the same size."
        )
    # Some tools write small numbers, one for each kind of defect. JPEG changes black and white a little.
    marked = mask > (WHITE if mask.max() > WHITE else 0)
    grey = mask[(mask > GREY[0]) & (mask < GREY[1])]
    has_shades = (
        mask.max() > WHITE
        and len(grey) > MOST_GREY * mask.numel()
        and int(grey.bincount().count_nonzero()) > MOST_SHADES
    )
    share = float(marked.float().mean())
    wrong = {
        "is empty": share == 0,
        "has many shades of grey, like a photograph": has_shades,
        f"marks {share:.0%} of the image, as if black and white were exchanged": share > MOST_MARKED,
    }
    if what := next((what for what, found in wrong.items() if found), None):
        raise ValueError(f"known_defects: the mask {path} {what}. Paint the defect white and the rest black.")
    return marked.float()


def place_known_defects(normal: Tensor, objects: Tensor, defects: Tensor) -> tuple[Tensor, Tensor]:
    """Blend one random known defect into each image.

    A random pixel of the defect comes to lie on a random pixel of the object. The defect is rotated by any angle,
    mirrored, and scaled by 0.7 to 1.4. Its brightness adapts to that of the new place by a random share, and its
    contrast with its surroundings changes by up to 30 %.

    Args:
        normal: Normal images with pixels in [0, 1], ``(N, 3, H, W)``.
        objects: Pixels that a defect may cover, ``(N, H, W)``, bool.
        defects: Known defects of the same size, see :func:`load_known_defects`, ``(D, 5, H, W)``.

    Returns:
        Change of the pixels, ``(N, 3, H, W)``, and the weight of the defects in [0, 1], ``(N, 1, H, W)``. Where the
        weight is 0, so is the change.
    """
    count, device = len(normal), normal.device
    cut = defects[torch.randint(len(defects), (count,), device=device)].float().div_(255)
    moved = F.grid_sample(cut, _positions(cut[:, 3] == 1, objects), align_corners=False)
    weight, ring = (moved[:, channel, None] * objects[:, None] for channel in (3, 4))
    weight = weight * (weight >= LEAST_WEIGHT)

    area = ring.sum((2, 3), keepdim=True).clamp(min=1e-6)
    here, there = ((ring * rgb).sum((2, 3), keepdim=True) / area for rgb in (normal, moved[:, :3]))  # (N, 3, 1, 1)
    share, contrast = torch.rand(2, count, 1, 1, 1, device=device)
    surroundings = torch.lerp(there, here, share)
    defect = surroundings + (0.7 + 0.6 * contrast) * (moved[:, :3] - there)
    return weight * (defect.clamp(0, 1) - normal), weight


def _positions(defects: Tensor, objects: Tensor) -> Tensor:
    """Random place, angle and size of each defect.

    Args:
        defects: Pixels of the defects, ``(N, H, W)``, bool.
        objects: Pixels that a defect may lie on, ``(N, H, W)``, bool.

    Returns:
        Where each pixel comes from, for ``grid_sample``, ``(N, H, W, 2)``.
    """
    count, height, width = defects.shape
    device = defects.device
    angle = 2 * math.pi * torch.rand(count, device=device)
    zoom = torch.exp2(torch.rand(count, device=device) - 0.5)
    mirror = torch.randint(2, (count,), device=device) * 2 - 1
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    axis_x, axis_y = torch.stack((cos * mirror, sin * mirror), dim=1), torch.stack((-sin, cos), dim=1)
    source, target = _random_pixel(defects), _random_pixel(objects)
    x = torch.arange(width, device=device) - target[:, :1]  # (N, W)
    y = torch.arange(height, device=device) - target[:, 1:]  # (N, H)
    place = (
        source[..., None, None]
        + axis_x[..., None, None] * x[:, None, None]
        + axis_y[..., None, None] * y[:, None, :, None]
    )
    return torch.stack(((2 * place[:, 0] + 1) / width - 1, (2 * place[:, 1] + 1) / height - 1), dim=-1)


def _random_pixel(mask: Tensor) -> Tensor:
    """Random pixel of each mask: ``(N, H, W)`` to column and row ``(N, 2)``."""
    index = (torch.rand(mask.shape, device=mask.device) * mask).flatten(1).argmax(1)
    return torch.stack((index % mask.shape[2], index // mask.shape[2]), dim=1)

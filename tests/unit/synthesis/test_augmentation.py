"""Mild augmentation, against torchvision and known cases."""

import math

import pytest
import torch
from torchvision.transforms.v2.functional import InterpolationMode, affine

from anomalib_dmdd.synthesis import MildAugmentation
from anomalib_dmdd.synthesis.normalization import MEAN, STD


@pytest.fixture
def highest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every random number is at the upper end of its range."""
    monkeypatch.setattr(torch, "rand", lambda *shape, device: torch.ones(*shape, device=device))


def smooth(height: int, width: int) -> torch.Tensor:
    """A normalised image without sharp edges, (1, 3, H, W)."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return torch.stack([x.sin(), y.cos(), (x + y).sin()])[None]


@pytest.mark.usefixtures("highest")
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_geometry_is_torchvisions_affine_map(size: tuple[int, int]) -> None:
    height, width = size
    images = smooth(height, width)
    ours = MildAugmentation(degrees=5, shift=0.03, scale=0.05, brightness=0)(images)
    angle, zoom = math.radians(5), 1.05
    # Ours maps places of the result to places of the image: torchvision wants the inverse.
    shift = torch.tensor([0.03 * width, 0.03 * height])
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / zoom
    translate = (-turn @ shift).tolist()
    theirs = affine(images, -5, translate, 1 / zoom, [0.0, 0.0], InterpolationMode.BILINEAR)
    inside = (slice(None), slice(None), slice(12, -12), slice(12, -12))
    assert torch.allclose(ours[inside], theirs[inside], atol=2e-2)
    assert (ours[inside] - images[inside]).abs().mean() > 5e-2


@pytest.mark.usefixtures("highest")
def test_brightness_is_a_factor_of_the_pixel_values() -> None:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = torch.full((2, 3, 8, 8), 0.4)
    brighter = MildAugmentation(degrees=0, shift=0, scale=0, brightness=0.1)((pixels - mean) / std)
    assert torch.allclose(brighter * std + mean, 1.1 * pixels, atol=1e-5)


def test_images_differ_from_each_other_and_repeat_with_the_seed() -> None:
    images = smooth(32, 32).expand(4, -1, -1, -1)
    torch.manual_seed(0)
    first = MildAugmentation()(images)
    torch.manual_seed(0)
    assert torch.equal(MildAugmentation()(images), first)
    assert len({float(image.sum()) for image in first}) == 4
    assert MildAugmentation()(images.bfloat16()).dtype == torch.bfloat16


def test_nothing_to_change_is_the_identity() -> None:
    images = torch.randn(2, 3, 32, 48)
    assert torch.allclose(MildAugmentation(0, 0, 0, 0)(images), images, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_moves_pixels_to_the_same_places(dtype: torch.dtype) -> None:
    images, found = torch.randn(4, 3, 128, 96), []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype, enabled=enabled):
            found.append(MildAugmentation()(images))
    assert torch.equal(*found)

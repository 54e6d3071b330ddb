"""The foreground rule against scikit-image, SciPy and drawn scenes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_fill_holes
from skimage import data
from skimage.filters import threshold_otsu
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_dmdd.synthesis.foreground import fill_holes, foreground_mask, otsu_threshold


def disc(radius: float, size: int = 64, cy: float = 0.5, cx: float = 0.5) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (y - cy * size) ** 2 + (x - cx * size) ** 2 < (radius * size) ** 2


def scene(mask: Tensor, inside: tuple[float, ...], outside: tuple[float, ...]) -> Tensor:
    torch.manual_seed(0)
    colours = (torch.tensor(colour).view(3, 1, 1) for colour in (inside, outside))
    return torch.where(mask, *colours) + 0.02 * torch.randn(3, *mask.shape)


def framed_noise() -> Tensor:
    """A texture inside a border of one colour."""
    noise = torch.randn(1, 60, 60, generator=torch.Generator().manual_seed(0))
    return F.pad(noise, (2, 2, 2, 2)).expand(3, -1, -1)


@pytest.mark.parametrize("name", ["camera", "coins", "page", "moon"])
def test_otsu_is_that_of_scikit_image(name: str) -> None:
    image = getattr(data, name)()[:256, :256].astype(np.float32) / 255
    threshold, separability = otsu_threshold(torch.from_numpy(image)[None])
    width = (image.max() - image.min()) / 256
    # scikit-image answers with the middle of the last bin of the lower class, ours with that bin's upper edge.
    assert abs(threshold.item() - width / 2 - threshold_otsu(image)) <= 1e-5
    above = image > threshold.item()
    between = above.mean() * (1 - above.mean()) * (image[above].mean() - image[~above].mean()) ** 2
    assert separability.item() == pytest.approx(between / image.var(), abs=0.01)


def test_otsu_treats_images_of_a_batch_alone_and_survives_a_constant_one() -> None:
    images = torch.stack((torch.rand(32, 32), 5 * torch.rand(32, 32) - 7, torch.full((32, 32), 0.3)))
    together, _ = otsu_threshold(images)
    torch.testing.assert_close(together, torch.cat([otsu_threshold(image[None])[0] for image in images]))
    assert together.isfinite().all()


def shapes() -> list[Tensor]:
    ring = disc(0.4) & ~disc(0.2)
    opened = ring.clone()
    opened[30:34, 30:] = False
    nested = ring | disc(0.1)
    stairs = torch.zeros(64, 64, dtype=torch.bool)
    stairs[10, 10:50] = stairs[10:50, 10] = stairs[50, 10:40] = stairs[20:50, 50] = stairs[20, 20:50] = True
    torch.manual_seed(0)
    return [ring, opened, nested, stairs, torch.rand(64, 64) < 0.1, torch.zeros(64, 64) > 0, torch.ones(64, 64) > 0]


def test_holes_are_filled_like_scipys() -> None:
    masks = torch.stack(shapes())
    expected = np.stack([binary_fill_holes(mask.numpy()) for mask in masks])
    np.testing.assert_array_equal(fill_holes(masks).numpy(), expected)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ((0.2, 0.2, 0.2), (0.8, 0.8, 0.8)),
        ((0.9, 0.9, 0.9), (0.1, 0.1, 0.1)),
        ((0.8, 0.3, 0.2), (0.2, 0.5, 0.7)),  # nearly the same grey
    ],
)
def test_object_is_found_whatever_its_brightness(inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    expected = disc(0.3, cy=0.4)
    found = foreground_mask(scene(expected, inside, outside)[None])[0]
    assert (found & expected).sum() / (found | expected).sum() > 0.9


def test_object_with_dark_and_bright_parts_and_a_background_coloured_hole_is_whole() -> None:
    image = scene(disc(0.3), (0.1, 0.1, 0.1), (0.5, 0.5, 0.5))
    image[:, disc(0.15, cx=0.4)] = 0.95
    image[:, disc(0.07, cx=0.6)] = 0.5
    found = foreground_mask(image[None])[0]
    assert (found & disc(0.3)).sum() / (found | disc(0.3)).sum() > 0.9


@pytest.mark.parametrize(
    "image",
    [
        scene(disc(0.1), (0.2,) * 3, (0.8,) * 3),  # too small: 3 %
        scene(F.pad(torch.ones(124, 124), (2, 2, 2, 2)) > 0, (0.2,) * 3, (0.8,) * 3),  # too large: 94 %
        scene(torch.arange(64).expand(64, 64) < 24, (0.2,) * 3, (0.8,) * 3),  # a border of two colours
        torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1),  # a texture
        framed_noise(),
        torch.full((3, 64, 64), 0.5),
    ],
)
def test_whole_image_where_there_is_no_object(image: Tensor) -> None:
    assert foreground_mask(image[None]).all()


def test_a_broken_image_does_not_end_the_training_here() -> None:
    images = torch.rand(2, 3, 64, 64)
    expected = foreground_mask(images)
    images[1, 0, 5, 5] = torch.nan
    found = foreground_mask(images)  # the loss names the image later
    assert found.shape == expected.shape
    assert torch.equal(found[0], expected[0])

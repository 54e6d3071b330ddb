"""Augmented and anomalous images stay images, however they are normalised."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import Normalize

from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation
from anomalib_dmdd.synthesis.normalization import MEAN, STD, Normalized

Values = tuple[Sequence[float], Sequence[float]]
VALUES = [(MEAN, STD), ([0.5] * 3, [0.5] * 3), ([0.1, 0.2, 0.3], [0.9, 0.8, 0.7]), ([0.0] * 3, [1.0] * 3)]


def pixels_after(module: Normalized, pixels: Tensor, values: Values) -> Tensor:
    """Pixel values after a module has changed images that are normalised with these values."""
    mean, std = values
    module.set_normalization(mean, std)
    torch.manual_seed(1)
    changed = module(Normalize(mean, std)(pixels))
    changed = changed[0] if isinstance(changed, tuple) else changed
    return changed * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]


@pytest.mark.parametrize("values", VALUES)
def test_anomalies_are_visible_and_in_the_range_of_images(values: Values) -> None:
    pixels = 0.4 + 0.2 * torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    anomalous = pixels_after(AnomalySimulator(foreground=False), pixels, values)
    assert anomalous.min() > -1e-5
    assert anomalous.max() < 1 + 1e-5
    assert ((anomalous - pixels).abs() > 0.1).float().mean() > 0.02


@pytest.mark.parametrize("values", VALUES)
def test_augmented_pixels_are_those_of_the_default(values: Values) -> None:
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    expected = MildAugmentation()(Normalize(MEAN, STD)(pixels)) * std + mean
    torch.testing.assert_close(pixels_after(MildAugmentation(), pixels, values), expected, rtol=0, atol=2e-6)


def test_without_normalisation_images_are_from_0_to_1() -> None:
    augmentation = MildAugmentation(brightness=0.1)
    augmentation.set_normalization([0.0] * 3, [1.0] * 3)
    changed = augmentation(torch.full((8, 3, 32, 32), 0.5))
    assert 0.45 - 1e-6 <= changed.min() < 0.5 < changed.max() <= 0.55 + 1e-6

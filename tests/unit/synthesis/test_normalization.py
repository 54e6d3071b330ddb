"""Augmented and anomalous images stay images, however the pre-processor normalises them."""

from collections.abc import Sequence

import pytest
import torch
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation
from anomalib_dmdd.synthesis.normalization import MEAN, STD, Normalized

Values = tuple[Sequence[float], Sequence[float]] | None
VALUES = [(MEAN, STD), ([0.5] * 3, [0.5] * 3), ([0.1, 0.2, 0.3], [0.9, 0.8, 0.7]), None]


def pixels_after(module: Normalized, pixels: Tensor, values: Values) -> Tensor:
    """Pixel values after a module has changed images that a pre-processor has normalised."""
    mean, std = ([0.0] * 3, [1.0] * 3) if values is None else values
    resize = Resize(pixels.shape[-2:])
    module.take_normalization(PreProcessor(transform=Compose([resize, Normalize(mean, std)]) if values else resize))
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


class Own(nn.Module):
    """A pre-processor of a user."""

    def __init__(self, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.normalize = normalize


def test_a_pre_processor_of_ones_own() -> None:
    simulator = AnomalySimulator()
    simulator.take_normalization(Own())
    assert simulator._mean.flatten().tolist() == pytest.approx(MEAN), "nothing is known"
    simulator.take_normalization(Own(Normalize([0.1] * 3, [0.2] * 3)))
    assert simulator._mean.flatten().tolist() == pytest.approx([0.1] * 3)
    assert simulator._std.flatten().tolist() == pytest.approx([0.2] * 3)


def test_without_a_pre_processor_images_are_from_0_to_1() -> None:
    augmentation = MildAugmentation(brightness=0.1)
    augmentation.take_normalization(None)
    changed = augmentation(torch.full((8, 3, 32, 32), 0.5))
    assert 0.45 - 1e-6 <= changed.min() < 0.5 < changed.max() <= 0.55 + 1e-6

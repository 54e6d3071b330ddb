"""How a pre-processor normalises, as far as it shows."""

import pytest
from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_dmdd.models.base.normalization import NONE, normalization_of

HALF = ([0.5] * 3, [0.25] * 3)


class Own(nn.Module):
    """A pre-processor of a user."""

    def __init__(self, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.normalize = normalize


@pytest.mark.parametrize(
    ("pre_processor", "expected"),
    [
        (None, NONE),
        (PreProcessor(Resize((64, 64))), NONE),
        (PreProcessor(Compose([Resize((64, 64)), Normalize(*HALF)])), HALF),
        (Own(Normalize(*HALF)), HALF),
        (Own(), None),
    ],
)
def test_what_a_pre_processor_shows(pre_processor: nn.Module | None, expected: object) -> None:
    assert normalization_of(pre_processor) == expected

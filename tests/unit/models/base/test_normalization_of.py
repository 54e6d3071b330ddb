"""How a pre-processor normalises, as far as it shows."""

from collections.abc import Sequence

import pytest
from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_dmdd.models.base.normalization import NONE, differs_from_weights, normalization_of

HALF = ([0.5] * 3, [0.25] * 3)
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
Values = tuple[Sequence[float], Sequence[float]]


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
        (PreProcessor(Normalize([0.5], [0.25])), HALF),
        (Own(Normalize(*HALF)), HALF),
        (Own(), None),
    ],
)
def test_what_a_pre_processor_shows(pre_processor: nn.Module | None, expected: object) -> None:
    assert normalization_of(pre_processor) == expected


@pytest.mark.parametrize(
    ("values", "backbone", "differs"),
    [
        (IMAGENET, "resnet18", False),
        (IMAGENET, "resnet18.tv_in1k", False),
        (IMAGENET, "tf_efficientnetv2_s", True),
        (([0.5] * 3, [0.5] * 3), "tf_efficientnetv2_s", False),
        (NONE, "resnet18", True),
    ],
)
def test_the_normalisation_of_the_weights(values: Values, backbone: str, differs: bool) -> None:
    assert (differs_from_weights(values, backbone) is not None) == differs

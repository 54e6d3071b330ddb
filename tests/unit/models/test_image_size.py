"""``image_size`` builds the pre-processor, and a size that cannot work is refused."""

from typing import Any

import pytest
import torch

from anomalib_dmdd import Bikd, Dmdd, Dskd

SMALL = {"backbone": "resnet18", "pre_trained": False}


@pytest.mark.parametrize("model", [Bikd, Dmdd, Dskd])
@pytest.mark.parametrize(("image_size", "expected"), [(128, (128, 128)), ((64, 96), (64, 96)), (None, (256, 256))])
def test_images_are_resized(model: type, image_size: int | tuple[int, int] | None, expected: tuple[int, int]) -> None:
    built = model(**SMALL, image_size=image_size)
    assert built.input_size == expected
    assert built.pre_processor.transform(torch.rand(1, 3, 50, 70)).shape[-2:] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 100}, "multiples of 32"),
        ({"image_size": (64, 64, 64)}, "neither a number of pixels nor height and width"),
        ({"image_size": -32}, "neither a number of pixels nor height and width"),
        ({"image_size": 64, "pre_processor": False}, "either image_size or pre_processor"),
    ],
)
def test_a_size_that_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dmdd(**SMALL, **settings)

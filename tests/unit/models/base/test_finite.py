"""NaN and infinity stop a training with their cause."""

from typing import NamedTuple

import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_dmdd.models.base.finite import FiniteGuard


class Terms(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def batch() -> ImageBatch:
    return ImageBatch(image=torch.rand(2, 3, 8, 8), image_path=["a.png", "b.png"])


def test_finite_terms_pass() -> None:
    FiniteGuard().check(Terms(torch.tensor(1.0), torch.tensor(2.0)), batch())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_term_is_named(value: float) -> None:
    with pytest.raises(FloatingPointError, match=r"the loss is not finite \(second\)"):
        FiniteGuard().check(Terms(torch.tensor(1.0), torch.tensor(value)), batch())


def test_a_broken_image_is_named_by_its_file() -> None:
    images = batch()
    images.image[1, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"an image holds NaN or infinity: b\.png"):
        FiniteGuard().check(Terms(torch.tensor(1.0), torch.tensor(torch.nan)), images)


def test_broken_weights_are_not_saved() -> None:
    network = torch.nn.Linear(2, 2)
    FiniteGuard().check_weights(network)
    with torch.no_grad():
        network.bias[0] = torch.inf
    with pytest.raises(FloatingPointError, match="bias holds NaN or infinity, so no checkpoint is written"):
        FiniteGuard().check_weights(network)

"""What the losses promise for features of any shape, type and scale."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomalib_dmdd.models.bikd.loss import BikdLoss
from anomalib_dmdd.models.bikd.torch_model import BikdFeatures
from anomalib_dmdd.models.components import cosine_distance
from anomalib_dmdd.models.dmdd.loss import DmddLoss
from anomalib_dmdd.models.dmdd.torch_model import DmddFeatures
from anomalib_dmdd.models.dskd.loss import DskdLoss
from anomalib_dmdd.models.dskd.torch_model import DskdFeatures

PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=20)
TYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
SEEDS = st.integers(0, 2**32 - 1)
Maps = list[Tensor]


class Case(NamedTuple):
    """Shapes of a training step: (N, C, h, w) per layer, and the mask of the images."""

    shapes: list[tuple[int, int, int, int]]
    mask: Tensor  # (N, 1, H, W)
    seed: int

    def maps(self, dtype: torch.dtype = torch.float32) -> Maps:
        """Random features, one map per layer."""
        return [torch.randn(shape).to(dtype) for shape in self.shapes]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to three layers; the mask is empty, full, or holds noise or a rectangle."""
    count, side, seed = draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(SEEDS)
    layers = draw(st.lists(st.tuples(st.integers(1, 16), st.integers(1, 8)), min_size=1, max_size=3))
    torch.manual_seed(seed)
    mask = torch.zeros(count, 1, 4 * side, 4 * draw(st.integers(1, 8)))
    kind = draw(st.sampled_from(["empty", "full", "noise", "rectangle"]))
    if kind == "full":
        mask += 1
    elif kind == "noise":
        mask = (torch.rand_like(mask) < 0.5).float()
    elif kind == "rectangle":
        mask[..., : 2 * side, :3] = 1
    return Case([(count, channels, side, width) for channels, width in layers], mask, seed)


def dskd(maps: Sequence[Maps], mask: Tensor) -> NamedTuple:
    del mask
    return DskdLoss()(DskdFeatures(*maps[:3]))


def bikd(maps: Sequence[Maps], mask: Tensor) -> NamedTuple:
    return BikdLoss()(BikdFeatures(*maps[:5]), mask, weight=1.0)


def dmdd(maps: Sequence[Maps], mask: Tensor) -> NamedTuple:
    logits = torch.cat([maps[5][0][:, :1], maps[4][0][:, :1]])
    return DmddLoss()(DmddFeatures(*maps[:6], logits=logits), mask)


LOSSES = pytest.mark.parametrize("loss", [dskd, bikd, dmdd])
Loss = Callable[[Sequence[Maps], Tensor], Any]


def assert_equal(first: NamedTuple, second: NamedTuple) -> None:
    """All terms are the same but for rounding."""
    torch.testing.assert_close(torch.stack([*first]), torch.stack([*second]), rtol=1e-4, atol=1e-5)


@LOSSES
@PROPERTY
@given(case=cases(), dtype=TYPES)
def test_terms_are_finite_and_not_negative(loss: Loss, case: Case, dtype: torch.dtype) -> None:
    terms = loss([case.maps(dtype) for _ in range(6)], case.mask)._asdict()
    assert all(term.isfinite() and term.ndim == 0 and term.dtype == torch.float32 for term in terms.values())
    least = dict.fromkeys(terms, 0.0) | {"aim": -0.5 * len(case.shapes)}  # D is at most 2
    assert all(term >= least[name] - 1e-5 for name, term in terms.items())


@LOSSES
@PROPERTY
@given(case=cases())
def test_perfect_students_have_no_loss(loss: Loss, case: Case) -> None:
    terms = loss([case.maps()] * 6, torch.zeros_like(case.mask))
    learnt = {name: term for name, term in terms._asdict().items() if name != "head"}
    assert all(abs(term) < 1e-4 for term in learnt.values())


@LOSSES
@PROPERTY
@given(case=cases())
def test_the_order_of_the_batch_does_not_matter(loss: Loss, case: Case) -> None:
    maps = [case.maps() for _ in range(6)]
    order = torch.randperm(len(case.mask))
    assert_equal(loss(maps, case.mask), loss([[layer[order] for layer in layers] for layers in maps], case.mask[order]))


@LOSSES
@PROPERTY
@given(case=cases(), exponents=st.lists(st.integers(-2, 10), min_size=6, max_size=6))
def test_the_scale_of_the_features_does_not_matter(loss: Loss, case: Case, exponents: list[int]) -> None:
    maps = [case.maps() for _ in range(6)]
    scaled = [[layer * 2.0**power for layer in layers] for layers, power in zip(maps, exponents, strict=True)]
    first, second = ({**loss(each, case.mask)._asdict(), "head": torch.zeros(())} for each in (maps, scaled))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


@LOSSES
@PROPERTY
@given(case=cases(), dtype=TYPES, values=st.lists(st.sampled_from([None, 0.0, 1.0]), min_size=6, max_size=6))
def test_gradients_of_zero_and_constant_features_are_finite(
    loss: Loss, case: Case, dtype: torch.dtype, values: list[float | None]
) -> None:
    maps = [
        [(layer if value is None else torch.full_like(layer, value)).requires_grad_() for layer in case.maps(dtype)]
        for value in values
    ]
    torch.stack([*loss(maps, case.mask)]).sum().backward()
    gradients = [layer.grad for layers in maps for layer in layers if layer.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@PROPERTY
@given(case=cases(), dtype=TYPES)
def test_cosine_distance_is_symmetric_and_bounded(case: Case, dtype: torch.dtype) -> None:
    first, second = case.maps(dtype)[0], case.maps(dtype)[0]
    distance = cosine_distance(first, second)
    torch.testing.assert_close(distance, cosine_distance(second, first))
    torch.testing.assert_close(cosine_distance(first, -second), 2 - distance)
    assert distance.amin() >= -1e-6
    assert distance.amax() <= 2 + 1e-6

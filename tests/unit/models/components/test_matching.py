"""The distance of the losses, against PyTorch's cosine similarity and numerical derivatives."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_dmdd.models.components import matching_distance


def plain(features: Tensor, target: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(features.float(), target.float(), dim=1, eps=1e-4).unsqueeze(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1.0, 1e-5, 0.0])  # the second is shorter than what counts as shortest
def test_values_and_gradients_are_those_of_cosine_similarity(dtype: torch.dtype, length: float) -> None:
    torch.manual_seed(0)
    features, target = (torch.randn(2, 16, 6, 5).to(dtype, memory_format=torch.channels_last) for _ in range(2))
    features[:, :, :3] *= length
    results = []
    for distance in (matching_distance, plain):
        leaf = features.clone().requires_grad_()
        value = distance(leaf, target)
        (value * torch.linspace(0, 2, 30).view(6, 5)).sum().backward()
        assert leaf.grad is not None
        results.append((value, leaf.grad))
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-3}
    for own, expected in zip(*results, strict=True):
        assert own.dtype == expected.dtype
        torch.testing.assert_close(own, expected, **tolerance)


def test_gradient_is_the_numerical_derivative() -> None:
    torch.manual_seed(0)
    features, target = (torch.randn(2, 3, 2, 2, dtype=torch.double) for _ in range(2))
    assert torch.autograd.gradcheck(lambda leaf: matching_distance(leaf, target), features.requires_grad_())

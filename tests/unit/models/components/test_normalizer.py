"""Normalisation of distance maps."""

import numpy as np
import torch

from anomalib_dmdd.models.components import DistanceNormalizer


def test_limits_are_a_moving_average() -> None:
    torch.manual_seed(0)
    first, second = (
        torch.rand(2, 16, 3, 24, 24) * torch.rand(16, 3, 24, 24) * torch.tensor([0.01, 0.1, 1.0])[:, None, None]
    )
    normalizer = DistanceNormalizer(maps=3)
    normalizer.update(first)
    normalizer.update(second)

    def high(maps: torch.Tensor) -> np.ndarray:
        pixels = maps.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)
        return pixels.mean(1) + 3 * pixels.std(1)

    expected = 0.9 * high(first) + 0.1 * high(second)
    one_place = torch.zeros(1, 3, 4, 4).index_fill(3, torch.tensor(2), 1.0)
    assert np.allclose(normalizer(one_place).amax((0, 2, 3)).numpy(), 1 / expected, rtol=1e-3)
    assert "limit" in normalizer.state_dict()

"""One scale for distance maps."""

import numpy as np
import torch

from anomalib_dmdd.parts import NormalScale


def test_scale_is_a_moving_average_of_the_high_normal_distances() -> None:
    torch.manual_seed(0)
    first, second = (
        torch.rand(2, 16, 3, 24, 24) * torch.rand(16, 3, 24, 24) * torch.tensor([0.01, 0.1, 1.0])[:, None, None]
    )
    scale = NormalScale(maps=3)
    scale.follow(first)
    scale.follow(second)

    def high(maps: torch.Tensor) -> np.ndarray:
        pixels = maps.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)
        return pixels.mean(1) + 3 * pixels.std(1)

    expected = 0.9 * high(first) + 0.1 * high(second)
    one_place = torch.zeros(1, 3, 4, 4).index_fill(3, torch.tensor(2), 1.0)
    assert np.allclose(scale(one_place).amax((0, 2, 3)).numpy(), 1 / expected, rtol=1e-3)
    assert "high" in scale.state_dict()

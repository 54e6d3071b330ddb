"""ReLU with a cap that normal images set."""

import numpy as np
import torch
from torch import nn

from anomalib_dmdd.parts import CappedReLU, cap_activations


def test_the_cap_is_a_moving_average_of_the_median_images_maximum() -> None:
    torch.manual_seed(0)
    batches = torch.randn(3, 5, 4, 6, 6) * torch.tensor([1.0, 2.0, 3.0, 50.0, 0.5])[:, None, None, None]
    relu, expected = CappedReLU(), None
    for batch in batches:
        assert torch.equal(relu(batch.clone()), batch.clamp_min(0)), "training is not capped"
        median = np.median(batch.numpy().reshape(5, -1).max(1))
        expected = median if expected is None else 0.9 * expected + 0.1 * median
    restored = CappedReLU().eval()
    restored.load_state_dict(relu.state_dict())
    for module in (relu.eval(), restored):
        assert np.allclose(module(batches[0].clone()), np.clip(batches[0], 0, expected))


def test_an_untrained_network_is_not_capped() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True)), nn.Sigmoid())
    features = torch.randn(2, 1, 8, 8)
    expected = network(features)
    cap_activations(network)
    assert [type(module) for module in network.modules()].count(CappedReLU) == 2
    assert torch.equal(network.eval()(features.clone()), expected)

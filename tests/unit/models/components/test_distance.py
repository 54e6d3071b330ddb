"""Distances between features, against SciPy and known cases."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.stats import gmean
from torch.nn.functional import interpolate

from anomalib_dmdd.models.components import cosine_distance, geometric_mean, self_weighted_mean, sum_of_layers


def test_cosine_distance_at_each_position() -> None:
    features, target = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    distance = cosine_distance(features, target)
    assert distance.shape == (2, 1, 3, 4)
    for index in np.ndindex(2, 3, 4):
        image, row, column = index
        expected = cosine(features[image, :, row, column].numpy(), target[image, :, row, column].numpy())
        assert distance[image, 0, row, column].item() == pytest.approx(expected, abs=1e-5)


def test_self_weighted_mean_pulls_at_far_positions_and_as_strongly_as_a_mean() -> None:
    distances = torch.rand(2, 1, 3, 4, requires_grad=True)
    self_weighted_mean(distances).backward()
    assert distances.grad is not None
    values, pull = distances.detach().double().numpy(), distances.grad.double().numpy()
    assert np.allclose(pull, values / values.sum(), atol=1e-6)
    assert self_weighted_mean(distances).item() == pytest.approx(np.average(values, weights=values), abs=1e-6)


def test_self_weighted_mean_of_zeros_is_zero() -> None:
    distances = torch.tensor([0.0, -1e-7], requires_grad=True)  # rounding can take a distance below zero
    self_weighted_mean(distances).backward()
    assert self_weighted_mean(distances).item() == 0
    assert distances.grad is not None
    assert not distances.grad.any()


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.75]])
def test_geometric_mean_over_the_maps(weights: list[float] | None) -> None:
    maps = torch.rand(2, 3, 4, 5) + 0.01
    shares = None if weights is None else np.reshape(weights, (1, 3, 1, 1))
    expected = gmean(maps.numpy(), axis=1, keepdims=True, weights=shares)
    assert np.allclose(geometric_mean(maps, weights).numpy(), expected, rtol=1e-5)


def test_geometric_mean_of_maps_without_a_distance_is_finite_and_small() -> None:
    assert 0 < geometric_mean(torch.tensor([0.0, -1e-7]).reshape(1, 2, 1, 1)).item() < 1e-4


def test_half_precision_is_computed_in_single() -> None:
    features = torch.rand(1, 512, 2, 2)
    distance = cosine_distance(features.bfloat16(), features.bfloat16())
    assert distance.dtype == torch.float32
    assert distance.abs().max() < 1e-5


def test_sum_of_layers_has_the_size_of_the_images() -> None:
    images = torch.zeros(2, 3, 64, 32)
    constant = [torch.full((2, 1, 16, 8), 1.0), torch.full((2, 1, 4, 2), 2.0)]
    anomaly_map = sum_of_layers(constant, images)
    assert anomaly_map.shape == (2, 1, 64, 32)
    assert torch.allclose(anomaly_map, torch.tensor(3.0))


def test_sum_of_layers_adds_before_it_upsamples() -> None:
    layers = [torch.rand(2, 1, 16, 8), torch.rand(2, 1, 8, 4), torch.rand(2, 1, 4, 2)]
    anomaly_map = sum_of_layers(layers, torch.zeros(2, 3, 64, 32))
    finest = sum(interpolate(layer, (16, 8), mode="bilinear", align_corners=True) for layer in layers)
    assert torch.allclose(anomaly_map, interpolate(finest, (64, 32), mode="bilinear", align_corners=True), atol=1e-6)


def test_sum_of_layers_aligns_the_corners() -> None:
    corners = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    anomaly_map = sum_of_layers([corners], torch.zeros(1, 3, 9, 9))
    assert torch.equal(anomaly_map[..., ::8, ::8], corners)
    assert anomaly_map[0, 0, 4, 4] == 2.5

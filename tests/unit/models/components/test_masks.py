"""Masks at the scale of features."""

import torch

from anomalib_dmdd.models.components import anomalous_area, masked_mean


def test_area_is_the_share_of_each_cell() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 0, :] = 1  # a line one pixel thin
    area = anomalous_area(mask, torch.zeros(1, 7, 2, 2))
    assert torch.allclose(area, torch.tensor([[[[0.25, 0.25], [0.0, 0.0]]]]))


def test_masked_mean() -> None:
    values = torch.tensor([1.0, 2.0, 3.0])
    assert masked_mean(values, torch.tensor([True, False, True])) == 2
    assert masked_mean(values, torch.zeros(3, dtype=torch.bool)) == 0

"""Distances written once more in NumPy, for the tests of the losses."""

import numpy as np
import torch


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def distance(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """``1 - cos`` per position, ``(N, h, w)``."""
    a, b = array(first), array(second)
    return 1 - (a * b).sum(1) / (np.sqrt((a**2).sum(1)) * np.sqrt((b**2).sum(1)))


def cells(mask: torch.Tensor, side: int) -> np.ndarray:
    """Share of anomalous area in the cells of a side x side grid, ``(N, side, side)``."""
    n, _, height, width = mask.shape
    return array(mask).reshape(n, side, height // side, side, width // side).mean((2, 4))


def mean_of(values: np.ndarray, where: np.ndarray) -> float:
    """Mean of the chosen values, 0 where there are none."""
    return float(values[where].sum() / max(1, where.sum()))


def random_features(grad: bool = False) -> list[torch.Tensor]:
    """Features of two layers, of 8x8 and 4x4 cells, for three images."""
    return [torch.rand(3, 6, 8, 8, requires_grad=grad), torch.rand(3, 10, 4, 4, requires_grad=grad)]


def half_mask() -> torch.Tensor:
    """Masks of 32x32: the left half, a thin line, nothing."""
    mask = torch.zeros(3, 1, 32, 32)
    mask[0, ..., :16] = 1
    mask[1, ..., 5, 3:20] = 1
    return mask

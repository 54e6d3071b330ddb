"""The noise against Perlin's formula, written out point by point."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from anomalib_dmdd.synthesis.perlin import PerlinNoise

SIDE = 64


def by_definition(fields: PerlinNoise, n: int, k: int, dy: float, dx: float) -> float:
    """Perlin's noise at one point, from the gradients at the four corners of its cell."""
    u, v = (
        (fields.axes[n, i, k, 0] * dx + fields.axes[n, i, k, 1] * dy + fields.phase[n, i, k]).item() for i in (0, 1)
    )
    middle = fields.lattice.shape[-1] // 2
    total = 0.0
    for i in (math.floor(u), math.floor(u) + 1):
        for j in (math.floor(v), math.floor(v) + 1):
            g = fields.lattice[n, :2, j + middle, i + middle].tolist()
            s, t = abs(u - i), abs(v - j)
            fade = math.prod(1 - (6 * d**5 - 15 * d**4 + 10 * d**3) for d in (s, t))
            total += fade * (g[0] * (u - i) + g[1] * (v - j))
    return math.sqrt(2) * total


def test_noise_is_perlins() -> None:
    fields = PerlinNoise.draw(4, 2, SIDE, 6, torch.device("cpu"))
    y, x = torch.tensor([-31.5, -7.0, 0.0, 20.5, 31.5]), torch.tensor([-31.5, -12.25, 3.0, 31.5])
    values = fields(y, x)
    assert values.shape == (4, 2, 5, 4)
    expected = [
        by_definition(fields, *nk, dy, dx)
        for nk in product(range(4), range(2))
        for dy in y.tolist()
        for dx in x.tolist()
    ]
    torch.testing.assert_close(values.flatten(), torch.tensor(expected), atol=2e-4, rtol=0)
    second = fields.choose(torch.tensor([1, 0, 1, 1]))(y, x)
    torch.testing.assert_close(second[:, 0], values[range(4), [1, 0, 1, 1]], atol=1e-5, rtol=0)


def test_noise_is_zero_at_lattice_points_and_stays_in_range() -> None:
    fields = PerlinNoise.draw(16, 1, SIDE, 6, torch.device("cpu"))
    upright = replace(
        fields, axes=torch.eye(2).view(1, 2, 1, 2).expand(16, -1, -1, -1) / 4, phase=torch.zeros(16, 2, 1)
    )
    every_fourth = torch.arange(-32.0, 33.0, 4.0)
    assert upright(every_fourth, every_fourth).abs().max() < 1e-4
    everywhere = fields.render(SIDE, SIDE)
    assert everywhere.abs().max() <= 1 + 1e-4
    assert everywhere.std() > 0.1


def test_resolution_rotation_and_gradients_are_drawn_as_documented() -> None:
    torch.manual_seed(0)
    fields = PerlinNoise.draw(1500, 4, SIDE, 6, torch.device("cpu"))
    axes = fields.axes.transpose(1, 2).flatten(0, 1)
    cells = SIDE * axes.norm(dim=2)
    exponent = cells.log2()
    torch.testing.assert_close(exponent, exponent.round(), atol=1e-4, rtol=0)
    joint = torch.zeros(6, 6).index_put_(tuple(exponent.round().long().T), torch.ones(1), accumulate=True)
    assert ((joint - 6000 / 36).abs() < 5 * math.sqrt(6000 / 36)).all()  # each pair of resolutions alike
    degrees = torch.rad2deg(torch.atan2(axes[:, 0, 1], axes[:, 0, 0]))
    assert -90 <= degrees.min() < -89
    assert 89 < degrees.max() <= 90
    assert abs(degrees.mean()) < 3
    assert (axes[:, 0] * axes[:, 1]).sum(1).abs().max() < 1e-6  # the axes stay at right angles
    torch.testing.assert_close(fields.lattice[:4, :2].norm(dim=1), torch.ones(4, *fields.lattice.shape[2:]))


def test_render_covers_the_image_from_corner_to_corner() -> None:
    fields = PerlinNoise.draw(4, 2, 256, 6, torch.device("cpu"))
    corners = fields(torch.tensor([-79.5, 79.5]), torch.tensor([-127.5, 127.5]))
    rendered = fields.render(160, 256)
    assert rendered.shape == (4, 2, 81, 129)
    torch.testing.assert_close(rendered[..., ::80, ::128], corners, atol=1e-4, rtol=0)
    assert fields.render(40, 64).shape == (4, 2, 40, 64)


@pytest.mark.parametrize("octaves", [1, 3, 6])
def test_lattice_reaches_the_corners(octaves: int) -> None:
    fields = PerlinNoise.draw(100, 5, SIDE, octaves, torch.device("cpu"))
    corners = torch.tensor([[-0.5, -0.5], [-0.5, 0.5]]) * SIDE
    position = (fields.axes @ corners.T).abs() + fields.phase.abs()[..., None]
    assert position.max() <= fields.lattice.shape[-1] // 2

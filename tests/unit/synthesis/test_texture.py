"""Textures: reading, drawing, moving and colouring."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

from anomalib_dmdd.synthesis.texture import draw_textures_, jitter_colours_, load_textures, rearrange, shuffled_channels

CPU = torch.device("cpu")


def test_load_reads_all_images_below_the_folder_small_and_square(tmp_path: Path) -> None:
    (tmp_path / "striped" / "deep").mkdir(parents=True)
    save_image(torch.zeros(3, 30, 50), tmp_path / "a.png")
    save_image(torch.ones(3, 70, 20), tmp_path / "striped" / "deep" / "b.JPG", format="jpeg")
    (tmp_path / "notes.txt").write_text("not an image")
    textures = load_textures(tmp_path, size=16)
    assert textures.shape == (2, 3, 16, 16)
    assert textures.dtype == torch.uint8
    assert textures.flatten(1).float().mean(1).tolist() == [0.0, 255.0]


def test_load_spreads_a_limit_over_the_folder(tmp_path: Path) -> None:
    for i in range(10):
        save_image(torch.full((3, 8, 8), i / 255), tmp_path / f"{i}.png")
    assert load_textures(tmp_path, size=8, limit=5)[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]


def test_load_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder '.*missing'.*textures=None"):
        load_textures(tmp_path / "missing")
    with pytest.raises(ValueError, match="has no images"):
        load_textures(tmp_path)


def test_drawn_textures_differ_and_fill_the_range() -> None:
    torch.manual_seed(0)
    textures = draw_textures_(torch.empty(64, 3, 48, 80))
    assert textures.shape == (64, 3, 48, 80)
    assert 0 <= textures.min() < 0.05
    assert 0.95 < textures.max() <= 1
    distances = torch.cdist(textures.flatten(1), textures.flatten(1)) + torch.eye(64) * 1e9
    assert distances.min() > 1


def test_rearranged_texture_shows_only_what_was_there() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 64).expand(8, 1, 64, 64)
    for patches in (1, 8):
        view = rearrange(ramp, (40, 72), patches)
        assert view.shape == (8, 1, 40, 72)
        assert view.min() >= 0
        assert view.max() <= 1 + 1e-6
    # A turned and zoomed ramp has no steps, a shuffled one has them at the edges of its patches only.
    smooth, shuffled = (rearrange(ramp, (64, 64), patches).diff(dim=2).abs().amax((0, 1, 3)) for patches in (1, 8))
    assert smooth.max() < 0.03
    edges = torch.arange(63) % 8 == 7
    assert shuffled[~edges].max() < 0.03
    assert shuffled[edges].min() > 0.1


def test_colour_jitter_keeps_range_and_differs_between_textures() -> None:
    torch.manual_seed(0)
    before = torch.rand(1, 3, 8, 8).repeat(64, 1, 1, 1)
    out = jitter_colours_(before.clone())
    assert out.min() >= 0
    assert out.max() <= 1
    assert len(out.mean((1, 2, 3)).unique()) == 64
    # Each channel is an affine map of what it was where it was not clipped, a negative in about a quarter.
    slopes = []
    for old, new in zip(before.flatten(0, 1).flatten(1), out.flatten(0, 1).flatten(1), strict=True):
        inside = (new > 0) & (new < 1)
        slope, _ = torch.linalg.lstsq(torch.stack((old, torch.ones(64)), 1)[inside], new[inside]).solution.tolist()
        slopes.append(slope)
    absolute = torch.tensor(slopes).abs()
    assert 0.37 < absolute.min() < absolute.max() < 1.9
    assert 0.1 < (torch.tensor(slopes) < 0).float().mean() < 0.4


def test_half_of_the_grey_textures_stay_grey() -> None:
    torch.manual_seed(0)
    out = jitter_colours_(torch.full((200, 3, 1, 1), 0.5))
    stayed = (out.amax(1) - out.amin(1) < 1e-6).float().mean()
    assert 0.35 < stayed < 0.65


def test_shuffled_channels_are_all_six_orders() -> None:
    torch.manual_seed(0)
    orders, counts = shuffled_channels(600, CPU).unique(dim=0, return_counts=True)
    assert len(orders) == 6
    assert (orders.sort(1).values == torch.arange(3)).all()
    assert counts.min() > 60


def test_a_broken_texture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"textures: the image .*broken\.png cannot be read"):
        load_textures(tmp_path)


def test_16_bit_textures_keep_their_contrast(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    (texture,) = load_textures(tmp_path, size=64)
    assert np.abs(texture[0].numpy().astype(int) - (values >> 8)).max() <= 1

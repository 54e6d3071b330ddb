"""Known defects: found in folders, cut out along masks, blended into other images."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy.ndimage import label
from torch import Tensor
from torchvision.transforms.functional import to_pil_image, to_tensor
from torchvision.utils import save_image

from anomalib_dmdd.synthesis import AnomalySimulator
from anomalib_dmdd.synthesis.known import find_known_defects, load_known_defects

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def grey(level: float, side: int = 64, count: int = 1) -> Tensor:
    """Plain images ``(N, 3, side, side)`` in [0, 1]."""
    return torch.full((count, 3, side, side), level)


def square_defect(folder: Path, background: float, colour: list[float]) -> Path:
    """Save a square defect of 16x16 pixels on a plain image of 64x64 pixels, and its mask."""
    image, mask = grey(background)[0], torch.zeros(1, 64, 64)
    image[:, 20:36, 30:46] = torch.tensor(colour).view(3, 1, 1)
    mask[:, 20:36, 30:46] = 1
    save_image(image, folder / "square.png")
    save_image(mask, folder / "square_mask.png")
    return folder


def blend(folder: Path, level: float, count: int = 64) -> tuple[Tensor, Tensor]:
    """Good plain images with one known defect each, in [0, 1], and the masks."""
    torch.manual_seed(0)
    simulator = AnomalySimulator(known_defects=folder, known_share=1.0)
    anomalous, mask = simulator((grey(level, count=count) - MEAN) / STD)
    return anomalous * STD + MEAN, mask


@pytest.mark.parametrize("values", [(0, 1, 1), (0, 255, 255), (0, 1, 2), (0, 1, 7), (9, 250, 230)])
def test_masks_may_hold_numbers_of_defects(values: tuple[int, int, int], tmp_path: Path) -> None:
    square_defect(tmp_path, 0.5, [1.0, 0.0, 0.0])
    mask = torch.full((1, 64, 64), values[0], dtype=torch.uint8)
    mask[:, 20:36, 30:40], mask[:, 20:36, 40:46] = values[1], values[2]
    to_pil_image(mask).save(tmp_path / "square_mask.png")
    weights = load_known_defects(tmp_path, (64, 64), margin=3)[0, 3]
    assert (weights[22:34, 32:44] > 128).all()
    assert not weights[:10].any()


def test_a_mask_belongs_to_the_whole_name_of_its_image(tmp_path: Path) -> None:
    (tmp_path / "ground_truth").mkdir()
    pairs = [(tmp_path / name, tmp_path / "ground_truth" / name) for name in ("part.2.png", "part.png")]
    for path in (path for pair in pairs for path in pair):
        path.touch()
    assert find_known_defects(tmp_path) == pairs


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.png", "a_mask.png"),
        ("scratch/a.JPG", "scratch/a_mask.png"),
        ("a.png", "ground_truth/a.bmp"),
        ("scratch/a.png", "ground_truth/scratch/a_mask.png"),
        ("part/test/scratch/a.png", "part/ground_truth/scratch/a_mask.png"),
    ],
)
def test_masks_are_found_where_people_keep_them(image: str, mask: str, tmp_path: Path) -> None:
    for name in (image, mask, "train/good/b.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_known_defects(tmp_path) == [(tmp_path / image, tmp_path / mask)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "has no images of defects"),
        (lambda folder: (folder / "square_mask.png").unlink(), r"square\.png has no mask.*square_mask\.png"),
        (
            lambda folder: save_image(torch.ones(1, 8, 9), folder / "square_mask.png"),
            r"square_mask\.png has 9x8 pixels, but its image 64x64",
        ),
        (lambda folder: save_image(torch.zeros(1, 64, 64), folder / "square_mask.png"), r"square_mask\.png is empty"),
        (lambda folder: save_image(torch.ones(1, 64, 64), folder / "square_mask.png"), "marks 100% of the image"),
        (
            lambda folder: save_image(
                1 - to_tensor(Image.open(folder / "square_mask.png")), folder / "square_mask.png"
            ),
            "marks 9.% of the image, as if black and white were exchanged",
        ),
        (
            lambda folder: save_image(torch.linspace(0, 1, 64).expand(1, 64, 64), folder / "square_mask.png"),
            "has many shades of grey",
        ),
        (lambda folder: (folder / "square.png").write_bytes(b"no picture"), r"square\.png cannot be read"),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "there is no folder"),
    ],
    ids=["no images", "no mask", "size", "empty", "whole", "inverted", "photograph", "broken", "no folder"],
)
def test_what_is_wrong_is_named(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "known"
    folder.mkdir()
    spoil(square_defect(folder, 0.5, [0.9, 0.1, 0.1]))
    with pytest.raises((ValueError, FileNotFoundError), match=f"known_defects: .*{message}"):
        load_known_defects(folder, (64, 64), margin=3)


@pytest.mark.parametrize("white", [1, 128, 200, 255])
def test_masks_of_any_white_and_soft_edges_are_taken(white: int, tmp_path: Path) -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, 10:50, 10:50] = white
    mask[:, 10:50, 50] = white // 2
    square_defect(tmp_path, 0.5, [0.9, 0.1, 0.1])
    save_image(mask / 255, tmp_path / "square_mask.png")
    assert load_known_defects(tmp_path, (64, 64), margin=3)[0, 3].bool().float().mean() > 0.3


def test_a_line_thinner_than_a_pixel_of_the_training_survives(tmp_path: Path) -> None:
    mask = torch.zeros(1, 512, 512)
    mask[:, 100] = 1
    save_image(torch.rand(3, 512, 512), tmp_path / "line.png")
    save_image(mask, tmp_path / "line_mask.png")
    weight = load_known_defects(tmp_path, (64, 64), margin=3)[0, 3]
    assert (weight[12] == 255).all(), "row 100 of 512 is row 12 of 64"
    assert (weight[[9, 15]] == 0).all()


def test_one_whole_defect_of_its_colour_and_about_its_size_lies_anywhere(tmp_path: Path) -> None:
    rgb, mask = blend(square_defect(tmp_path, 0.5, [0.9, 0.1, 0.1]), 0.5)
    centres = []
    for image, where in zip(rgb, mask[:, 0].bool(), strict=True):
        assert label(where.numpy())[1] == 1
        assert where.sum() < 1.6 * (16 * 1.42 + 4) ** 2
        assert (image[:, ~where] - 0.5).abs().max() < 1e-5
        core = image[0] - image[1] > 0.4  # 0.8 times a contrast of 0.7 or more
        assert core.sum() > 0.3 * where.sum()
        centres.append(where.nonzero().float().mean(0))
    assert mask.flatten(1).any(1).all()
    assert torch.stack(centres).std(0).min() > 10


def test_light_of_a_defect_adapts_by_a_random_share(tmp_path: Path) -> None:
    """A defect 0.2 brighter than its dark surroundings, in images that are 0.4 brighter."""
    rgb, mask = blend(square_defect(tmp_path, 0.2, [0.4, 0.4, 0.4]), 0.6)
    darkest = torch.where(mask.bool(), rgb, 2.0).amin((1, 2, 3))
    brightest = torch.where(mask.bool(), rgb, -1.0).amax((1, 2, 3))
    assert darkest.min() > 0.2 - 0.01, "no darker than the surroundings that it came from"
    assert brightest.max() < 0.6 + 1.3 * 0.2 + 0.01
    assert brightest.max() > 0.75, "sometimes as much brighter than the new surroundings as it was"
    assert darkest.min() < 0.4, "sometimes as it was"


def test_half_of_the_anomalies_are_known_defects(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "black").mkdir()
    save_image(torch.zeros(3, 64, 64), tmp_path / "black/texture.png")  # coloured by no jitter, unlike the square
    (tmp_path / "red").mkdir()
    square_defect(tmp_path / "red", 0.5, [0.9, 0.1, 0.1])
    simulator = AnomalySimulator(tmp_path / "black", known_defects=tmp_path / "red")
    rgb = simulator((grey(0.5, count=200) - MEAN) / STD)[0] * STD + MEAN
    red = (rgb[:, 0] - rgb[:, 1] > 0.4).flatten(1).any(1)
    assert 70 < red.sum() < 130


def test_a_defect_that_would_be_invisible_is_replaced_by_a_simulated_one(tmp_path: Path) -> None:
    _, mask = blend(square_defect(tmp_path, 0.5, [0.5, 0.5, 0.5]), 0.5, count=16)
    assert mask.flatten(1).any(1).sum() > 8  # a plain texture can be invisible, too

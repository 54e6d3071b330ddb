"""Pictures name their images, and never replace those of others."""

import os
from pathlib import Path

import pytest
from PIL import Image

from anomalib_dmdd.picture_names import save_picture, source_of

UNUSUAL = os.fsdecode("größe 1%".encode() + b"\xfc")  # its last byte is not UTF-8


@pytest.mark.parametrize(("name", "saved"), [("1.png", "1"), ("1.JPG", "1"), ("1.tif", "1"), ("1.bmp", "1.bmp")])
def test_images_of_one_name(tmp_path: Path, name: str, saved: str) -> None:
    sources = [tmp_path / folder / name for folder in (UNUSUAL, "b", UNUSUAL)]
    for shade, source in enumerate(sources, 1):
        save_picture(Image.new("L", (8, 8), shade * 60), tmp_path / name, source)
    suffix = ".png" if name == "1.bmp" else Path(name).suffix
    files = [tmp_path / f"{saved}{suffix}", tmp_path / f"{saved}_2{suffix}"]
    assert sorted(tmp_path.iterdir()) == files
    assert [source_of(file) for file in files] == sources[:2]
    shades = [Image.open(file).getpixel((4, 4)) for file in files]
    assert shades == pytest.approx([180, 120], abs=3), "the last picture of an image replaces the first"


def test_other_files_name_no_image(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert source_of(tmp_path / "plain.png") is None
    assert source_of(tmp_path / "notes.txt") is None

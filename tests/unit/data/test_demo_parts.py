"""Drawn parts: what is drawn, where it is kept, how it is read."""

import json
from pathlib import Path

import pytest
import torch
from anomalib.data import AnomalibDataModule
from jsonargparse import ArgumentParser
from pictures import read_picture
from torch import Generator, Tensor
from torchmetrics.functional.classification import binary_auroc

import anomalib_dmdd.data.demo_parts as module
from anomalib_dmdd.data import DemoParts
from anomalib_dmdd.data.defects import KINDS, sample_defect
from anomalib_dmdd.data.drawing import Scene, draw


@pytest.fixture(scope="module")
def parts(demo_root: Path) -> DemoParts:
    datamodule = DemoParts(root=demo_root)
    datamodule.setup()
    return datamodule


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw only a handful of parts."""
    monkeypatch.setattr(module, "PARTS", [("train", "good", 1), ("test", "good", 1), ("test", "chip", 1)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is drawn


def test_layout_is_that_of_mvtec_ad(parts: DemoParts) -> None:
    count = {
        str(folder.relative_to(parts.root)): len(list(folder.glob("*.png"))) for folder in parts.root.glob("flange/*/*")
    }
    assert count["flange/train/good"] == 60
    assert count["flange/test/good"] == 20
    assert len(KINDS) == 3
    for kind in KINDS:
        assert count[f"flange/test/{kind}"] == count[f"flange/ground_truth/{kind}"] == 12
    assert (parts.root / "flange/ground_truth/chip/000_mask.png").is_file()
    assert read_picture(parts.root / "flange/train/good/000.png").shape == (3, 256, 256)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_covers_what_the_defect_changes(kind: str) -> None:
    generator = Generator().manual_seed(5)
    for _ in range(6):
        scene = Scene.sample(generator)
        defect = sample_defect(kind, scene, generator)
        change = (draw(scene, defect).int() - draw(scene).int()).abs().amax(0)
        assert defect.mask.sum() > 100
        assert defect.mask[change > 40].float().mean() > 0.8, "something changed outside of the mask"
        assert (change[defect.mask] > 15).float().mean() > 0.5, "the mask covers what did not change"


def test_parts_differ_in_pose_and_light() -> None:
    generator = Generator().manual_seed(0)
    scenes = [Scene.sample(generator) for _ in range(50)]
    for spread, enough in [
        ([scene.angle for scene in scenes], 0.06),
        ([scene.scale for scene in scenes], 0.008),
        ([scene.shift[0] for scene in scenes], 2.0),
        ([scene.azimuth for scene in scenes], 0.08),
        ([scene.strength for scene in scenes], 0.05),
    ]:
        assert torch.tensor(spread).std() > enough


def statistics(images: Tensor, usual: Tensor) -> dict[str, Tensor]:
    """Numbers (N,) that need no model: of the grey values, the colours and the distance to the mean good part."""
    grey, tint = images.mean(1).flatten(1), (images[:, 0] - images[:, 2]).flatten(1)
    unusual = (images - usual).abs().mean(1).flatten(1)
    return {
        "mean": grey.mean(1),
        "deviation": grey.std(1),
        "maximum": grey.amax(1),
        "minimum": grey.amin(1),
        "tint": tint.mean(1),
        "strongest tint": tint.amax(1),
        "distance": unusual.mean(1),
        "greatest distance": unusual.amax(1),
        "sharpness": images.diff(dim=-1).abs().mean((1, 2, 3)),
    }


def test_defects_do_not_show_in_brightness_contrast_or_colour(parts: DemoParts) -> None:
    usual = torch.stack([item.image for item in parts.train_data]).mean(0)
    images = torch.stack([item.image for item in parts.test_data])
    labels = torch.stack([item.gt_label for item in parts.test_data]).int()
    for name, value in statistics(images, usual).items():
        ranks = value.argsort().argsort() / len(value)
        auroc = binary_auroc(ranks, labels)
        assert max(auroc, 1 - auroc) < 0.75, name


@pytest.mark.usefixtures("few")
def test_same_seed_draws_the_same_bytes_whatever_the_global_generator(tmp_path: Path) -> None:
    drawings = []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        DemoParts(root=tmp_path / str(number), drawing_seed=seed).prepare_data()
        assert torch.equal(before, torch.get_rng_state())
        drawings.append(contents(tmp_path / str(number)))
    first, again, other = drawings
    assert first == again
    assert first["flange/train/good/000.png"] != other["flange/train/good/000.png"]


# Where it is kept


@pytest.mark.usefixtures("few")
def test_second_use_reads_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DemoParts(root=tmp_path / "parts").prepare_data()
    monkeypatch.setattr(module, "draw_parts", lambda *_: pytest.fail("drawn twice"))
    DemoParts(root=tmp_path / "parts").prepare_data()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("seed", [0, 1])
def test_two_processes_may_draw_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    slow, draw_parts = DemoParts(root=tmp_path / "parts"), module.draw_parts

    def draw_after_the_other(folder: Path, number: int) -> None:
        monkeypatch.setattr(module, "draw_parts", draw_parts)
        DemoParts(root=tmp_path / "parts", drawing_seed=seed).prepare_data()
        draw_parts(folder, number)

    monkeypatch.setattr(module, "draw_parts", draw_after_the_other)
    if seed == slow.drawing_seed:
        slow.prepare_data()
    else:
        with pytest.raises(FileExistsError, match="holds the drawing"):
            slow.prepare_data()
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "PARTS", [("train", "good", 1), ("test", "chip", 1)])
        patch.setattr(module, "sample_defect", interrupt)  # after the first picture
        with pytest.raises(KeyboardInterrupt):
            DemoParts(root=tmp_path / "parts").prepare_data()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few")
def test_empty_folder_is_drawn_in(tmp_path: Path) -> None:
    DemoParts(root=tmp_path).prepare_data()
    assert (tmp_path / "flange/train/good/000.png").is_file()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("other", [{"drawing_seed": 1}, {"version": 0}])
def test_other_drawing_is_not_taken_for_this_one(tmp_path: Path, other: dict[str, int]) -> None:
    DemoParts(root=tmp_path, drawing_seed=other.get("drawing_seed", 0)).prepare_data()
    if "version" in other:
        record = json.loads((tmp_path / module.RECORD).read_text())
        (tmp_path / module.RECORD).write_text(json.dumps(record | other))
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds the drawing .* was asked for.*--data\.root"):
        DemoParts(root=tmp_path).prepare_data()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("record", [None, "no JSON"])
def test_foreign_folder_is_left_alone(tmp_path: Path, record: str | None) -> None:
    (tmp_path / "holiday.png").write_bytes(b"precious")
    if record is not None:
        (tmp_path / module.RECORD).write_text(record)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="DemoParts did not draw it"):
        DemoParts(root=tmp_path).prepare_data()
    assert contents(tmp_path) == before


def test_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "parts"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="DemoParts did not draw it"):
        DemoParts(root=path).prepare_data()
    assert path.read_text() == "precious"


# How it is read


def test_batches_are_those_of_an_anomalib_data_module(parts: DemoParts) -> None:
    train, test = next(iter(parts.train_dataloader())), next(iter(parts.test_dataloader()))
    assert train.image.shape == (16, 3, 256, 256)
    assert not train.gt_label.any()
    assert torch.equal(test.gt_label.bool(), test.gt_mask.flatten(1).any(1))
    assert len(parts.val_data) == len(parts.test_data) == 56
    assert (parts.name, parts.category) == ("DemoParts", "flange")


def test_command_line_takes_the_short_name(tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    arguments = ["--data", "DemoParts", "--data.root", str(tmp_path), "--data.drawing_seed", "7", "--data.seed", "1"]
    datamodule = parser.instantiate_classes(parser.parse_args(arguments)).data
    assert type(datamodule) is DemoParts
    assert (datamodule.root, datamodule.drawing_seed, datamodule.seed) == (tmp_path, 7, 1)

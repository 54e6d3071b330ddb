"""The splits of the benchmarks that train with defects: none of them is tested, and all runs test the same images."""

from argparse import Namespace
from pathlib import Path

import known_defects
import mixed_defects
import pytest


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """Seven files of each kind. Each holds its own path."""
    folder = tmp_path / "images/part"
    names = ["train/good/{}.png", "test/good/{}.png"]
    for kind in ("hole", "scratch"):
        names += [f"test/{kind}/{{}}.png", f"ground_truth/{kind}/{{}}_mask.png"]
    for name in names:
        for number in range(7):
            path = folder / name.format(f"{number:03}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path.relative_to(folder)))
    return folder


def stems(folder: Path) -> set[str]:
    return {path.stem.removesuffix("_mask") for path in folder.iterdir()}


def contents(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("seed", [0, 1])
def test_known_defects_are_never_tested(seed: int, category: Path, tmp_path: Path) -> None:
    args = Namespace(category=category, kind="hole", held_out=3, out=tmp_path / "out")
    tested, taught = {}, {}
    for count in (0, 1, 3):
        root, known = known_defects.split(args, count, seed)
        tested[count] = stems(root / "part/test/hole")
        taught[count] = stems(known / "hole") if count else set()
        assert stems(root / "part/ground_truth/hole") == tested[count]
        assert len(stems(root / "part/test/good")) == len(stems(root / "part/train/good")) == 7
        assert len(stems(root / "part/test/scratch")) == 7
    assert tested[0] == tested[1] == tested[3]
    assert [len(taught[count]) for count in (0, 1, 3)] == [0, 1, 3]
    assert taught[1] < taught[3]
    assert len(tested[3] | taught[3]) == 7


@pytest.mark.parametrize("seed", [0, 1])
def test_mixed_defects_are_the_given_share_and_never_tested(seed: int, category: Path, tmp_path: Path) -> None:
    args = Namespace(category=category, shares=[0.0, 0.125, 0.3], out=tmp_path / "out")
    tested, mixed = {}, {}
    for share, count in zip(args.shares, (0, 1, 3), strict=True):
        root, added = mixed_defects.mix(args, share, seed)
        trained = contents(root / "part/train")
        tested[share], mixed[share] = contents(root / "part/test"), {path for path in trained if "test" in path}
        assert len(trained) == 7 + count == 7 + len(added)
        assert len(mixed[share]) == count
        assert added <= {path.name for path in (root / "part/train/good").iterdir()}
    assert tested[0.0] == tested[0.125] == tested[0.3]
    assert len(tested[0.3]) == 21 - 3
    assert mixed[0.125] < mixed[0.3]
    assert not tested[0.3] & mixed[0.3]

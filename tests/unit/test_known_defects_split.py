"""The split of the benchmark of known defects: none of them is tested, and all runs are tested on the same images."""

from argparse import Namespace
from pathlib import Path

import known_defects
import pytest


def stems(folder: Path) -> set[str]:
    return {path.stem.removesuffix("_mask") for path in folder.iterdir()}


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_defects_are_never_tested(seed: int, tmp_path: Path) -> None:
    category = tmp_path / "images/part"
    for name in ("train/good/{}.png", "test/good/{}.png", "test/hole/{}.png", "ground_truth/hole/{}_mask.png"):
        for number in range(7):
            path = category / name.format(f"{number:03}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    args = Namespace(category=category, kind="hole", held_out=3, out=tmp_path / "out")
    tested, taught = {}, {}
    for count in (0, 1, 3):
        root, known = known_defects.split(args, count, seed)
        tested[count] = stems(root / "part/test/hole")
        taught[count] = stems(known / "hole") if count else set()
        assert stems(root / "part/ground_truth/hole") == tested[count]
        assert len(stems(root / "part/test/good")) == len(stems(root / "part/train/good")) == 7
    assert tested[0] == tested[1] == tested[3]
    assert [len(taught[count]) for count in (0, 1, 3)] == [0, 1, 3]
    assert taught[1] < taught[3]
    assert len(tested[3] | taught[3]) == 7

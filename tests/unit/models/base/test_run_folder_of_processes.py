"""All processes of a training write into one folder."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from anomalib_dmdd.models.base.run_folder import share_run_folder


@pytest.mark.parametrize("holds_a_file", [False, True])
def test_a_process_writes_where_the_first_one_does(holds_a_file: bool, tmp_path: Path) -> None:
    own = tmp_path / "v1"
    own.mkdir()
    if holds_a_file:
        (own / "config.yaml").touch()
    first = str(tmp_path / "v0")
    trainer = SimpleNamespace(default_root_dir=str(own), strategy=SimpleNamespace(broadcast=lambda _: first))
    share_run_folder(trainer)
    assert trainer._default_root_dir == first
    assert own.exists() == holds_a_file

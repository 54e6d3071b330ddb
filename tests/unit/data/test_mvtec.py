"""The short name of MVTec AD."""

import inspect
from pathlib import Path
from urllib.error import URLError

import pytest
from anomalib.data import AnomalibDataModule, MVTecAD
from anomalib.data.datamodules.image import mvtecad
from jsonargparse import ArgumentParser

from anomalib_dmdd.data import MVTec


def parse(*arguments: str) -> AnomalibDataModule:
    """Read the arguments as the `anomalib` command reads those of a data module."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    return parser.instantiate_classes(parser.parse_args(arguments)).data


def test_command_line_takes_the_short_name(tmp_path: Path) -> None:
    arguments = ["--data.category", "screw", "--data.root", str(tmp_path), "--data.val_split_mode", "from_test"]
    short, full = parse("--data", "MVTec", *arguments), parse("--data", "MVTecAD", *arguments)
    assert type(short) is MVTec
    assert vars(short) == vars(full)
    assert (short.category, short.root) == ("screw", tmp_path)


def test_arguments_and_defaults_are_those_of_mvtec_ad() -> None:
    assert inspect.signature(MVTec) == inspect.signature(MVTecAD)
    assert vars(MVTec()) == vars(MVTecAD())


def download_fails(*_: object, **__: object) -> None:
    raise URLError("Name or service not known")


def test_a_folder_that_is_there_is_taken_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mvtecad, "download_and_extract", download_fails)
    (tmp_path / "bolts").mkdir()
    MVTec(root=tmp_path, category="bolts").prepare_data()


def test_a_category_that_is_missing_is_downloaded_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots: list[Path] = []
    monkeypatch.setattr(mvtecad, "download_and_extract", lambda root, _: roots.append(root))
    MVTec(root=tmp_path, category="screw").prepare_data()
    assert roots == [tmp_path]
    monkeypatch.setattr(mvtecad, "download_and_extract", download_fails)
    with pytest.raises(ConnectionError, match=r"no folder .*screw.* Name or service not known.*--data.root"):
        MVTec(root=tmp_path, category="screw").prepare_data()


def test_no_download_for_a_category_that_it_would_not_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mvtecad, "download_and_extract", download_fails)
    with pytest.raises(FileNotFoundError, match=r"no folder .*screws, and MVTec AD has no such category"):
        MVTec(root=tmp_path, category="screws").prepare_data()


def test_results_lie_where_those_of_mvtec_ad_do() -> None:
    assert MVTec().name == MVTecAD().name


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(Exception, match="colour"):
        parse("--data", "MVTec", "--data.colour", "red")

"""The short name of MVTec AD."""

import inspect
from pathlib import Path

import pytest
from anomalib.data import AnomalibDataModule, MVTecAD
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


def test_arguments_defaults_and_download_are_those_of_mvtec_ad() -> None:
    assert inspect.signature(MVTec) == inspect.signature(MVTecAD)
    assert vars(MVTec()) == vars(MVTecAD())
    assert MVTec.prepare_data is MVTecAD.prepare_data


def test_results_lie_where_those_of_mvtec_ad_do() -> None:
    assert MVTec().name == MVTecAD().name


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(Exception, match="colour"):
        parse("--data", "MVTec", "--data.colour", "red")

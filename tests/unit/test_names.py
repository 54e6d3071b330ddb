"""A misspelt name or option in the command gets the nearest one."""

from pathlib import Path

import pytest
from anomalib.cli.cli import AnomalibCLI

from anomalib_dmdd import Dmdd
from anomalib_dmdd.names import let_command_suggest, suggestion


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("Dmd", "Dmdd"),
        ("dskd", "Dskd"),
        ("MVTek", "MVTec"),
        ("DemoPart", "DemoParts"),
        ("Patchcor", "Patchcore"),
        ("EarlyStoping", "EarlyStopping"),
        ("CSVLoger", "CSVLogger"),
    ],
)
def test_the_nearest_name_comes_first(given: str, nearest: str) -> None:
    message = suggestion(f"Errors:\n - Expected a dot import path string: {given}\nGiven value: {given}")
    assert f"There is no '{given}'. Did you mean {nearest}" in message


def test_a_path_gets_no_names(tmp_path: Path) -> None:
    assert "--data needs the name of a data module" in suggestion(f"Expected a dot import path string: {tmp_path}")


def test_a_folder_of_the_name_of_a_model_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dskd").mkdir()
    assert suggestion("Expected a dot import path string: dskd").endswith("Did you mean Dskd?")
    assert suggestion(f"Expected a dot import path string: {'x' * 300}") == ""


def test_a_wrong_key_of_a_configuration_file_gets_the_option() -> None:
    message = "Subcommand 'train' does not accept option 'trainer.maxsteps'"
    assert suggestion(message, {"--trainer.max_steps"}).endswith("Did you mean --trainer.max_steps?")


def test_an_argument_is_found_in_the_class_that_it_is_passed_on_to() -> None:
    class PassesOn(Dmdd):
        def __init__(self, **arguments: object) -> None:
            super().__init__(**arguments)

    message = f"Problem with given class_path 'tests.{PassesOn.__name__}':\n Option 'imagesize' is not accepted"
    assert suggestion(message).endswith("Did you mean image_size?")


@pytest.mark.parametrize(("given", "name"), [("DMDD", "Dmdd"), ("mvtec", "MVTec"), ("demoparts", "DemoParts")])
def test_a_name_in_another_case_gets_no_other_names(given: str, name: str) -> None:
    assert suggestion(f"dot import path string: {given}").endswith(f"Did you mean {name}?")


@pytest.mark.parametrize(
    "message",
    [
        "--trainer.max_steps: expected int",
        "dot import path string: zzzzqqqq",
        "Problem with given class_path 'torch.optim.SGD':\n Option 'lrr' is not accepted",
        "Unrecognized arguments: --zzzzqqqq",
    ],
)
def test_other_errors_stay_as_they_are(message: str) -> None:
    assert suggestion(message) == ""


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--model.backbone", ["--model.backbone", "resnet18", "--model", "Dmdd"]),
        ("--data.root", ["--model", "Dmdd", "--data.root", "parts", "--data", "Folder"]),
    ],
)
def test_an_option_before_its_class_is_named(
    option: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    let_command_suggest()
    with pytest.raises(SystemExit):
        AnomalibCLI(["train", *arguments], run=False)
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{option} came before")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "Dmd"],
        ["--model", "Dmdd", "--data", "MVTek"],
        ["--model", "Dmdd", "--model.imagesize", "128"],
        ["--model", "Dmdd", "--data", "Folder", "--data.normaldir", "good"],
        ["--model", "Dmdd", "--trainer.maxsteps", "4"],
        ["--model", "Dmdd", "foo", "--trainer.maxsteps", "4"],
    ],
)
def test_the_command_says_it_last(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    let_command_suggest()
    with pytest.raises(SystemExit):
        AnomalibCLI(["train", *arguments], run=False)
    assert "Did you mean" in capsys.readouterr().err.splitlines()[-1]

"""A misspelt name or option in the command gets the nearest one."""

import pytest
from anomalib.cli.cli import AnomalibCLI

from anomalib_dmdd.names import let_command_suggest, suggestion


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("Dmd", "Dmdd"), ("dskd", "Dskd"), ("MVTek", "MVTec"), ("DemoPart", "DemoParts"), ("Patchcor", "Patchcore")],
)
def test_the_nearest_name_comes_first(given: str, nearest: str) -> None:
    message = suggestion(f"Errors:\n - Expected a dot import path string: {given}\nGiven value: {given}")
    assert f"There is no '{given}'. Did you mean {nearest}" in message


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
    "arguments",
    [
        ["--model", "Dmd"],
        ["--model", "Dmdd", "--data", "MVTek"],
        ["--model", "Dmdd", "--model.imagesize", "128"],
        ["--model", "Dmdd", "--data", "Folder", "--data.normaldir", "good"],
        ["--model", "Dmdd", "--trainer.maxsteps", "4"],
    ],
)
def test_the_command_says_it_last(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    let_command_suggest()
    with pytest.raises(SystemExit):
        AnomalibCLI(["train", *arguments], run=False)
    assert "Did you mean" in capsys.readouterr().err.splitlines()[-1]

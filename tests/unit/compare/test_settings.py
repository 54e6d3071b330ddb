import json
import re
from pathlib import Path
from shlex import split

import pytest

from anomalib_dmdd.compare.command import parse

ROOT = Path(__file__).parents[3]


def test_command_line_of_the_readme() -> None:
    settings = parse(split("--models Dmdd Patchcore --data MVTec --data.category bottle screw"))
    assert settings.models == ["Dmdd", "Patchcore"]
    assert settings.data.as_dict() == {"class_path": "MVTec", "category": ["bottle", "screw"], "init_args": {}}
    assert (settings.seeds, settings.image_size, settings.openvino) == ([0], 256, ["FP32"])


def test_short_and_long_forms_mean_the_same() -> None:
    short = parse(split("--models Dmdd --data DemoParts --data.root=parts --data.num_workers 2 --trainer.max_steps 9"))
    long = parse(
        split(
            "--models Dmdd --data.class_path DemoParts --data.init_args.root parts --data.init_args.num_workers=2"
            " --trainer.max_steps=9"
        )
    )
    assert short == long
    assert short.data.init_args == {"root": "parts", "num_workers": 2}
    assert short.trainer == {"max_steps": 9}


def test_every_option_of_a_command_line() -> None:
    settings = parse(
        split(
            "--models Dmdd Dskd --data BTech --data.category 01 02 --backbones resnet18 resnet34 --seeds 0 1 2"
            " --trainer.max_steps 9 --image_size 64 --accelerator cpu --threads 2 --openvino FP32 INT8"
            " --timed_passes 3 --keep_weights false --out here"
        )
    )
    assert settings.as_dict() == {
        "config": None,
        "models": ["Dmdd", "Dskd"],
        "data": {"class_path": "BTech", "category": ["01", "02"], "init_args": {}},
        "backbones": ["resnet18", "resnet34"],
        "seeds": [0, 1, 2],
        "trainer": {"max_steps": 9},
        "image_size": 64,
        "accelerator": "cpu",
        "threads": 2,
        "openvino": ["FP32", "INT8"],
        "timed_passes": 3,
        "keep_weights": False,
        "out": Path("here"),
    }


def test_models_with_settings_on_the_command_line() -> None:
    model = {"class_path": "Padim", "init_args": {"pre_trained": False}}
    assert parse(["--models", "Dmdd", json.dumps(model)]).models == ["Dmdd", model]


def test_several_values_in_brackets_and_one_after_an_equals_sign() -> None:
    settings = parse(["--models=[Dmdd]", "--seeds", "[1, 2]", "--openvino=[]"])
    assert (settings.models, settings.seeds, settings.openvino) == (["Dmdd"], [1, 2], [])


@pytest.mark.parametrize(
    "wrong", ["models: []", "models: Padim", "{models: [Padim], seeds: []}", "{models: [Padim], seeds: 3}"]
)
def test_wrong_file_is_named(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compare.yaml").write_text(wrong)
    with pytest.raises(SystemExit):
        parse(["--config", str(tmp_path / "compare.yaml")])
    assert re.search("model|seeds", capsys.readouterr().err.rpartition("error:")[2])


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in parse(["--models", "Padim"]).as_dict():
        assert re.search(rf"--{option}[. ]", text)
    for words in ("three seeds", "height and width in pixels", "short form: --data.root", "130 interrupted"):
        assert words in text


def test_file_and_command_line(tmp_path: Path) -> None:
    file = tmp_path / "compare.yaml"
    file.write_text("models: [Padim, {class_path: Patchcore, init_args: {backbone: resnet18}}]\nseeds: [1, 2]\n")
    settings = parse(["--config", str(file), "--seeds", "7", "--openvino"])
    assert settings.models == ["Padim", {"class_path": "Patchcore", "init_args": {"backbone": "resnet18"}}]
    assert settings.seeds == [7]
    assert settings.openvino == []


def test_classes_as_arguments_stay_mappings(tmp_path: Path) -> None:
    file = tmp_path / "compare.yaml"
    file.write_text("""
models:
  - Padim
  - class_path: anomalib_dmdd.Dmdd
    init_args: {post_processor: {class_path: anomalib_dmdd.models.base.DistillationPostProcessor}}
data:
  init_args:
    num_workers: 0
    train_augmentations:
      class_path: torchvision.transforms.v2.Compose
      init_args: {transforms: [{class_path: torchvision.transforms.v2.ColorJitter, init_args: {hue: 0.1}}]}
""")
    settings = parse(["--config", str(file)])
    (jitter,) = settings.data.init_args["train_augmentations"]["init_args"]["transforms"]
    assert jitter["init_args"]["hue"] == 0.1
    assert json.loads(json.dumps([settings.models, settings.data.init_args])) == [
        settings.models,
        settings.data.init_args,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "--models",
        "--models Padim --image_size 0",
        "--models Padim --openvino FP8",
        "--models Padim --seeds",
        "--models Padim --seeds -1",
        "--models Padim --seeds 4294967296",
        "--seeds 1",
        "--modles Padim",
    ],
)
def test_wrong_command_line_ends_with_exit_code_2(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(split(wrong))
    assert exit_.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mvtec", "visa", "demo"])
def test_shipped_files_are_readable(name: str) -> None:
    assert len(parse(["--config", str(ROOT / "configs" / "compare" / f"{name}.yaml")]).models) > 2

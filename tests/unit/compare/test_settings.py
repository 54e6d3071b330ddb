import json
from pathlib import Path
from shlex import split

import pytest

from anomalib_dmdd.compare.settings import parse

ROOT = Path(__file__).parents[3]


def test_command_line_of_the_readme() -> None:
    settings = parse(split("--models Dmdd Patchcore --data MVTec --data.category bottle screw"))
    assert settings.models == ["Dmdd", "Patchcore"]
    assert settings.data == {"class_path": "MVTec", "category": ["bottle", "screw"], "init_args": {}}
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
    assert short.data["init_args"] == {"root": "parts", "num_workers": 2}
    assert short.trainer == {"max_steps": 9}


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
    (jitter,) = settings.data["init_args"]["train_augmentations"]["init_args"]["transforms"]
    assert jitter["init_args"]["hue"] == 0.1
    assert json.loads(json.dumps([settings.models, settings.data])) == [settings.models, settings.data]


@pytest.mark.parametrize(
    "wrong",
    ["--models", "--models Padim --image_size 0", "--models Padim --openvino FP8", "--seeds 1", "--modles Padim"],
)
def test_wrong_command_line_ends_with_exit_code_2(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(split(wrong))
    assert exit_.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mvtec", "visa", "demo"])
def test_shipped_files_are_readable(name: str) -> None:
    assert len(parse(["--config", str(ROOT / "configs" / "compare" / f"{name}.yaml")]).models) > 2

"""Each script under ``examples/`` does on drawn parts what it says."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def checkpoint(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the first example."""
    path: Path = load("train_on_your_folder").train(
        good=demo_root / "flange" / "train" / "good",
        bad=demo_root / "flange" / "test" / "chip",
        masks=demo_root / "flange" / "ground_truth" / "chip",
        out=tmp_path_factory.mktemp("results"),
        model="Bikd",
        backbone="resnet18",
        pre_trained=False,
        steps=2,
        image_size=64,
    )
    return path


def test_train_on_your_folder(checkpoint: Path) -> None:
    assert checkpoint.is_file()
    pictures = list(checkpoint.parents[2].rglob("chip/*.png"))
    assert pictures, "a picture of every test image is written"


def test_export_openvino(
    checkpoint: Path,
    demo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the inferencer keeps its cache in the working directory
    images = demo_root / "flange" / "test" / "scratch"
    scores = load("export_openvino").export(checkpoint, images, tmp_path / "exports")
    assert set(scores) == {str(path) for path in images.glob("*.png")}
    printed = capsys.readouterr().out
    for path, score in scores.items():
        (line,) = (line for line in printed.splitlines() if line.endswith(path))
        assert line.startswith("defective") == (score > 0.5)


def test_sweep_threshold(checkpoint: Path, demo_root: Path, tmp_path: Path) -> None:
    flange = demo_root / "flange" / "test"
    table = load("sweep_threshold").sweep(checkpoint, flange / "good", flange / "chip", keep=0.7, out=tmp_path)
    assert table["defects found"].is_monotonic_increasing
    assert table["good passed"].is_monotonic_decreasing
    stored = torch.load(tmp_path / "weights" / "torch" / "model.pt", weights_only=False)["model"]
    assert stored.post_processor.image_sensitivity == 0.7


def test_sweep_threshold_says_what_is_missing(checkpoint: Path, demo_root: Path, tmp_path: Path) -> None:
    sweep, good = load("sweep_threshold").sweep, demo_root / "flange" / "test" / "good"
    with pytest.raises(SystemExit, match=r"^error: .*is not a readable checkpoint"):
        sweep(good / "000.png", good, good, out=tmp_path)
    with pytest.raises(SystemExit, match=r"^error: .*nowhere"):
        sweep(checkpoint, good, tmp_path / "nowhere", out=tmp_path)


def test_sweep_threshold_refuses_raw_scores(
    checkpoint: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, good = load("sweep_threshold"), demo_root / "flange" / "test" / "good"
    model, content = example.load_trained(checkpoint)
    model.post_processor.enable_normalization = False
    monkeypatch.setattr(example, "load_trained", lambda _: (model, content))
    with pytest.raises(SystemExit, match=r"^error: The scores of this model are raw"):
        example.sweep(checkpoint, good, good, out=tmp_path)


def test_custom_post_processor(demo_root: Path, tmp_path: Path) -> None:
    settings = {"border": 12, "steps": 2, "image_size": 64, "parts": demo_root, "out": tmp_path}
    model = load("custom_post_processor").train("Dskd", **settings).eval()
    assert model.post_processor.border == 12, "the setting comes back from the checkpoint"
    model.post_processor.enable_normalization = False
    anomaly_map = model(torch.rand(1, 3, 100, 100)).anomaly_map[0, 0]
    assert anomaly_map.shape == (64, 64)
    assert anomaly_map[12:-12, 12:-12].all()
    assert not anomaly_map[:12].any()
    assert not anomaly_map[:, -12:].any()
    model.post_processor.border = 0
    assert model(torch.rand(1, 3, 100, 100)).anomaly_map.all()


def test_compare_models(demo_root: Path, tmp_path: Path) -> None:
    models = ['{"class_path": "Padim", "init_args": {"pre_trained": false}}']
    options = ["--models", *models, "--data", "DemoParts", "--data.root", str(demo_root), "--out", str(tmp_path)]
    options += ["--image_size", "64", "--trainer.max_steps", "2", "--openvino", "--timed_passes", "3", "--threads", "1"]
    choose = load("compare_models").choose
    assert choose(options, at_most_ms=60_000) == "Padim"
    assert choose(options, at_most_ms=0) is None


def test_compare_models_chooses_nothing_after_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.csv").write_text("model,error,torch_ms,openvino_fp32_ms,image_AUROC\nOld,,1,1,1\n")
    with pytest.raises(SystemExit, match="2"):
        load("compare_models").choose(["--models", "Dmddd", "--out", str(tmp_path)], at_most_ms=60)
    assert "There is no 'Dmddd'" in capsys.readouterr().out


def test_compare_models_leaves_out_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("compare_models")
    monkeypatch.setattr(example, "main", lambda _: 1)
    (tmp_path / "results.csv").write_text(
        "model,category,status,error,torch_ms,openvino_fp32_ms,image_AUROC\n"
        "A,easy,ok,,1,1,1.0\nA,hard,failed,no memory,,,\nB,easy,ok,,1,1,0.9\nB,hard,ok,,1,1,0.7\n"
    )
    assert example.choose(["--models", "A", "B", "--out", str(tmp_path)], at_most_ms=60) == "B"

"""The inspector gives the answers of Anomalib without PyTorch, and says by its exit code what it found."""

import csv
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from anomalib.data.utils import read_image as anomalib_read_image
from anomalib.deploy import OpenVINOInferencer
from anomalib.engine import Engine
from PIL import Image
from small_models import build
from torchvision.datasets.folder import IMG_EXTENSIONS

from anomalib_dmdd import DemoParts, inspector
from anomalib_dmdd.inspector import Inspector

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
BLOCKED = ("torch", "anomalib", "anomalib_dmdd", "lightning", "rich", "cv2")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def exported(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any, Engine]]:
    """A trained model with thresholds: its file, itself and its Engine."""
    root = tmp_path_factory.mktemp("export")
    quiet = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}
    engine = Engine(default_root_dir=root, logger=False, max_steps=2, **quiet)
    model = build("Bikd")
    engine.fit(model, datamodule=DemoParts(root=demo_root, train_batch_size=4, eval_batch_size=16, num_workers=0))
    yield engine.export(model, "openvino", export_root=root), model, engine
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def pictures(demo_root: Path) -> list[Path]:
    return [*sorted(demo_root.rglob("test/chip/*.png"))[:2], *sorted(demo_root.rglob("test/good/*.png"))[:2]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The script, copied to an empty folder, in a Python without torch and Anomalib."""
    for name in BLOCKED:
        stub = tmp_path / f"blocked/{name}/__init__.py"
        stub.parent.mkdir(parents=True)
        stub.write_text(f"raise ImportError('{name} is blocked')")
    line = tmp_path / "line"
    line.mkdir()
    monkeypatch.chdir(line)
    shutil.copy(inspector.__file__, line / "inspector.py")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "blocked")}

    def start(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *(str(argument) for argument in arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        return subprocess.run(command, env=environment, timeout=100, check=False, **options)

    return start


def write_model(
    path: Path = Path("model.xml"), label_above: float | None = 0.5, score: str = "pred_score", **facts: str
) -> Path:
    """A model without weights: its map is the brightness of the image, and its score the highest."""
    image = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    anomaly_map = ops.reduce_mean(image, ops.constant([1]), keep_dims=True)
    highest = ops.reduce_max(anomaly_map, ops.constant([1, 2, 3]), keep_dims=False)
    outputs = {"anomaly_map": anomaly_map, score: highest}
    if label_above is not None:
        outputs["pred_label"] = ops.greater(highest, ops.constant(np.float32(label_above)))
    for name, node in outputs.items():
        node.output(0).set_names({name})
    model = ov.Model(list(outputs.values()), [image])
    for name, value in facts.items():
        model.set_rt_info(value, ["anomalib_dmdd", name])
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def picture(path: str | Path, spot: int = 0, **options: Any) -> np.ndarray:
    """Write a dark image with a spot of this brightness in its upper left, and return its pixels."""
    pixels = np.full((20, 30, 3), 20, np.uint8)
    pixels[2:8, 2:8] = max(spot, 20)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def rows(path: str = "results.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_script_agrees_with_anomalib(exported: tuple[Path, Any, Engine], pictures: list[Path], run: Run) -> None:
    model, trained, engine = exported
    assert run("-c", "import torch").returncode == 1, "torch is not blocked"
    for suffix in (".xml", ".bin"):
        shutil.copy(model.with_suffix(suffix), f"model{suffix}")
    done = run("inspector.py", "model.xml", *pictures, "--csv", "results.csv")
    expected = {str(path): engine.predict(trained, data_path=path)[0] for path in pictures}
    assert done.returncode == int(any(answer.pred_label.item() for answer in expected.values())), done.stderr
    assert done.stderr == ""
    found = rows()
    assert [row["file"] for row in found] == sorted(expected)
    for row in found:
        assert float(row["score"]) == pytest.approx(expected[row["file"]].pred_score.item(), abs=1e-4)
        assert row["verdict"] == ("defective" if expected[row["file"]].pred_label.item() else "good")
        assert float(row["milliseconds"]) > 0
    assert len({row["score"] for row in found}) == len(pictures), "scores that are all the same compare nothing"
    assert "model: Bikd\n" in done.stdout
    assert f"4 images, {sum(row['verdict'] == 'defective' for row in found)} defective, 0 unreadable" in done.stdout


@pytest.mark.parametrize("fixed", [False, True])
def test_any_file_gives_the_answers_of_the_engine(
    fixed: bool,
    exported: tuple[Path, Any, Engine],
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path, model, engine = exported
    if fixed:
        network = ov.Core().read_model(path)
        network.reshape([-1, 3, 64, 64])  # the input of an export with --input_size "[64, 64]"
        path = tmp_path / "fixed.xml"
        ov.save_model(network, path, compress_to_fp16=False)
    ours = Inspector(path)
    for picture_path in pictures:
        (expected,) = engine.predict(model, data_path=picture_path)
        result = ours.predict(inspector.read_image(picture_path))
        assert result.score == pytest.approx(expected.pred_score.item(), abs=1e-4)
        assert result.anomaly_map.dtype == np.float32
        assert np.ptp(result.anomaly_map) > 0.02
        np.testing.assert_allclose(result.anomaly_map, expected.anomaly_map.squeeze(), atol=1e-4)
    small = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    reference = OpenVINOInferencer(path, device="CPU", config=EXACT)
    assert ours.predict(small).score == pytest.approx(reference.predict(small).pred_score.item(), abs=1e-5)


def test_ignored_regions(
    exported: tuple[Path, Any, Engine], pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    everything, pixels = Inspector(exported[0]), inspector.read_image(pictures[0])
    facts = everything.facts
    assert facts["image_threshold"] != facts["pixel_threshold"], "the test needs two thresholds"
    before = everything.predict(pixels)
    Image.new("L", (10, 10)).save("black.png")
    assert Inspector(exported[0], ignore="black.png").predict(pixels).score == pytest.approx(before.score, abs=1e-4)
    row, column = np.unravel_index(before.anomaly_map.argmax(), before.anomaly_map.shape)
    mask = np.zeros((128, 128), np.uint8)  # twice the size of the map
    mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 255
    Image.fromarray(mask).save("mask.png")
    after = Inspector(exported[0], ignore="mask.png").predict(pixels)
    changed = np.argwhere(after.anomaly_map != before.anomaly_map)
    assert changed.tolist() == [[row, column]]
    assert after.anomaly_map[row, column] == 0
    assert after.score < before.score


def test_ignored_scores_without_thresholds_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = picture("part.png", spot=204)
    Image.new("L", (5, 5)).save("black.png")
    Image.new("L", (5, 5), 255).save("white.png")
    result = Inspector(write_model(), ignore="black.png").predict(pixels)
    assert result.score == pytest.approx(0.8)
    assert result.is_defective
    with pytest.raises(ValueError, match="ignores the whole image"):
        Inspector("model.xml", ignore="white.png")
    known = write_model(Path("known.xml"), image_threshold="4", pixel_threshold="2")
    assert Inspector(known, ignore="black.png").predict(pixels).score == pytest.approx(0.5)  # raw 4, from 2 * sqrt(4)


def test_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = picture("part.png", spot=153)  # a score of 0.6
    Image.new("L", (5, 5)).save("black.png")
    sensitive = write_model(Path("sensitive.xml"), label_above=0.55)
    verdicts = {
        threshold: Inspector(sensitive, threshold=threshold).predict(pixels).verdict for threshold in (0.5, 0.7)
    }
    assert verdicts == {0.5: "defective", 0.7: "good"}
    lazy = write_model(Path("lazy.xml"), label_above=0.7)
    assert not Inspector(lazy).predict(pixels).is_defective, "the label of the model counts"
    assert Inspector(write_model(Path("unlabelled.xml"), None)).predict(pixels).is_defective
    known = write_model(Path("known.xml"), 0.7, image_sensitivity="0.3")  # the threshold is 0.7
    assert not Inspector(known, ignore="black.png").predict(pixels).is_defective, "so does its sensitivity"
    untrained = write_model(Path("untrained.xml"), 1.0, image_threshold="nan", pixel_threshold="nan")
    for options, defective in (({}, False), ({"ignore": "black.png"}, False), ({"threshold": 0.5}, True)):
        assert Inspector(untrained, **options).predict(pixels).is_defective == defective
    with pytest.raises(ValueError, match="score from 0 to 1"):
        Inspector(lazy, threshold=50)


def test_exit_codes_and_subfolders(run: Run) -> None:
    write_model()
    for name in ("a.png", "deep/er/b.JPG", "c.tif"):
        picture(f"parts/{name}")
    Path("parts/notes.txt").write_text("no image")
    good = run("inspector.py", "model.xml", "parts", "--csv", "results.csv")
    assert (good.returncode, good.stderr) == (0, "")
    files = [str(Path("parts", name)) for name in ("a.png", "c.tif", "deep/er/b.JPG")]
    assert [row["file"] for row in rows()] == files
    assert [line.split()[0] for line in good.stdout.splitlines()[:-1]] == files
    assert good.stdout.splitlines()[-1].startswith("3 images, 0 defective, 0 unreadable, median ")

    Path("parts/broken.png").write_bytes(Path("parts/a.png").read_bytes()[:60])
    broken = run("inspector.py", "model.xml", "parts", "--csv", "results.csv")
    assert broken.returncode == 3
    assert broken.stderr.count("\n") == 1
    assert str(Path("parts/broken.png")) in broken.stderr
    assert len(rows()) == 3

    picture("parts/deep/d.webp", spot=255)
    defective = run("inspector.py", "model.xml", "parts", "--csv", "results.csv")
    assert defective.returncode == 1
    assert "4 images, 1 defective, 1 unreadable" in defective.stdout
    assert {row["file"]: row["verdict"] for row in rows()}[str(Path("parts/deep/d.webp"))] == "defective"
    assert run("inspector.py", "model.xml", "parts/a.png", "--threshold", "0.05").returncode == 1
    assert run("inspector.py", "model.xml", "parts/broken.png").returncode == 2


def test_what_cannot_be_listed_is_not_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model()
    for name in ("parts/a.png", "parts/locked/b.png"):
        picture(name)
    assert inspector.main(["model.xml", "parts"]) == 0
    Path("parts/link.png").symlink_to("nowhere.png")
    assert inspector.main(["model.xml", "parts"]) == 3
    assert f"unreadable: {Path('parts/link.png')}" in capsys.readouterr().err
    Path("parts/link.png").unlink()

    def scandir(path: str, listed: Callable[[str], Any] = os.scandir) -> Any:  # noqa: ANN401
        if str(path).endswith("locked"):  # root may list any folder, so its rights cannot be taken away
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert inspector.main(["model.xml", "parts"]) == 3
    captured = capsys.readouterr()
    assert f"unreadable: {Path('parts/locked')}" in captured.err
    assert "1 images, 0 defective, 1 unreadable" in captured.out


def test_linked_folders_are_inspected_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model()
    picture("parts/a.png")
    picture("camera/b.png", spot=255)
    for link in ("parts/one", "parts/two"):
        Path(link).symlink_to(tmp_path / "camera")
    Path("camera/back").symlink_to(tmp_path / "parts")
    for options in ([], ["--overlays", "camera/overlays"], ["--overlays", "camera/overlays"]):
        assert inspector.main(["model.xml", "parts", *options]) == 1
        assert "2 images, 1 defective" in capsys.readouterr().out, "each once, and no overlay of before"


def test_a_fault_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model()
    picture("part.png")
    for fault, code in ((TypeError("a fault"), 2), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr(inspector, "Inspector", Mock(side_effect=fault))
        assert inspector.main(["model.xml", "part.png"]) == code
    assert "TypeError: a fault" in capsys.readouterr().err


def test_an_image_that_the_network_refuses_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model()
    picture("parts/odd.png"), picture("parts/part.png")
    predict = inspector.Inspector.predict
    calls = count()

    def refuse(self: inspector.Inspector, image: np.ndarray) -> inspector.Inspection:
        if next(calls) == 1:  # behind the first run with a black image
            raise RuntimeError("Exception from src/inference:\nEltwise shapes do not fit")
        return predict(self, image)

    monkeypatch.setattr(inspector.Inspector, "predict", refuse)
    assert inspector.main(["model.xml", "parts"]) in {1, 3}
    said = capsys.readouterr()
    assert f"unreadable: {Path('parts/odd.png')}: Eltwise shapes do not fit" in said.err
    assert "1 images" in said.out


def test_the_script_reads_the_files_that_anomalib_reads() -> None:
    assert set(IMG_EXTENSIONS) == inspector.SUFFIXES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.xml", "part.png"], "none.xml, which does not exist"),
        (["alone.xml", "part.png"], "alone.bin, which does not exist"),
        (["garbage.xml", "part.png"], "not a model of OpenVINO"),
        (["part.png", "part.png"], "must be an .xml file"),
        (["other.xml", "part.png"], "not an anomaly model"),
        (["raw.xml", "part.png"], "scores of raw.xml are raw"),
        (["model.xml", "part.png", "--device", "TOASTER"], "TOASTER"),
        (["model.xml", "part.png", "--threshold", "7"], "score from 0 to 1"),
        (["model.xml", "part.png", "--ignore", "none.png"], "none.png"),
        (["model.xml", "part.png", "--ignore", "ones.png"], "no white pixel"),
        (["model.xml", "missing"], "missing does not exist"),
        (["model.xml", "part.png", "--ignore", "bomb.png"], "The mask bomb.png cannot be read: Image size"),
        (["model.xml", "empty"], "No images were found in empty"),
        (["model.xml", "part.png", "empty"], "No images were found in empty"),
        (["model.xml", "part.png", "--csv", "part.png"], "would overwrite"),
        (["model.xml", "part.png", "--csv", inspector.__file__], "would overwrite"),
        (["model.xml", "part.png", "--ignore", "mask.png", "--csv", "mask.png"], "would overwrite"),
        (["model.xml", "part.png", "part.png.jpg", "--overlays", "."], "would overwrite"),
        (["model.xml", ".", "--overlays", "."], "must not be a folder of the images"),
    ],
)
def test_what_cannot_work_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model()
    write_model(Path("other.xml"), score="logits")
    write_model(Path("alone.xml"))
    write_model(Path("raw.xml"), scores="raw")
    Path("alone.bin").unlink()
    for name in ("garbage.xml", "garbage.bin"):
        Path(name).write_text("garbage")
    for name in ("part.png", "part.png.jpg", "mask.png", "bomb.png"):
        picture(name)
    if "bomb.png" in arguments:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    Path("empty").mkdir()
    Image.fromarray(np.eye(30, dtype=np.uint8)).save("ones.png")
    before = Path("part.png").read_bytes()
    assert inspector.main(arguments) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert message in output.err
    assert Path("part.png").read_bytes() == before


def test_overlays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_model()
    good, bad = picture("parts/good.png"), picture("parts/new/bad.png", spot=255)
    picture("more/good.png")
    for _ in range(2):  # the second time, the overlays of the first are no images to inspect
        assert inspector.main(["model.xml", "parts", "--overlays", "parts/overlays"]) == 1
        assert "2 images, 1 defective" in capsys.readouterr().out
    overlays = {path.relative_to("parts/overlays").as_posix() for path in Path("parts/overlays").rglob("*.*")}
    assert overlays == {"good.png.jpg", "new/bad.png.jpg"}
    drawn = {name: np.asarray(Image.open(f"parts/overlays/{name}")).astype(int) for name in overlays}
    yellow = {name: (pixels[..., :2].min(2) > 140) & (pixels[..., 2] < 110) for name, pixels in drawn.items()}
    assert not yellow["good.png.jpg"].any()
    assert yellow["new/bad.png.jpg"][:10, :10].any()
    assert not yellow["new/bad.png.jpg"][12:, 12:].any()
    assert np.array_equal(inspector.read_image(Path("parts/good.png")), good)
    assert np.array_equal(inspector.read_image(Path("parts/new/bad.png")), bad)
    inspector.main(["model.xml", "parts/good.png", "more", "--overlays", "both"])
    assert {path.as_posix() for path in Path("both").rglob("*.jpg")} == {
        "both/parts/good.png.jpg",
        "both/more/good.png.jpg",
    }


def test_an_interruption_loses_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model()
    for name in "abc":
        picture(f"{name}.png")
    read, seen = inspector.read_image, []

    def read_or_stop(path: Path) -> np.ndarray:
        seen.append(len(rows()))  # what has reached the disk so far
        if path.name == "c.png":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(inspector, "read_image", read_or_stop)
    assert inspector.main(["model.xml", ".", "--csv", "results.csv"]) == 130
    assert seen == [0, 1, 2]
    assert "2 images, 0 defective, 0 unreadable" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_is_for_terminals(run: Run) -> None:
    import pty  # noqa: PLC0415  # Windows has none

    write_model()
    for name in "ab":
        picture(f"{name}.png")
    ours, theirs = pty.openpty()
    assert run("inspector.py", "model.xml", ".", stderr=theirs).returncode == 0
    os.write(theirs, b"end")  # so that reading does not wait for ever
    shown = os.read(ours, 10000).decode()
    os.close(ours)
    os.close(theirs)
    assert "image 2 of 2, 50 %" in shown
    assert "min left" in shown
    assert run("inspector.py", "model.xml", ".").stderr == ""


def test_files_are_read_as_anomalib_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    picture("rotated.jpg", spot=200, exif=exif)
    for mode in ("RGBA", "L", "LA", "P", "1", "CMYK"):
        random = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
        name = f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        (Image.fromarray(random, "RGBA") if mode == "RGBA" else Image.fromarray(random[..., :3]).convert(mode)).save(
            name
        )
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(files) == 7
    for path in files:
        np.testing.assert_allclose(inspector.to_rgb(inspector.read_image(path)), anomalib_read_image(path), atol=1e-6)


def test_16_bit_files_are_scaled(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey * 257).save(tmp_path / "grey.png")
    Image.fromarray((grey * 257).astype(np.int32)).save(tmp_path / "grey.tif")
    for name in ("grey.png", "grey.tif"):
        pixels = inspector.to_rgb(inspector.read_image(tmp_path / name))
        np.testing.assert_allclose(pixels, np.repeat(grey[..., None] / 255, 3, 2), atol=1e-6)
    assert anomalib_read_image(tmp_path / "grey.png")[1:].min() == 1, "Anomalib has learned to scale: change the note"


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 5), 51, np.uint8), 0.2),
        (np.full((4, 5, 3), 51, np.uint8), 0.2),
        (np.dstack([np.full((4, 5, 3), 51, np.uint8), np.full((4, 5), 255, np.uint8)]), 0.2),
        (np.full((4, 5), 13107, np.uint16), 0.2),
        (np.full((4, 5), 13107, ">u2"), 0.2),
        (np.full((4, 5, 3), 0.2), 0.2),
        (np.full((4, 5, 3), 1, np.uint8), 1 / 255),  # dark, not the float image 1.0
    ],
)
def test_arrays(array: np.ndarray, expected: float) -> None:
    pixels = inspector.to_rgb(array)
    assert (pixels.shape, pixels.dtype) == ((4, 5, 3), np.float32)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5), np.int64),
        np.zeros((4, 5), bool),
        [[1]],
        None,
        np.full((4, 5), 255.0),
        np.full((4, 5), -0.1),
        np.full((4, 5), np.nan),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must have the shape|must lie between"):
        inspector.to_rgb(array)

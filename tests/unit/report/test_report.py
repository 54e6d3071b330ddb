"""The page of a report: what it holds, what it says of broken folders, and how it answers in a browser."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from pictures import read_picture
from PIL import Image

from anomalib_dmdd.picture_names import save_picture
from anomalib_dmdd.report.command import main
from anomalib_dmdd.report.figures import draw_histogram
from anomalib_dmdd.report.pictures import DISTANCES, MAP

MARKUP = "<img src=x onerror='document.title=1'>.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


def draw(path: Path, value: int = 90, mode: str = "RGB") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (40, 30), (value,) * 3 if mode == "RGB" else value).save(path)
    return str(path)


def write_table(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two categories. The first has an older version, a later prediction, a map, a mask, and a name with markup."""
    parts, results = tmp_path / "parts", tmp_path / "results"
    names = ("good/1.png", "good/2.png", f"bad/{MARKUP}", "bad/2.png")
    files = [draw(parts / name) for name in names]
    mask = draw(tmp_path / "masks/2.png", 255, "L")
    run = results / "Bikd/screw/v10"
    known = [False, False, True, True]
    write_table(run / "predictions.csv", file=files, score=[0.1, 0.6, 0.4, 0.9], known_anomalous=known)
    write_table(run / "predictions_2.csv", file=files[3:], score=[0.8], mask=[mask])
    write_table(results / "Bikd/screw/v9/predictions.csv", file=files, score=[0.0] * 4)
    heat = np.zeros((15, 20), np.uint8)
    heat[3:9, 3:9] = 255
    newer = [draw(parts / "new/5.png"), str(parts / "new/gone.png")]
    (run / "maps/bad").mkdir(parents=True)
    Image.fromarray(heat.T).save(run / "maps/bad/2.png")  # of another image
    save_picture(Image.fromarray(heat), run / "maps/bad/2.png", Path(files[3]))
    write_table(results / "Bikd/tile/v0/predictions.csv", file=newer, score=[0.3, 0.2])
    return results


def data_of(page: Path) -> dict[str, Any]:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[0])


def test_what_the_page_holds(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"newer version: .*v9\n", said)
    assert "1 of 6 images have no picture" in said
    page = results / "report.html"
    images = data_of(page)["images"]
    assert [image["score"] for image in images] == [0.8, 0.6, 0.4, 0.3, 0.2, 0.1]
    assert [image["known"] for image in images] == [True, False, True, None, None, False]
    assert [image["folder"] for image in images[:3]] == ["bad", "good", "bad"]
    assert {image["run"] for image in images} == {"Bikd/screw", "Bikd/tile"}
    assert images[2]["name"] == MARKUP
    assert MARKUP not in page.read_text()
    drawn = {picture["title"]: results / picture["source"] for picture in images[0]["pictures"]}
    assert list(drawn)[::2] == ["image", "mask"]
    plain, overlay, _ = (read_picture(path).int() for path in drawn.values())
    changed = (overlay - plain).abs().amax(0) > 30
    assert changed[8:16, 8:16].all(), "the map is twice as small as the image"
    assert not changed[25:].any()


def test_an_explanation_belongs_to_the_model_of_the_score(results: Path) -> None:
    """Two models explain one image, and a third, without an explanation, has scored it in another run."""
    files = pd.read_csv(results / "Bikd/tile/v0/predictions.csv")["file"][:1]
    for name, score in {"Dmdd": 0.573, "Bikd": 0.301}.items():
        picture = draw(results / name / "explanations/5.png", 40 if name == "Dmdd" else 200)
        write_table(Path(picture).parent / "explained.csv", file=files, score=[score], picture=["5.png"])
    write_table(results / "Other/predictions.csv", file=files, score=[0.9])
    assert main([str(results)]) == 0
    shown = {}
    for image in data_of(results / "report.html")["images"]:
        pictures = {picture["title"]: results / picture["source"] for picture in image["pictures"]}
        if image["file"] == files[0] and DISTANCES in pictures:
            shown[image["run"]] = float(read_picture(pictures[DISTANCES]).float().mean())
    assert shown == {"Bikd/tile": pytest.approx(200, abs=3)}


def test_maps_of_names_in_capitals_are_drawn(tmp_path: Path) -> None:
    image = Path(draw(tmp_path / "parts/1.PNG"))
    heat = np.zeros((30, 40), np.uint8)
    heat[5:15, 5:15] = 255
    (tmp_path / "run/maps").mkdir(parents=True)
    save_picture(Image.fromarray(heat), tmp_path / "run/maps/1.PNG", image)
    write_table(tmp_path / "run/predictions.csv", file=[str(image)], score=[0.5])
    assert main([str(tmp_path / "run")]) == 0
    (found,) = data_of(tmp_path / "run/report.html")["images"]
    assert MAP in {picture["title"] for picture in found["pictures"]}


def test_runs_keep_their_own_thresholds(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results)]) == 0
    assert data_of(results / "report.html")["thresholds"] == {}
    assert "thresholds" not in capsys.readouterr().out
    table = pd.read_csv(results / "Bikd/tile/v0/predictions.csv")
    write_table(results / "Bikd/tile/v0/predictions.csv", **table, threshold=0.1, raw_threshold=[2.0, 3.0])
    assert main([str(results)]) == 0
    assert data_of(results / "report.html")["thresholds"] == {"Bikd/screw": 0.5, "Bikd/tile": 0.1}
    said = capsys.readouterr().out
    assert "different thresholds: Bikd/screw 0.5, Bikd/tile 0.1." in said
    assert "Bikd/tile: its images were scored with different thresholds" in said
    write_table(results / "Bikd/tile/v0/predictions.csv", **table, threshold=np.inf)  # raw scores without a threshold
    assert main([str(results)]) == 0
    assert data_of(results / "report.html")["thresholds"] == {"Bikd/screw": 0.5, "Bikd/tile": 1.0}


def test_a_page_elsewhere_and_one_run(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere.html"
    assert main([str(results / "Bikd/screw/v9"), "--out", str(out)]) == 0
    (image, *_) = data_of(out)["images"]
    assert image["run"] == "v9"
    assert (tmp_path / image["pictures"][0]["source"]).is_file()


def test_a_newer_page_replaces_the_pictures_of_an_older_one_at_its_end(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictures() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    folder = results / "report_files"
    assert main([str(results)]) == 0
    (folder / "notes-of-mine.jpg").touch()
    before = pictures()
    table = results / "Bikd/tile/v0/predictions.csv"
    write_table(table, file=pd.read_csv(table)["file"][:1], score=[0.95])
    with monkeypatch.context() as patch:
        patch.setattr("anomalib_dmdd.report.command.render", Mock(side_effect=OSError("disk full")))
        assert main([str(results)]) == 2
    assert pictures() == before, "the older page still shows its own pictures"
    assert main([str(results)]) == 0
    shown = [
        Path(one["source"]).name for image in data_of(results / "report.html")["images"] for one in image["pictures"]
    ]
    assert set(pictures()) == {*shown, "notes-of-mine.jpg"}


def test_images_of_several_drives(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.commonpath", Mock(side_effect=ValueError("Paths don't have the same drive")))
    assert main([str(results)]) == 0
    image, *_ = data_of(results / "report.html")["images"]
    assert image["folder"] == "/".join(Path(image["file"]).parent.parts[1:])


def test_errors_in_one_line(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = {
        "no_columns": "a,b\n1,2\n",
        "no_table": '"',
        "no_images": "file,score\n",
        "no_number": "file,score\na,b\n",
    }
    for name, text in tables.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.csv").write_text(text)
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("empty", "no predictions.csv"),
        ("no_columns", "no column file and score"),
        ("no_table", "cannot be read"),
        ("no_images", "no images"),
        ("no_number", "not a number"),
    ):
        assert main([str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    for line, message in ((["nowhere"], "no folder"), ([str(results), "--out", "page.txt"], ".html")):
        with pytest.raises(SystemExit, match="2"):
            main(line)
        assert message in capsys.readouterr().err


ACTIONS = """
const told = [], say = () => told.push([$("missed").textContent, $("alarms").textContent, $("called").textContent,
  cards.filter((card) => !card.hidden).length]);
const turn = (id, value, kind) => { $(id).value = value; $(id).dispatchEvent(new Event(kind)); };
say();
turn("slider", "0.35", "input"); say();
turn("number", "0.85", "input"); say();
turn("verdict", "missed", "change"); say();
turn("verdict", "", "change"); turn("label", "unknown", "change"); say();
turn("label", "", "change"); turn("run", "Bikd/tile", "change"); say();
turn("run", "", "change"); turn("folder", "good", "change"); say();
turn("folder", "", "change");
cards[2].click();
const viewed = $("viewer-title").textContent, pictures = document.querySelectorAll("#pictures img");
$("next").click();
const next = $("viewer-title").textContent, line = $("command").value, title = document.title;
pictures[0].decode().then(() => pictures[0].naturalWidth, () => 0).then((width) => {
  document.body.textContent = `RESULT${JSON.stringify({ told, viewed, width, next, line, title })}END`;
});
"""


def run_in_a_browser(page: Path, script: str, profile: Path) -> Any:  # noqa: ANN401  # whatever the script tells
    """What a script on the page leaves in its body, between RESULT and END; skips without a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser found: {', '.join(BROWSERS)}")
    page.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    done = subprocess.run(
        [browser, *options, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return json.loads(html.unescape(re.findall(r"RESULT(.*)END", done.stdout)[-1]))


def test_the_page_in_a_browser(results: Path, tmp_path: Path) -> None:
    assert main([str(results)]) == 0
    answer = run_in_a_browser(results / "report.html", ACTIONS, tmp_path)
    assert answer["told"] == [
        ["1", "1", "2", 6],  # at 0.5
        ["0", "1", "3", 6],  # at 0.35
        ["2", "0", "0", 6],  # at 0.85
        ["2", "0", "0", 2],  # missed defects only
        ["2", "0", "0", 2],  # unknown labels only
        ["0", "0", "0", 2],  # one run
        ["0", "0", "0", 2],  # one folder
    ]
    assert answer["viewed"] == f"bad/{MARKUP}"
    assert answer["width"] == 40
    assert answer["next"] == "new/5.png"
    assert answer["line"].endswith("--threshold 0.85")
    assert answer["title"].endswith("6 images"), "markup in a file name ran as a script"


def test_the_slider_reaches_raw_scores_above_one(results: Path, tmp_path: Path) -> None:
    table = results / "Bikd/tile/v0/predictions.csv"
    write_table(table, **pd.read_csv(table).assign(score=[7.5, 2.0], threshold=3.0))
    assert main([str(results / "Bikd/tile/v0")]) == 0
    script = """
    const told = [$("slider").max, $("slider").value, $("number").value, $("called").textContent];
    document.body.textContent = `RESULT${JSON.stringify(told)}END`;
    """
    page = results / "Bikd/tile/v0/report.html"
    assert run_in_a_browser(page, script, tmp_path) == ["7.5", "3", "3", "1"]


def test_an_empty_table_of_a_running_command_is_left_out(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results)]) == 0
    before = data_of(results / "report.html")
    (results / "Bikd/tile/v0/predictions_2.csv").touch()
    (results / "Dmdd/tile/v9").mkdir(parents=True)
    (results / "Dmdd/tile/v9/predictions.csv").touch()
    assert main([str(results)]) == 0
    assert data_of(results / "report.html")["images"] == before["images"]
    (tmp := results / "empty").mkdir()
    (tmp / "predictions.csv").touch()
    capsys.readouterr()
    assert main([str(tmp)]) == 2
    assert "There is no predictions.csv" in capsys.readouterr().err


def test_an_infinite_score_is_the_highest_of_a_page(results: Path) -> None:
    path = next(results.rglob("predictions.csv"))
    table = pd.read_csv(path)
    table.loc[0, "score"] = np.inf
    table.to_csv(path, index=False)
    assert main([str(results)]) == 0
    assert "Infinity" not in (results / "report.html").read_text()


@pytest.mark.parametrize("highest", [1.9, np.inf])
def test_raw_scores_without_a_threshold_are_called_good_and_get_no_command(results: Path, highest: float) -> None:
    table = results / "Bikd/tile/v0/predictions.csv"
    assert main([str(results / "Bikd/tile/v0")]) == 0
    assert "inspector.py" in data_of(results / "Bikd/tile/v0/report.html")["command"]
    scores = [1.7, highest]
    write_table(table, **pd.read_csv(table).assign(score=scores, raw_score=scores, threshold=np.inf))
    assert main([str(results / "Bikd/tile/v0")]) == 0
    data = data_of(results / "Bikd/tile/v0/report.html")
    assert data["threshold"] >= max(image["score"] for image in data["images"])
    assert not data["command"]


def test_the_histogram_of_raw_scores_without_a_threshold_has_no_line() -> None:
    (axis,) = draw_histogram({"new": np.array([2.0, 3.0, 4.0])}, np.inf).axes
    assert axis.get_xlim() == (0, 4)
    assert not axis.lines


def test_the_histogram_shows_raw_scores_above_one() -> None:
    (axis,) = draw_histogram({"new": np.array([2.0, 3.0, 4.0])}, 3.0).axes
    assert sum(bar.get_height() for bar in axis.patches) == 3
    assert axis.get_xlim() == (0, 4)

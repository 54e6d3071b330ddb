"""The tables of the documents come from the CSV files beside them."""

import re
from pathlib import Path

import pandas as pd
import pytest
import tables
from documents import DOCUMENTS
from documents import REPOSITORY as ROOT

DOCS = ROOT / "docs"
METRICS = ["image_AUROC", "pixel_AUROC", "pixel_AUPRO"]


def runs(seeds: int, **image_aurocs: float) -> pd.DataFrame:
    """Runs on one set."""
    return pd.DataFrame(
        [
            {"model": model, "category": "tile", "seed": seed, "image_size": 128, "steps": 400}
            | dict.fromkeys(METRICS, value)
            for model, value in image_aurocs.items()
            for seed in range(seeds)
        ]
    )


def test_tables_of_documents_are_those_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_table_is_found_and_written_anew(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("Before\n<!-- table: latency -->\n99.9\n<!-- end -->\nAfter\n")
    assert tables.main(["--check"], [document]) == 1
    assert "99.9" in document.read_text(), "--check changes nothing"
    assert tables.main([], [document]) == 0
    text = document.read_text()
    assert tables.latency() in text
    assert text.startswith("Before\n")
    assert text.endswith("\nAfter\n")
    assert tables.main(["--check"], [document]) == 0


@pytest.mark.parametrize(("seeds", "bold"), [(2, False), (3, True)])
def test_the_best_is_bold_from_three_seeds(seeds: int, bold: bool) -> None:
    measured = runs(seeds, Bikd=0.91, Dmdd=0.95)
    for table in (tables.means(measured), tables.by_set(measured, "image_AUROC")):
        assert ("**95.0**" in table) == bold
        assert "**91.0**" not in table
        assert table.index("Dmdd") < table.index("Bikd"), "our models come first, DMDD at the top"


def test_the_spread_over_three_seeds_stands_behind_a_mean() -> None:
    measured = pd.concat([runs(3, Dmdd=0.9), runs(2, Bikd=0.8)])
    measured.loc[measured["model"] == "Dmdd", "image_AUROC"] = [0.88, 0.90, 0.92]
    lines = tables.by_set(measured, "image_AUROC").splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:4]] == ["90.0 ± 2.0", "80.0"]


def test_means_are_taken_over_the_sets_that_all_models_have() -> None:
    only_dmdd = runs(1, Dmdd=0.5).assign(category="screw")
    table = tables.means(pd.concat([runs(1, Dmdd=0.9, Bikd=0.8), only_dmdd]))
    assert "90.0" in table
    assert "Sets: `tile`. 1 seed" in table


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    csv = tmp_path / "development.csv"
    pd.concat([runs(1, Dmdd=0.9), runs(1, Dmdd=0.8)]).to_csv(csv, index=False)
    with pytest.raises(ValueError, match="more than one run of"):
        tables.development(csv)


def test_runs_of_other_settings_are_left_out(tmp_path: Path) -> None:
    csv = tmp_path / "development.csv"
    measured = runs(1, Dmdd=0.9)
    pd.concat([measured, measured.assign(image_size=256), measured.assign(steps=1200)]).to_csv(csv, index=False)
    assert len(tables.development(csv)) == 1


def test_variants_are_listed_for_sets_where_there_is_something_to_compare() -> None:
    measured = pd.concat([runs(2, **{"Dmdd": 0.9, "Dmdd flat": 0.8}), runs(1, Dmdd=0.1).assign(category="screw")])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.variants(measured, "Dmdd").splitlines()]
    assert rows[2:] == [["tile", "Dmdd", "2", *["90.0"] * 3], ["tile", "Dmdd flat", "2", *["80.0"] * 3]]
    assert tables.variants(measured, "Bikd") == "*Not measured yet.*"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_no_heading_runs_into_its_text(path: Path) -> None:
    headings = re.findall(r"^#+ .*", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert all(len(heading) < 80 for heading in headings)


def test_documents_are_short() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in DOCUMENTS}
    assert lines[ROOT / "README.md"] <= 120
    assert lines[DOCS / "results.md"] <= 150
    assert all(count <= 80 for path, count in lines.items() if ROOT / "src" in path.parents)

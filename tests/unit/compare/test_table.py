from collections.abc import Callable

import pandas as pd
import pytest

from anomalib_dmdd.compare.plan import Run
from anomalib_dmdd.compare.table import (
    COLUMNS,
    QUARTILES,
    best,
    candidates,
    complete_models,
    markdown,
    pareto,
    summarise,
)

MakeRun = Callable[..., Run]
PlanOf = Callable[[pd.DataFrame], tuple[list[Run], pd.DataFrame]]
ENVIRONMENT = {"date": "2026-01-02T03:04:05", "cpu": "Abacus 3000", "gpus": []}


def table(results: list[tuple[str, str, int, float, float]]) -> pd.DataFrame:
    """Rows of (model, category, seed, AUPRO, latency)."""
    rows = []
    for model, category, seed, aupro, latency in results:
        fixed = {
            "status": "ok",
            "error": "",
            "device": "cpu",
            "memory_of": "process",
            "threads": 2,
            "run": f"{model}-{category}-{seed}",
        }
        measured = {"pixel_AUPRO": aupro, "image_AUROC": aupro, "torch_ms": latency}
        spread = {"torch_ms_p25": latency - 1, "torch_ms_p75": latency + 2}
        rows.append({"model": model, "category": category, "seed": seed} | fixed | measured | spread)
    names = COLUMNS + QUARTILES
    return pd.DataFrame(rows).reindex(columns=[*{**dict.fromkeys(rows[0]), **dict.fromkeys(names)}])


ROWS = table(
    [
        ("Slow", "bolt", 0, 0.90, 40.0),
        ("Slow", "nut", 0, 0.80, 40.0),
        ("Slow", "bolt", 1, 0.94, 44.0),
        ("Slow", "nut", 1, 0.84, 44.0),
        ("Fast", "bolt", 0, 0.70, 10.0),
        ("Fast", "nut", 0, 0.90, 10.0),
        ("Fast", "bolt", 1, 0.70, 14.0),
        ("Fast", "nut", 1, 0.90, 14.0),
    ]
)


THIRD = table(
    [
        ("Slow", "bolt", 2, 0.92, 42.0),
        ("Slow", "nut", 2, 0.82, 42.0),
        ("Fast", "bolt", 2, 0.70, 12.0),
        ("Fast", "nut", 2, 0.90, 12.0),
    ]
)


@pytest.fixture
def plan_of(make_run: MakeRun) -> PlanOf:
    """Planned runs, and the rows with the identity of their run."""

    def make(rows: pd.DataFrame) -> tuple[list[Run], pd.DataFrame]:
        runs = [make_run(row.model, row.category, row.seed) for row in rows.itertuples()]
        return runs, rows.assign(run=[run.id for run in runs])

    return make


def cells(text: str) -> list[list[str]]:
    """Cells of all lines of all tables, without the padding."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_means_and_spread_by_hand() -> None:
    # The means over categories are 0.85 and 0.89 for Slow, 0.80 twice for Fast.
    means, spreads = summarise(ROWS)
    assert means["pixel_AUPRO"].to_dict() == pytest.approx({"Slow": 87.0, "Fast": 80.0})
    assert spreads["pixel_AUPRO"].to_dict() == pytest.approx({"Slow": 4 / 2**0.5, "Fast": 0.0})
    assert means["torch_ms"].to_dict() == pytest.approx({"Slow": 42.0, "Fast": 12.0})


def test_no_spread_from_one_seed() -> None:
    _, spreads = summarise(ROWS[ROWS["seed"] == 0])
    assert spreads["pixel_AUPRO"].isna().all()


def test_failed_runs_are_no_zeros() -> None:
    failed = ROWS.copy()
    failed.loc[0, ["status", "pixel_AUPRO"]] = ["failed", None]
    means, _ = summarise(failed)
    assert means.loc["Slow", "pixel_AUPRO"] == pytest.approx((80 + 89) / 2)


def test_a_column_that_a_run_lacks_has_no_mean(plan_of: PlanOf) -> None:
    rows = pd.concat([ROWS, THIRD], ignore_index=True).assign(openvino_fp32_ms=30.0)
    rows.loc[(rows["model"] == "Slow") & (rows["seed"] == 0), "openvino_fp32_ms"] = None  # of two seeds it has values
    hard = (rows["model"] == "Fast") & (rows["category"] == "bolt")
    rows.loc[hard, ["openvino_fp32_ms", "error"]] = [None, "OpenVINO FP32 failed: no file"]
    means, spreads = summarise(rows)
    assert means["openvino_fp32_ms"].isna().to_dict() == {"Slow": False, "Fast": True}
    assert spreads["openvino_fp32_ms"].isna().to_dict() == {"Slow": False, "Fast": True}
    assert means.loc["Fast", "torch_ms"] == 12.0
    assert "Fastest: **Fast** (12.0 ms" in markdown(*plan_of(rows), ENVIRONMENT), "by the latency that both have"


def test_a_model_that_failed_in_a_whole_category_has_no_mean() -> None:
    failed = ROWS.astype({"status": object})
    failed.loc[(failed["model"] == "Slow") & (failed["category"] == "nut"), "status"] = "failed"
    means, _ = summarise(failed)
    assert means["pixel_AUPRO"].isna().to_dict() == {"Slow": True, "Fast": False}
    assert pareto(means, "pixel_AUPRO", "torch_ms") == ["Fast"]


def test_without_images_of_both_kinds_no_accuracy_is_told(plan_of: PlanOf) -> None:
    rows = pd.concat([ROWS, THIRD], ignore_index=True).assign(pixel_AUPRO=None, image_AUROC=None)
    text = markdown(*plan_of(rows), ENVIRONMENT)
    assert "No accuracy is known" in text
    assert "Most accurate" not in text


def test_a_category_without_masks_does_not_count(plan_of: PlanOf) -> None:
    rows = ROWS.copy()
    rows.loc[rows["category"] == "nut", "pixel_AUPRO"] = None
    assert summarise(rows)[0]["pixel_AUPRO"].to_dict() == pytest.approx({"Slow": 92.0, "Fast": 70.0})
    assert "What failed" not in markdown(*plan_of(rows), ENVIRONMENT)


def test_only_complete_models_are_best(plan_of: PlanOf) -> None:
    runs, rows = plan_of(pd.concat([ROWS, THIRD], ignore_index=True))
    assert sorted(complete_models(rows, runs)) == ["Fast", "Slow"]
    assert complete_models(rows.drop(index=0), runs) == ["Fast"]
    assert candidates(rows.drop(index=0), runs) == ["Fast"]
    means = summarise(rows)[0][["pixel_AUPRO"]]
    assert best(means, ["Slow", "Fast"], highest=True)["pixel_AUPRO"].to_dict() == {"Slow": True, "Fast": False}
    assert not best(means, ["Fast"], highest=True).any(axis=None), "a single model is compared with nothing"


def test_pareto_front() -> None:
    means = pd.DataFrame(
        {"a": [0.9, 0.8, 0.7, 0.95, 0.9], "ms": [20.0, 10.0, 15.0, 50.0, 30.0]},
        index=["kept", "fastest", "beaten", "best", "slower"],
    )
    assert pareto(means, "a", "ms") == ["fastest", "kept", "best"]


def test_markdown_marks_the_best_and_shows_the_spread(plan_of: PlanOf) -> None:
    text = markdown(*plan_of(pd.concat([ROWS, THIRD], ignore_index=True)), ENVIRONMENT)
    lines = cells(text)
    assert "Most accurate: **Slow** (AUPRO 87.0). Fastest: **Fast** (12.0 ms per image)." in text
    assert ["Slow", "**87.0 ± 2.0**", "**87.0 ± 2.0**"] in lines
    assert ["Fast", "80.0 ± 0.0", "80.0 ± 0.0"] in lines
    assert ["Fast", "**12.0 ± 2.0**"] in lines
    assert ["nut", "82.0 ± 2.0", "**90.0 ± 0.0**"] in lines
    assert "2 CPU threads" in text
    assert "Code: 0123456789ab" in text
    assert "What failed" not in text


def test_a_label_cannot_break_a_table(plan_of: PlanOf) -> None:
    rows = ROWS.assign(model=ROWS["model"].replace("Slow", "Slow|wide"))
    lines = [line for line in markdown(*plan_of(rows), ENVIRONMENT).splitlines() if line.startswith("| Slow")]
    assert lines
    assert all(line.startswith(r"| Slow\|wide ") for line in lines)


def test_no_winner_with_two_seeds(plan_of: PlanOf) -> None:
    runs, rows = plan_of(ROWS)
    text = markdown(runs, rows, ENVIRONMENT)
    assert candidates(rows, runs) == []
    assert ["Slow", "87.0 ± 2.8", "87.0 ± 2.8"] in cells(text)
    assert "No best model is named, because that takes at least 3 seeds." in text
    assert "Most accurate" not in text
    assert not [cell for line in cells(text) for cell in line if "**" in cell]


def test_exported_files_have_their_own_table(plan_of: PlanOf) -> None:
    exported = {"openvino_int8_image_AUROC": 0.5, "openvino_int8_pixel_AUPRO": 0.25}
    lines = cells(markdown(*plan_of(ROWS.assign(**exported)), ENVIRONMENT))
    assert ["model", "INT8 image AUROC", "INT8 AUPRO"] in lines
    assert ["Slow", "50.0 ± 0.0", "25.0 ± 0.0"] in lines


def test_markdown_of_an_unfinished_comparison(plan_of: PlanOf) -> None:
    runs, rows = plan_of(ROWS)
    rows = rows.astype({"error": object, "status": object}).drop(index=[6, 7])
    rows.loc[5, ["status", "error"]] = ["failed", "OSError: no disk"]
    text = markdown(runs, rows, ENVIRONMENT)
    assert "6 of 8 runs" in text
    assert ["Fast (incomplete)", "-", "-"] in cells(text), "a mean over the other category would be no comparison"
    assert f"- Fast, nut, seed 0: OSError: no disk (log: `runs/{runs[5].id}/log.txt`)" in text
    assert "Most accurate" not in text


def test_markdown_when_everything_failed(plan_of: PlanOf) -> None:
    runs, rows = plan_of(ROWS[:1].assign(status="failed", error="OSError: no disk"))
    assert "OSError" in markdown(runs, rows, ENVIRONMENT)

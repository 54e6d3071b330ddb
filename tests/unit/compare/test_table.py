from collections.abc import Callable

import pandas as pd
import pytest

from anomalib_dmdd.compare import report
from anomalib_dmdd.compare.plan import Run
from anomalib_dmdd.compare.table import COLUMNS, METRICS, QUARTILES, best, complete_models, pareto, summarise

MakeRun = Callable[..., Run]
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
            "run": f"{model}-{category}-{seed}",
        }
        measured = {"pixel_AUPRO": aupro, "image_AUROC": aupro, "torch_ms": latency}
        spread = {"torch_ms_p25": latency - 1, "torch_ms_p75": latency + 2}
        rows.append({"model": model, "category": category, "seed": seed} | fixed | measured | spread)
    names = [column.name for column in COLUMNS] + QUARTILES
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


@pytest.fixture
def runs(make_run: MakeRun) -> list[Run]:
    return [make_run(row.model, row.category, row.seed) for row in ROWS.itertuples()]


def test_means_and_spread_by_hand() -> None:
    # The means over categories are 0.85 and 0.89 for Slow, 0.80 twice for Fast.
    means, spreads = summarise(ROWS)
    assert means["pixel_AUPRO"].to_dict() == pytest.approx({"Slow": 0.87, "Fast": 0.80})
    assert spreads["pixel_AUPRO"].to_dict() == pytest.approx({"Slow": 0.04 / 2**0.5, "Fast": 0.0})
    assert means["torch_ms"].to_dict() == pytest.approx({"Slow": 42.0, "Fast": 12.0})


def test_no_spread_from_one_seed() -> None:
    _, spreads = summarise(ROWS[ROWS["seed"] == 0])
    assert spreads["pixel_AUPRO"].isna().all()


def test_failed_runs_are_no_zeros() -> None:
    failed = ROWS.copy()
    failed.loc[0, ["status", "pixel_AUPRO"]] = ["failed", None]
    means, _ = summarise(failed)
    assert means.loc["Slow", "pixel_AUPRO"] == pytest.approx((0.80 + 0.89) / 2)


def test_only_complete_models_are_best(runs: list[Run]) -> None:
    assert sorted(complete_models(ROWS, runs)) == ["Fast", "Slow"]
    assert complete_models(ROWS.drop(index=0), runs) == ["Fast"]
    means, _ = summarise(ROWS)
    assert best(means, METRICS[4], ["Slow", "Fast"]) == {"Slow"}
    assert best(means, METRICS[4], ["Fast"]) == set(), "one is not the best of anything"


def test_pareto_front() -> None:
    means = pd.DataFrame(
        {"a": [0.9, 0.8, 0.7, 0.95, 0.9], "ms": [20.0, 10.0, 15.0, 50.0, 30.0]},
        index=["kept", "fastest", "beaten", "best", "slower"],
    )
    assert pareto(means, "a", "ms") == ["fastest", "kept", "best"]


def test_markdown_marks_the_best_and_shows_the_spread(runs: list[Run]) -> None:
    text = report.markdown(runs, ROWS, ENVIRONMENT)
    assert "Most accurate: **Slow** (AUPRO 87.0). Fastest: **Fast** (12.0 ms per image)." in text
    assert "| Slow | **87.0 ± 2.8** | **87.0 ± 2.8** |" in text
    assert "| Fast | 80.0 ± 0.0 | 80.0 ± 0.0 |" in text
    assert "| Fast | **12.0 (11.0 to 14.0)** |" in text
    assert "| nut | 82.0 ± 2.8 | **90.0 ± 0.0** |" in text
    assert "CPU threads: 2" in text
    assert "What failed" not in text


def test_markdown_of_an_unfinished_comparison(runs: list[Run]) -> None:
    rows = ROWS.astype({"error": object, "status": object}).drop(index=[6, 7])
    rows.loc[5, ["status", "error"]] = ["failed", "OSError: no disk"]
    rows["run"] = [run.id for run in runs[:6]]
    text = report.markdown(runs, rows, ENVIRONMENT)
    assert "6 of 8 runs" in text
    assert "| Fast (incomplete) | 70.0 | 70.0 |" in text
    assert f"- Fast, nut, seed 0: OSError: no disk (log: `runs/{runs[5].id}/log.txt`)" in text
    assert "Most accurate" not in text


def test_markdown_when_everything_failed(runs: list[Run]) -> None:
    rows = ROWS[:1].assign(status="failed", error="OSError: no disk", run=runs[0].id)
    assert "OSError" in report.markdown(runs[:1], rows, ENVIRONMENT)

"""The benchmark of accuracy over the steps of a training, and its table."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import curve_tables
import curves
import pandas as pd
import pytest
from anomalib.engine import Engine
from small_models import build

from anomalib_dmdd import DemoParts
from anomalib_dmdd.compare import measure


def test_a_point_measures_what_the_comparison_measures(parts: DemoParts, engine: Callable[..., Engine]) -> None:
    model = build("Dskd", evaluator=measure.build_evaluator())
    run = engine(max_steps=4, limit_test_batches=1.0)
    run.fit(model, datamodule=parts)
    expected = measure.accuracy(run, model, parts)
    close = {name: pytest.approx(expected[name], abs=2e-4) for name in curves.METRICS}
    assert curves.accuracy(model, parts) == close
    assert model.training, "the training goes on"
    model.model.register_forward_hook(lambda _, __, found: found._replace(anomaly_map=20 * found.anomaly_map))
    assert curves.accuracy(model, parts) == close, "also with scores above 1"


def test_an_interrupted_training_goes_on_from_its_last_point(
    demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "FOLDERS", {"flange": "."})
    monkeypatch.setattr(curves, "build", lambda name, size: build(name, (size, size)))
    args = Namespace(model="Bikd", images=demo_root, image_size=64, steps=3, points=[1], out=tmp_path)
    args.precision = "32-true"
    monkeypatch.chdir(tmp_path)

    def write_and_stop(csv: Path, row: dict[str, Any]) -> None:
        add(csv, row)
        raise KeyboardInterrupt

    add = curves.add
    monkeypatch.setattr(curves, "add", write_and_stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        curves.train(args, "flange", seed=0)
    monkeypatch.setattr(curves, "add", add)
    for _ in range(2):  # the second time nothing is left to do
        curves.train(args, "flange", seed=0)

    rows = pd.read_csv(tmp_path / "curves.csv")
    assert rows["step"].tolist() == [1, 3]
    assert rows["train_seconds"].is_monotonic_increasing
    assert (tmp_path / "Bikd_flange_64_32-true_3_0.ckpt").is_file()


def test_a_value_is_held_from_the_last_time_it_was_below() -> None:
    points = pd.DataFrame({"step": [1, 2, 3, 4], "time": [0.25, 0.5, 0.75, 1.0], "value": [90, 80, 85, 90]})
    found = [curve_tables.held_from(points, "value", goal) for goal in (80, 81, 90, 91)]
    assert found == ["0.25", "0.75", "1.00", "-"]

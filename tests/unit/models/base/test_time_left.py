"""What a training says about its own length."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from anomalib_dmdd.models.base.reports import time_left


@pytest.mark.parametrize(
    ("steps", "said"), [(5000, "At least 13 h 49 min of training"), (400, "At least 1 h 2 min"), (60, None)]
)
def test_a_long_training_says_early_how_long_it_takes(
    steps: int, said: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten seconds a step, however slow the first one was."""
    clock = [0.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: clock[0])
    caplog.set_level(logging.INFO)
    callback = time_left.TimeLeft()
    for step in range(1, 41):
        clock[0] += 300 if step == 1 else 10
        trainer, model = SimpleNamespace(is_global_zero=True), SimpleNamespace(training_progress=step / steps)
        callback.on_train_batch_end(cast("Any", trainer), cast("Any", model))
    assert len(caplog.messages) == (said is not None)
    assert said is None or said in caplog.messages[0]

"""Progress through a training, by steps and by the clock."""

import math
from types import SimpleNamespace

import pytest

from anomalib_dmdd.models.base.length import DefaultLength, training_progress

CLOCK = {"estimated_stepping_batches": math.inf, "max_epochs": -1, "current_epoch": 0, "num_training_batches": 10}
NOTHING = {"accumulate_grad_batches": 1, "min_steps": None, "min_epochs": None}


@pytest.mark.parametrize(
    ("settings", "step", "clock", "expected"),
    [
        ({}, 30, 0.5, 0.5),
        ({"min_steps": 60}, 30, 1.0, 0.5),  # goes on after the time, so the rate must not be zero
        ({"min_steps": 60}, 60, 1.0, 1.0),
        ({"min_steps": 60}, 50, 0.4, 0.4),
        ({"min_epochs": 8}, 30, 1.0, 0.375),
        ({"min_epochs": 8, "accumulate_grad_batches": 2}, 30, 1.0, 0.75),
        ({"min_epochs": 8, "accumulate_grad_batches": 4}, 18, 1.0, 0.75),  # 4, 4 and 2 batches: 3 steps
        ({"min_epochs": 8, "num_training_batches": math.inf}, 30, 1.0, 1.0),
        ({"min_steps": 60, "estimated_stepping_batches": 40}, 30, 1.0, 0.75),  # it ends after 40 steps
    ],
)
def test_the_clock_waits_for_the_least_steps(
    settings: dict[str, float], step: int, clock: float, expected: float
) -> None:
    trainer = SimpleNamespace(**CLOCK | NOTHING | settings, global_step=step)
    assert training_progress(trainer, DefaultLength(), clock) == pytest.approx(expected)

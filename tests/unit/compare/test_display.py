from collections.abc import Callable
from io import StringIO

from rich.console import Console

from anomalib_dmdd.compare.display import Display, seconds_left
from anomalib_dmdd.compare.plan import Run

MakeRun = Callable[..., Run]


def test_time_left_by_hand(make_run: MakeRun) -> None:
    slow, fast, new = (make_run(label) for label in ("Slow", "Fast", "New"))
    assert seconds_left([slow], []) is None
    finished = [(slow, 100.0), (slow, 120.0), (fast, 20.0)]
    # Slow takes 110 of its own, New the mean 80 of all
    assert seconds_left([slow, new, fast], finished) == 110 + 80 + 20
    assert seconds_left([slow, fast], finished, running_for=30) == 80 + 20
    assert seconds_left([slow, fast], finished, running_for=1000) == 20
    assert seconds_left([], finished) == 0


def test_one_line_per_finished_run(make_run: MakeRun) -> None:
    out = StringIO()
    display = Display(Console(file=out), [make_run("Good"), make_run("Bad")], [(make_run("Before"), 9.0)])
    with display.progress:
        display.watch("training 50%", 2.0)
        display.finish({"status": "ok", "image_AUROC": 0.987, "train_seconds": 61.2, "run_seconds": 70.0})
        display.finish({"status": "failed", "error": "ValueError: [no] layer"})
    text = out.getvalue()
    assert "[2/3] Good, bolt, seed 0: image AUROC 98.7, trained in 0:01:01" in text
    assert "[3/3] Bad, bolt, seed 0: FAILED: ValueError: [no] layer" in text

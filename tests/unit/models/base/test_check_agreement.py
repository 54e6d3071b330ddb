"""A compressed model is compared with its original."""

import gc
import multiprocessing
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

from anomalib_dmdd.models.base.quantization import check_agreement

SCORES = [np.float32([[score]]) for score in (0.1, 0.22, 0.9)]


def graph(shift: float, threshold: float) -> ov.Model:
    """A model whose score is its input less a shift."""
    image = opset13.parameter([1, 1], np.float32)
    score = opset13.subtract(image, np.float32(shift))
    label = opset13.greater(score, np.float32(threshold))
    outputs = []
    for node, name in ((score, "pred_score"), (label, "pred_label")):
        node.output(0).set_names({name})
        outputs.append(opset13.result(node))
    return ov.Model(outputs, [image], "judge")


def test_a_label_may_change_near_the_threshold_alone() -> None:
    check_agreement(graph(0.0, 0.2), graph(0.04, 0.2), SCORES, threshold=0.2)
    with pytest.raises(RuntimeError, match=r"66.7 % of 3 labels are equal, the median change of a score is 0.04"):
        check_agreement(graph(0.0, 0.2), graph(0.04, 0.2), SCORES, threshold=0.5)


def refuse_and_hear_a_signal() -> None:
    gc.disable()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    with pytest.raises(RuntimeError):
        check_agreement(graph(0.0, 0.95), graph(0.11, 0.95), SCORES, threshold=0.95)
    with ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(gc.collect).result()
    signal.raise_signal(signal.SIGTERM)


def test_the_next_signal_after_a_refusal_is_handled() -> None:
    process = multiprocessing.get_context("spawn").Process(target=refuse_and_hear_a_signal)
    process.start()
    process.join(timeout=120)
    assert process.exitcode == 7


def test_scores_may_not_all_move() -> None:
    with pytest.raises(RuntimeError, match=r"median change of a score is 0.11"):
        check_agreement(graph(0.0, 0.95), graph(0.11, 0.95), SCORES, threshold=0.95)

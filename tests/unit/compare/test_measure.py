import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule, Padim
from anomalib.post_processing import PostProcessor
from torch import nn

from anomalib_dmdd import Dmdd
from anomalib_dmdd.compare.measure import (
    WARM_UP,
    accuracy,
    build_evaluator,
    count_parameters,
    peak_memory,
    time_torch,
)


class Counted(nn.Module):
    """Takes longer while it is cold."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        time.sleep(0.03 if self.passes <= WARM_UP else 0.002)
        return image


def test_warm_up_is_not_timed() -> None:
    model = Counted()
    times = time_torch(model, torch.rand(1, 3, 8, 8), passes=7)
    assert model.passes == WARM_UP + 7
    assert 2 <= times["ms_p25"] <= times["ms"] <= times["ms_p75"] < 25


def test_parameters_of_a_known_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    # weights and biases 3*8*9 + 8, BatchNorm 4 * 8; the counter of its batches is not read
    assert count_parameters(network, torch.rand(1, 3, 8, 8)) == 216 + 8 + 32


def test_memory_banks_count_and_layers_of_training_do_not() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 100)
            self.register_buffer("bank", torch.zeros(5, 2))

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.cdist(self.used(values), self.bank)

    assert count_parameters(Net(), torch.rand(1, 3)) == 3 * 2 + 2 + 5 * 2


def test_shared_weights_count_once() -> None:
    layer = nn.Linear(4, 4)
    assert count_parameters(nn.Sequential(layer, layer), torch.rand(1, 4)) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_between_what_is_held_now_and_what_the_system_accounts() -> None:
    peak = peak_memory(torch.device("cpu"))
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    assert peak["memory_of"] == "process"
    assert (
        0.99 * resident <= peak["peak_memory_mb"] <= 1.01 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 976.6
    )


def test_evaluator_has_the_columns_of_the_table() -> None:
    names = [metric.name for metric in build_evaluator().test_metrics]
    assert names == ["image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_AUPR", "pixel_AUPRO"]
    assert build_evaluator().test_metrics[4].fpr_limit == pytest.approx(0.3)


class ScoreEngine:
    """Stand-in for the Engine: its test normalises four scores, as the callback of a post-processor does."""

    SCORES = torch.tensor([0.1, 0.2, 0.9, 3.0])

    def __init__(self, error: str = "") -> None:
        self.error = error

    def test(self, model: AnomalibModule, **settings: object) -> list[dict[str, torch.Tensor]]:
        del settings
        if self.error:
            raise RuntimeError(self.error)
        return [{"normalised": normalise(model.post_processor)}]


def tested(*labels: int) -> SimpleNamespace:
    """A data module with test images of these labels."""
    return SimpleNamespace(test_data=SimpleNamespace(samples={"label_index": labels}))


def normalise(post_processor: PostProcessor) -> torch.Tensor:
    return post_processor._normalize(ScoreEngine.SCORES, *torch.tensor([0.1, 1.1, 0.8]))


def test_accuracy_is_measured_on_scores_that_are_not_clipped() -> None:
    model = Padim(pre_trained=False)
    assert normalise(model.post_processor).tolist() == pytest.approx([0.0, 0.0, 0.6, 1.0])
    measured = accuracy(ScoreEngine(), model, tested(0, 1))["normalised"]
    assert 0 <= measured[0] < measured[1] < 0.5 < measured[2] < measured[3] <= 1
    assert measured[2].item() == pytest.approx(0.6, abs=0.002)  # near the threshold nothing changes
    assert normalise(model.post_processor).tolist() == pytest.approx([0.0, 0.0, 0.6, 1.0]), (
        "the normalisation of Anomalib again"
    )


def test_accuracy_leaves_the_model_as_it_was_when_a_test_fails() -> None:
    model = Padim(pre_trained=False)
    with pytest.raises(RuntimeError, match="no images"):
        accuracy(ScoreEngine("no images"), model, tested(0, 1))
    assert normalise(model.post_processor).max() == 1


def test_accuracy_keeps_a_normalisation_that_does_not_clip() -> None:
    model = Dmdd(backbone="resnet18", pre_trained=False)
    assert torch.equal(accuracy(ScoreEngine(), model, tested(0, 1))["normalised"], normalise(model.post_processor))


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_kind_have_no_accuracy(label: int) -> None:
    assert accuracy(ScoreEngine(), Padim(pre_trained=False), tested(label, label)) == {}


def test_raw_scores_of_several_batches_are_ranked_together() -> None:
    evaluator = build_evaluator()
    module = SimpleNamespace(post_processor=SimpleNamespace(enable_normalization=False))
    for good, bad in ((0.8, 1.5), (0.9, 0.97)):  # torchmetrics would take the first batch for logits
        batch = ImageBatch(
            image=torch.zeros(2, 3, 4, 4),
            gt_label=torch.tensor([False, True]),
            pred_label=torch.tensor([False, True]),
            pred_score=torch.tensor([good, bad]),
        )
        evaluator.on_test_batch_end(None, module, None, batch, 0)
    assert evaluator.test_metrics[0].compute() == 1

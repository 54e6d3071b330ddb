"""BiKD: every arrow of the reconstruction, its schedule, and what is frozen."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from numpy_losses import cells, distance, half_mask, mean_of, random_features

from anomalib_dmdd.models.bikd.lightning_model import backward_weight
from anomalib_dmdd.models.bikd.loss import (
    BikdLoss,
    backward_distillation,
    forward_distillation,
    margin_reached,
    teacher_drift,
)
from anomalib_dmdd.models.bikd.torch_model import BikdFeatures, BikdModel
from anomalib_dmdd.models.components import Teacher


@pytest.fixture
def features() -> BikdFeatures:
    return BikdFeatures(*(random_features(grad=True) for _ in range(5)))


def reached(loss: torch.Tensor, features: BikdFeatures) -> set[str]:
    """Which of the features the gradient of a loss arrives at."""
    leaves = [layer for layers in features for layer in layers]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    names = [name for name, layers in features._asdict().items() for _ in layers]
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None and gradient.any()}


def test_forward_distillation(features: BikdFeatures) -> None:
    distances = [distance(features.student[k], features.teacher[k]) for k in range(2)]
    expected = sum(np.average(values, weights=values) for values in distances)
    assert float(forward_distillation(features).detach()) == pytest.approx(expected, abs=1e-5)
    assert reached(forward_distillation(features), features) == {"student"}


def test_backward_distillation(features: BikdFeatures) -> None:
    mask, expected = half_mask(), 0.0
    for k, side in enumerate((8, 4)):
        area, d = cells(mask, side), distance(features.anomalous_teacher[k], features.anomalous_student[k])
        expected += distance(features.teacher[k], features.student[k]).mean() + mean_of(d, area == 0)
        expected += 0.5 * mean_of((0.4 - d).clip(min=0), area >= 0.5)
    assert float(backward_distillation(features, mask, margin=0.4, push=0.5)) == pytest.approx(expected, abs=1e-5)
    assert reached(backward_distillation(features, mask), features) == {"teacher", "anomalous_teacher"}


def test_backward_distillation_survives_an_empty_mask(features: BikdFeatures) -> None:
    assert torch.isfinite(backward_distillation(features, torch.zeros(3, 1, 32, 32)))


def test_teacher_drift(features: BikdFeatures) -> None:
    expected = sum(distance(features.teacher[k], features.anchor[k]).mean() for k in range(2))
    assert float(teacher_drift(features)) == pytest.approx(expected, abs=1e-5)
    assert reached(teacher_drift(features), features) == {"teacher"}


def test_margin_reached(features: BikdFeatures) -> None:
    mask = half_mask()
    values = [distance(features.anomalous_teacher[k], features.anomalous_student[k]) for k in range(2)]
    chosen = [value[cells(mask, side) >= 0.5] for value, side in zip(values, (8, 4), strict=True)]
    expected = sum((c >= 0.2).sum() for c in chosen) / sum(c.size for c in chosen)
    assert float(margin_reached(features, mask, margin=0.2)) == pytest.approx(expected)


def test_total_is_weighted_by_the_schedule(features: BikdFeatures) -> None:
    mask = half_mask()
    parts = BikdLoss()(features, mask, weight=0.25)
    assert float(parts.forward_kd) == pytest.approx(float(forward_distillation(features)))
    assert float(parts.backward_kd) == pytest.approx(0.25 * float(backward_distillation(features, mask)))
    assert float(parts.anchor) == pytest.approx(float(teacher_drift(features)))
    assert float(torch.stack(BikdLoss()(features)[1:]).sum()) == 0


def test_backward_weight_has_three_phases() -> None:
    assert [backward_weight(t) for t in (0.0, 0.19, 0.8, 1.0)] == [0, 0, 0, 0]
    assert [backward_weight(t) for t in (0.2, 0.25, 0.4, 0.7)] == pytest.approx([0, 0.25, 1, 1])


def test_each_network_learns_from_its_own_loss() -> None:
    torch.manual_seed(0)
    model = BikdModel(Teacher("resnet18", pre_trained=False)).train()
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., :32] = 1
    features = model(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))

    def trained(loss: torch.Tensor) -> set[str]:
        model.zero_grad()
        loss.backward(retain_graph=True)
        return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    assert trained(forward_distillation(features)) == {"student"}
    assert trained(backward_distillation(features, mask)) == {"teacher"}


def test_teacher_keeps_stem_and_normalisation() -> None:
    model = BikdModel(Teacher("resnet18", pre_trained=False)).train()
    trained = {name for name, p in model.teacher.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("features.layer") for name in trained)
    assert not any("bn" in name or "downsample.1" in name for name in trained)
    before = model.teacher.features.bn1.running_mean.clone()
    model(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    assert torch.equal(before, model.teacher.features.bn1.running_mean)


def test_resting_teacher_has_no_graph() -> None:
    model = BikdModel(Teacher("resnet18", pre_trained=False)).train()
    features = model(torch.rand(2, 3, 64, 64))
    assert not any(layer.requires_grad for layer in features.teacher)
    assert all(layer.requires_grad for layer in features.student)


def test_student_sees_anomalies_as_at_test_time() -> None:
    torch.manual_seed(0)
    model = BikdModel(Teacher("resnet18", pre_trained=False)).train()
    alone = deepcopy(model)
    images, anomalous = torch.rand(2, 2, 3, 64, 64)
    features = model(images, anomalous)
    alone(images)
    assert model.student.training
    assert all(map(torch.equal, model.student.buffers(), alone.student.buffers()))
    expected = model.eval().student(model.teacher(anomalous))
    assert all(map(torch.equal, features.anomalous_student, expected))


@pytest.mark.parametrize(
    "backbone", ["resnet18.tv_in1k", "wide_resnet50_2.tv_in1k", "mobilenetv3_small_050", "convnext_atto"]
)
def test_map_has_the_size_of_the_image(backbone: str) -> None:
    model = BikdModel(Teacher(backbone, pre_trained=False)).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 96)).anomaly_map.shape == (2, 1, 64, 96)

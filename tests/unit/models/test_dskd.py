"""DSKD: its loss, the way of the gradient, and its maps."""

import pytest
import torch
from numpy_losses import distance, random_features
from scipy.stats import hmean
from torch.nn.functional import interpolate

from anomalib_dmdd.models.components import Teacher
from anomalib_dmdd.models.dskd.loss import DskdLoss, pyramid_matching
from anomalib_dmdd.models.dskd.torch_model import DskdModel


def test_pyramid_matching() -> None:
    student, teacher = random_features(), random_features()
    layers = [distance(s, t) for s, t in zip(student, teacher, strict=True)]
    expected = sum((layer**2).mean() / layer.mean() for layer in layers)
    assert float(pyramid_matching(student, teacher)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("embedding_input", "trained_by_decoder"),
    [
        ("student", {"encoder", "embedding", "decoder"}),
        ("both", {"encoder", "embedding", "decoder"}),
        ("teacher", {"embedding", "decoder"}),
    ],
)
def test_the_decoders_loss_trains_the_encoder_through_the_embedding(
    embedding_input: str, trained_by_decoder: set[str]
) -> None:
    model = DskdModel(Teacher("resnet18", pre_trained=False), embedding_input=embedding_input).train()
    parts = DskdLoss()(model(torch.rand(2, 3, 64, 64)))

    def reached(loss: torch.Tensor) -> set[str]:
        model.zero_grad()
        loss.backward(retain_graph=True)
        return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    assert reached(parts.encoder) == {"encoder"}
    assert reached(parts.decoder) == trained_by_decoder


@pytest.mark.parametrize(
    "backbone", ["resnet18.tv_in1k", "wide_resnet50_2.tv_in1k", "mobilenetv3_small_050", "convnext_atto"]
)
def test_features_have_the_teachers_shapes(backbone: str) -> None:
    model = DskdModel(Teacher(backbone, pre_trained=False)).train()
    teacher, encoder, decoder = model(torch.rand(2, 3, 64, 96))
    shapes = [features.shape for features in teacher]
    assert [features.shape for features in encoder] == shapes
    assert [features.shape for features in decoder] == shapes


def test_both_students_have_to_disagree_with_the_teacher() -> None:
    model = DskdModel(Teacher("resnet18", pre_trained=False)).eval()
    images, maps = torch.rand(2, 3, 64, 96), {}
    for name in ("harmonic", "encoder", "decoder"):
        model.anomaly_map_mode = name
        with torch.no_grad():
            maps[name] = model(images).anomaly_map
            layers = list(zip(*model.features(images), strict=True))
        assert maps[name].shape == (2, 1, 64, 96)
    assert not torch.allclose(maps["encoder"], maps["decoder"], atol=1e-2)
    product = torch.ones(2, 1, 16, 24)
    for weight, (teacher, *students) in zip((4 / 9, 2 / 9, 3 / 9), layers, strict=True):
        distances = hmean([distance(student, teacher) for student in students])
        cells = torch.from_numpy(distances)[:, None].float()
        product *= interpolate(cells, size=(16, 24), mode="bilinear", align_corners=True) ** weight
    expected = interpolate(product, size=(64, 96), mode="bilinear", align_corners=True)
    assert torch.allclose(maps["harmonic"], expected, atol=1e-4)


def test_a_student_without_fault_silences_the_map() -> None:
    model = DskdModel(Teacher("resnet18", pre_trained=False)).eval()
    model.encoder = model.teacher.features
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).anomaly_map.max() < 1e-2

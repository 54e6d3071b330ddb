"""DMDD: its equations, which gradient goes where, and its maps."""

import numpy as np
import pytest
import torch
from numpy_losses import array, cells, distance, half_mask, mean_of, random_features

from anomalib_dmdd.models.components import MixedBatchNorm2d, Teacher
from anomalib_dmdd.models.dmdd.loss import (
    DmddLoss,
    abnormality_inverse_mimicking,
    normality_guidance,
    segmentation,
)
from anomalib_dmdd.models.dmdd.torch_model import DmddModel


@pytest.fixture(scope="module")
def model() -> DmddModel:
    torch.manual_seed(0)
    return DmddModel(Teacher("resnet18.tv_in1k", pre_trained=False))


@pytest.mark.parametrize("guidance", [0.0, 0.3, 1.0])
def test_normality_guidance(guidance: float) -> None:
    anomalous, normal, teacher = random_features(), random_features(), random_features()
    expected = 0.0
    for branch, weight in ((anomalous, guidance), (normal, 2 - guidance)):
        distances = [distance(branch[k], teacher[k]) for k in range(2)]
        expected += weight * sum(np.average(d, weights=d) for d in distances)
    assert float(normality_guidance(anomalous, normal, teacher, guidance)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("empty", [False, True])
def test_abnormality_inverse_mimicking(empty: bool) -> None:
    a, ta, n, t = (random_features() for _ in range(4))
    mask = torch.zeros(3, 1, 32, 32) if empty else half_mask()
    expected = 0.0
    for k, side in enumerate((8, 4)):
        area, d = cells(mask, side), distance(a[k], ta[k])
        expected += 0.5 * mean_of(1 - d, area >= 0.5) + 0.5 * mean_of(d, area < 0.05) + distance(n[k], t[k]).mean()
    assert float(abnormality_inverse_mimicking(a, ta, n, t, mask)) == pytest.approx(expected, abs=1e-5)


def test_segmentation() -> None:
    logits, mask = torch.randn(3, 1, 8, 8), half_mask()
    target = cells(mask, 8)
    p = 1 / (1 + np.exp(-array(logits)[:, 0]))
    p_true = p * target + (1 - p) * (1 - target)
    focal = -(target * np.log(p) + (1 - target) * np.log(1 - p)) * (1 - p_true) ** 2
    expected = 0.5 * mean_of(focal, target >= 0.5) + 0.5 * mean_of(focal, target < 0.05)
    assert float(segmentation(logits, mask)) == pytest.approx(expected, abs=1e-5)


def test_gradients_are_disjoint(model: DmddModel) -> None:
    images, anomalous, mask = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[..., :32] = 1
    parts = DmddLoss()(model.train()(images, anomalous), mask)

    def reached(loss: torch.Tensor) -> set[str]:
        model.zero_grad()
        loss.backward(retain_graph=True)
        names = [name.split(".") for name, p in model.named_parameters() if p.grad is not None and p.grad.any()]
        return {name[2] if name[0] == "decouple" else name[0] for name in names}

    assert reached(parts.head) == {"head"}
    assert reached(parts.ngm) == {"embedding", "decoder", "normality"}
    assert reached(parts.aim) == {"abnormality"}


def test_the_head_learns_from_distances_with_a_factor_for_each_image(model: DmddModel) -> None:
    seen = {}
    hooks = [
        model.normalizer.register_forward_hook(lambda *call: seen.update(normalized=call[2].clone())),
        model.head.stem.register_forward_pre_hook(lambda *call: seen.update(learnt=call[1][0].clone())),
    ]
    model.train()(torch.rand(32, 3, 32, 32), torch.rand(32, 3, 32, 32))
    factors = seen["learnt"] / seen["normalized"]
    assert factors.amax((1, 2, 3)).isclose(factors.amin((1, 2, 3))).all()
    octaves = factors[:, 0, 0, 0].log2()
    assert octaves.abs().max() <= 1
    assert (octaves.mean().abs(), octaves.std()) == (pytest.approx(0, abs=0.25), pytest.approx(3**-0.5, abs=0.15))
    model.eval()(torch.rand(2, 3, 32, 32))
    assert torch.equal(seen["learnt"], seen["normalized"])
    for hook in hooks:
        hook.remove()


def test_branches_have_equal_shapes_and_are_not_negative(model: DmddModel) -> None:
    normality, abnormality = model.student(model.teacher(torch.rand(1, 3, 64, 64)))
    assert [n.shape for n in normality] == [a.shape for a in abnormality]
    assert all((branch >= 0).all() for branch in (*normality, *abnormality))


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_every_map_has_the_size_of_the_image(model: DmddModel, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    model.eval()
    maps = {}
    for name in ("head", "sum", "head_x_normality", "normality", "abnormality"):
        model.anomaly_map_mode = name
        with torch.no_grad():
            maps[name] = model(images).anomaly_map
        assert maps[name].shape == (2, 1, *size)
    assert 0 < maps["head"].min() < maps["head"].max() < 1
    assert torch.allclose(maps["normality"] + maps["abnormality"], maps["sum"], atol=1e-5)
    with torch.no_grad():
        teacher = model.teacher(images)
        distances = model.normalizer(model.distance_maps(teacher, *model.student(teacher)))
        both = model.head(distances).sigmoid() * distances[:, :3].prod(1, keepdim=True) ** (1 / 3)
    assert torch.allclose(
        torch.nn.functional.interpolate(both, size, mode="bilinear", align_corners=True),
        maps["head_x_normality"],
        atol=1e-5,
    )


def test_activations_of_an_unusual_image_do_not_diverge() -> None:
    torch.manual_seed(0)
    model = DmddModel(Teacher("resnet18.tv_in1k", pre_trained=False))
    teacher = model.teacher(torch.rand(8, 3, 64, 64))

    def growth(share: float) -> float:
        for module in model.modules():
            if isinstance(module, MixedBatchNorm2d):
                module.share = share
        usual, far = (model.decoder(model.embedding([f * features for features in teacher])) for f in (1, 1000))
        return float(far[0].max() / usual[0].max())

    with torch.no_grad():
        for _ in range(40):  # the running statistics become those of these images
            model.student(teacher)
        model.eval()
        assert growth(share=1 / 16) < 5
        assert growth(share=0) > 500


@pytest.mark.slow
def test_an_anomaly_raises_the_distances_where_it_is() -> None:
    """After a few steps on pairs of one kind, the abnormality branch is far from the teacher inside the mask."""
    torch.manual_seed(0)
    model = DmddModel(Teacher("resnet18.tv_in1k", pre_trained=False))
    images = torch.rand(4, 3, 64, 64)
    mask = torch.zeros(4, 1, 64, 64)
    mask[..., :32] = 1
    anomalous = images * (1 - mask) + 3 * mask
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser, loss = torch.optim.Adam(trained, lr=5e-3), DmddLoss()
    for _ in range(120):
        optimiser.zero_grad()
        torch.stack(loss(model.train()(images, anomalous), mask)).sum().backward()
        optimiser.step()
    features = model(images, anomalous)
    abnormal = distance(features.anomalous_abnormality[0], features.anomalous_teacher[0])
    assert abnormal[..., 2:6].mean() > 2 * abnormal[..., 10:14].mean()

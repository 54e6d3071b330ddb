import pytest
import torch
from torch.nn.functional import interpolate

from anomalib_dmdd.models.components import Teacher
from anomalib_dmdd.models.dmdd.torch_model import DmddModel
from anomalib_dmdd.models.dskd import DskdModel


@pytest.mark.parametrize(
    ("backbone", "layers", "last"), [("ghostnet_050", ["conv_stem"], False), ("resnet18", None, True)]
)
def test_layers_of_few_channels_do_not_crash_the_backward_pass(
    backbone: str, layers: list[str] | None, last: bool
) -> None:
    model = DskdModel(Teacher(backbone, layers, pre_trained=False)).train()
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 4 and min(parameter.shape[1:]) > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) == last for weight in weights)
    features = model(torch.rand(3, 3, 128, 128))
    sum(layer.square().mean() for layer in (*features.encoder, *features.decoder)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.decoder.parameters())


@pytest.mark.parametrize("mode", ["normality", "abnormality", "encoder", "decoder"])
def test_distances_of_a_branch_make_its_anomaly_map(mode: str) -> None:
    teacher = Teacher("resnet18", pre_trained=False)
    dmdd = mode.endswith("normality")
    model = (DmddModel if dmdd else DskdModel)(teacher, anomaly_map_mode=mode).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = model.layer_distances(images)[mode if dmdd else f"{mode} student"]
        expected = model(images).anomaly_map
    assert len(maps) == len(teacher.channels)
    layers = torch.cat([interpolate(one, (16, 16), mode="bilinear", align_corners=True) for one in maps], dim=1)
    weighted = layers[:, [0, 0, 0, 0, 1, 1, 2, 2, 2]].prod(1, keepdim=True) ** (1 / 9)
    joined = layers.sum(1, keepdim=True) if dmdd else weighted
    torch.testing.assert_close(interpolate(joined, (64, 64), mode="bilinear", align_corners=True), expected)

import pytest
import torch

from anomalib_dmdd.models.components import Teacher
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

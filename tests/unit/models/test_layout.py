"""The memory layout of the three networks' weights."""

import pytest
import torch
from torch import nn

from anomalib_dmdd.models.bikd.torch_model import BikdModel
from anomalib_dmdd.models.components import Teacher
from anomalib_dmdd.models.dmdd.torch_model import DmddModel
from anomalib_dmdd.models.dskd.torch_model import DskdModel


@pytest.mark.parametrize("model", [DmddModel, DskdModel, BikdModel])
def test_convolutions_keep_the_fast_layout_and_answer_as_in_the_other(model: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = model(Teacher("resnet18", pre_trained=False)).eval()
    images = torch.randn(2, 3, 64, 64)
    fast = network(images).anomaly_map

    network.load_state_dict({name: weight.contiguous() for name, weight in network.state_dict().items()})
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in convolutions)

    plain = network.to(memory_format=torch.contiguous_format)(images).anomaly_map
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4)

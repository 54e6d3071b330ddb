"""Batch normalisation of a member of a batch."""

import pytest
import torch
from torch import nn

from anomalib_dmdd.models.components import MixedBatchNorm2d


@pytest.mark.parametrize("contrast", [1, 1000])
def test_an_image_is_normalised_as_in_a_batch_with_what_it_was_trained_on(contrast: float) -> None:
    torch.manual_seed(0)
    batch = torch.randn(16, 3, 5, 7) + torch.randn(16, 3, 1, 1)
    batch[0] *= contrast
    norm = MixedBatchNorm2d(3)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    norm.running_mean.copy_(batch[1:].mean((0, 2, 3)))
    norm.running_var.copy_(batch[1:].var((0, 2, 3), correction=0))
    expected = nn.functional.batch_norm(batch, None, None, norm.weight, norm.bias, training=True)
    assert torch.allclose(norm.eval()(batch[:1]), expected[:1], atol=1e-4)
    assert torch.allclose(norm.train()(batch), expected, atol=1e-5)


def test_images_of_a_batch_do_not_know_each_other() -> None:
    norm = MixedBatchNorm2d(2).eval()
    images = torch.randn(3, 2, 8, 8) * torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]
    assert torch.allclose(norm(images), torch.cat([norm(image[None]) for image in images]))
    assert norm(images.bfloat16()).dtype == torch.bfloat16
    assert torch.allclose(norm((100 * images).half()).float(), norm(100 * images), rtol=0.01, atol=0.01)


def test_convert_replaces_every_batch_normalisation_and_keeps_its_state() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)), nn.ReLU())
    network(torch.rand(2, 3, 4, 4))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert MixedBatchNorm2d.convert(network) is network
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    norms = [module for module in network.modules() if isinstance(module, MixedBatchNorm2d)]
    assert [norm.num_features for norm in norms] == [3, 5]

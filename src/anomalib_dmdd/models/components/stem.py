"""Which weights of a feature extractor are its stem, and which its outputs need."""

from typing import Any

import torch
from torch import Tensor, nn


def stem_parameters(network: nn.Module, images: Tensor) -> list[int]:
    """Identities (``id``) of the parameters that lie before the first output layer.

    The layer is found by its position in a forward pass, not by its name: it is the outermost module that returns the
    first output. Where no module does, because the network reshapes it, everything that the output depends on is stem.

    Args:
        network: A timm ``features_only`` network whose parameters require gradients.
        images: Images ``(N, 3, H, W)`` for the forward pass.

    Example:
        >>> import timm
        >>> network = timm.create_model("resnet18", features_only=True, out_indices=[1, 2])
        >>> stem = stem_parameters(network, torch.zeros(1, 3, 64, 64))
        >>> [name for name, parameter in network.named_parameters() if id(parameter) in stem]
        ['conv1.weight', 'bn1.weight', 'bn1.bias']
    """
    started: list[nn.Module] = []
    returned: dict[nn.Module, Any] = {}
    hooks = [module.register_forward_pre_hook(lambda module, _: started.append(module)) for module in network.modules()]
    hooks += [
        module.register_forward_hook(lambda module, _, output: returned.update({module: output}))
        for module in network.modules()
    ]
    first: Tensor = network(images)[0]
    for hook in hooks:
        hook.remove()
    layer = next((module for module in started if returned[module] is first), None)
    if layer is None:
        return needed_by([first], network)
    before = [parameter for module in started[: started.index(layer)] for parameter in module.parameters(recurse=False)]
    return [id(parameter) for parameter in before]


def needed_by(outputs: list[Tensor], network: nn.Module) -> list[int]:
    """Identities of the parameters that some outputs of a network depend on."""
    parameters = list(network.parameters())
    total = torch.stack([output.sum() for output in outputs]).sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return [id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]

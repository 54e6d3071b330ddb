"""Activations that stay in the range of normal images."""

import torch
from torch import Tensor, nn


class CappedReLU(nn.ReLU):
    """ReLU that, when not training, cuts off what lies above the maximum of the median image of the training.

    ReAct (Sun et al., NeurIPS 2021) cuts the last activations of a classifier. Here, in every layer (our choice), it
    keeps an image that is unlike the training's, which the statistics of its batch damp while the network trains, from
    growing from layer to layer.

    Args:
        momentum: Weight of a batch in the moving average of the maximum.

    Example:
        >>> relu = CappedReLU()
        >>> maxima = torch.tensor([1.0, 2.0, 9.0]).reshape(3, 1, 1, 1)
        >>> relu(maxima).flatten()
        tensor([1., 2., 9.])
        >>> relu.eval()(maxima).flatten()
        tensor([1., 2., 2.])
    """

    cap: Tensor

    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__(inplace=True)
        self.momentum = momentum
        self.register_buffer("cap", torch.tensor(torch.inf))

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(N, C, h, w)``, not negative."""
        features = super().forward(features)
        if not self.training:
            return features.clamp_max_(self.cap)
        with torch.no_grad():
            usual = features.amax((1, 2, 3)).float().median()
            self.cap.copy_(torch.where(self.cap.isinf(), usual, self.cap.lerp(usual, self.momentum)))
        return features


def cap_activations(network: nn.Module) -> None:
    """Replace every ReLU of a network by a :class:`CappedReLU`."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, CappedReLU())

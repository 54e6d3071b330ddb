"""The normalisation of images, undone where pixel values count."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Those of ImageNet, for red, green and blue."""


class Normalized(nn.Module):
    """Module that works on normalised images, by default with the normalisation of ImageNet."""

    _mean: Tensor
    _std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Buffers, because making a tensor out of numbers on the GPU would wait for it.
        for name, values in (("_mean", MEAN), ("_std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Work on images that are normalised with these values.

        Args:
            mean: Mean of red, green and blue, of pixel values from 0 to 1.
            std: Their standard deviations.
        """
        self._mean.copy_(torch.tensor(mean).view(3, 1, 1))
        self._std.copy_(torch.tensor(std).view(3, 1, 1))

"""The normalisation of images, undone where pixel values count."""

import torch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

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

    def take_normalization(self, pre_processor: nn.Module | None) -> None:
        """Work on images as a pre-processor leaves them.

        Args:
            pre_processor: Its first ``Normalize`` counts. Anomalib's pre-processor without one, or None, leaves images
                from 0 to 1. Any other module without one is taken for the normalisation of before.
        """
        modules = [] if pre_processor is None else pre_processor.modules()
        found = [transform for module in modules for transform in extract_transforms_by_type(module, Normalize)]
        if not found and type(pre_processor) not in (type(None), PreProcessor):
            return
        mean, std = (found[0].mean, found[0].std) if found else ([0.0], [1.0])
        self._mean.copy_(torch.tensor(mean).view(-1, 1, 1))
        self._std.copy_(torch.tensor(std).view(-1, 1, 1))

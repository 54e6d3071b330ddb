"""How a pre-processor normalises images."""

from collections.abc import Sequence

from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import Normalize

NONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and standard deviation that leave pixel values from 0 to 1."""


def normalization_of(pre_processor: nn.Module | None) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and standard deviation of the first ``Normalize`` of a pre-processor.

    Args:
        pre_processor: Anomalib's without a ``Normalize``, or None, does not normalise.

    Returns:
        Mean and standard deviation of each channel; None if a pre-processor of another class does not show them.

    Example:
        >>> normalization_of(PreProcessor(Normalize([0.5] * 3, [0.25] * 3)))
        ([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    """
    modules = () if pre_processor is None else pre_processor.modules()
    found = [transform for module in modules for transform in extract_transforms_by_type(module, Normalize)]
    if found:
        return list(found[0].mean), list(found[0].std)
    return NONE if type(pre_processor) in (type(None), PreProcessor) else None

"""How a pre-processor normalises images."""

from collections.abc import Sequence
from typing import TypeVar

import timm
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import Normalize

T = TypeVar("T", bound=nn.Module)
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
        >>> normalization_of(PreProcessor(Normalize([0.5], [0.25])))  # one value for all
        ([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    """
    if found := transforms_of(pre_processor, Normalize):
        mean, std = (list(values) * (1 if len(values) > 1 else 3) for values in (found[0].mean, found[0].std))
        return mean, std
    return NONE if type(pre_processor) in (type(None), PreProcessor) else None


def transforms_of(pre_processor: nn.Module | None, kind: type[T]) -> list[T]:
    """Transforms of a kind in a pre-processor, in their order."""
    modules = () if pre_processor is None else pre_processor.modules()
    return [transform for module in modules for transform in extract_transforms_by_type(module, kind)]


def differs_from_weights(values: tuple[Sequence[float], Sequence[float]], backbone: str) -> str | None:
    """Say how a normalisation differs from that of the weights of a backbone.

    Args:
        values: Mean and standard deviation of the images.
        backbone: Name of a network in timm.

    Example:
        >>> imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        >>> differs_from_weights(imagenet, "resnet18.tv_in1k") is None
        True
        >>> differs_from_weights(imagenet, "tf_efficientnetv2_s").partition(", but ")[2]
        'the weights of tf_efficientnetv2_s expect (0.5, 0.5, 0.5) and (0.5, 0.5, 0.5)'
    """
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        return None
    expected = config.mean, config.std
    pairs = [pair for ours, theirs in zip(values, expected, strict=True) for pair in zip(ours, theirs, strict=True)]
    if all(abs(one - other) < 1e-3 for one, other in pairs):  # noqa: PLR2004  # rounding
        return None
    mean, std = (tuple(round(value, 3) for value in part) for part in values)
    return (
        f"images are normalised with mean {mean} and standard deviation {std}, but the weights of {backbone} expect "
        f"{tuple(config.mean)} and {tuple(config.std)}"
    )

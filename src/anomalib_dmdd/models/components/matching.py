"""The cosine distance of the losses, with a backward pass of its own."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .distance import SHORTEST


def matching_distance(features: Tensor, target: Tensor) -> Tensor:
    """Cosine distance at each position, with a gradient for the features alone.

    Values and gradients are those of :func:`cosine_distance`. It reads the features fewer times, and keeps them for the
    backward pass in their own precision, without copies in single precision.

    Args:
        features: Feature map ``(N, C, h, w)``.
        target: Feature map of the same shape; it receives no gradient.

    Returns:
        Distances ``(N, 1, h, w)`` in single precision, or in double precision for such features.

    Example:
        >>> features = torch.ones(1, 2, 1, 1, requires_grad=True)
        >>> distance = matching_distance(features, torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))
        >>> distance.squeeze()
        tensor(0.2929, grad_fn=<SqueezeBackward0>)
    """
    distance: Tensor = _MatchingDistance.apply(features, target)
    return distance


class _MatchingDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, target: Tensor) -> Tensor:  # noqa: ANN401
        wide_features, wide_target = _wide(features), _wide(target)
        length = torch.linalg.vector_norm(wide_features, dim=1, keepdim=True)  # (N, 1, h, w), like all below
        target_length = torch.linalg.vector_norm(wide_target, dim=1, keepdim=True).clamp_min_(SHORTEST)
        cosine = (wide_features * wide_target).sum(1, keepdim=True)
        cosine /= length.clamp_min(SHORTEST) * target_length
        ctx.save_for_backward(features, target, length, target_length, cosine)
        return 1 - cosine

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        features, target, length, target_length, cosine = ctx.saved_tensors
        # With f, t the vectors: d(1 - cos) / df = cos f / |f|^2 - t / (|f| |t|). A short |f| in a denominator counts as
        # SHORTEST, but not where it comes from the derivative of |f|, as in torch.nn.functional.cosine_similarity.
        clamped = length.clamp_min(SHORTEST)
        along = (gradient * cosine / (clamped * length)).masked_fill_(length == 0, 0)
        result = (_wide(features) * along).addcmul_(_wide(target), gradient / (clamped * target_length), value=-1)
        return result.to(features.dtype), None


def _wide(features: Tensor) -> Tensor:
    """The features in at least single precision."""
    return features.to(torch.promote_types(features.dtype, torch.float32))

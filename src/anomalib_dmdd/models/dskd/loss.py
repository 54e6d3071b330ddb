"""Loss of DSKD: pyramid matching of both students with the teacher."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomalib_dmdd.models.components import matching_distance, self_weighted_mean

from .torch_model import DskdFeatures


class DskdLossParts(NamedTuple):
    """Terms of the loss, each a scalar."""

    encoder: Tensor
    decoder: Tensor


def pyramid_matching(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over the layers of the self-weighted mean of the cosine distances.

    Args:
        student: One map ``(N, C_k, h_k, w_k)`` per layer.
        teacher: The same shapes.

    Example:
        >>> features = [torch.rand(2, 8, 4, 4), torch.rand(2, 16, 2, 2)]
        >>> bool(pyramid_matching(features, features).abs() < 1e-5)
        True
    """
    pairs = zip(student, teacher, strict=True)
    return torch.stack([self_weighted_mean(matching_distance(*pair)) for pair in pairs]).sum()


class DskdLoss(nn.Module):
    """Pyramid matching of the encoder student and of the decoder student with the teacher.

    Example:
        >>> features = [torch.rand(2, 8, 4, 4)]
        >>> float(DskdLoss()(DskdFeatures(features, features, features)).encoder) < 1e-5
        True
    """

    def forward(self, features: DskdFeatures) -> DskdLossParts:
        """The two terms, whose sum is the loss."""
        return DskdLossParts(
            encoder=pyramid_matching(features.encoder, features.teacher),
            decoder=pyramid_matching(features.decoder, features.teacher),
        )

"""Batch normalisation that is when tested what it was in training."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class MemberBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that, when not training, treats each image as a member of a batch of the training.

    In training an image is part of the statistics that it is normalised by; the more it is unlike the others, the more
    they damp it. Running statistics alone do not, and from layer to layer its activations can grow without a bound. So
    they are mixed with the image's own, as by MixNorm (Hu et al., arXiv 2110.11478) for images of another domain.

    Attributes:
        share: Weight of the image's own statistics, that of an image and its twin in a batch of 16 pairs (our choice).

    Example:
        >>> import torch
        >>> norm, checks = MemberBatchNorm2d(1).eval(), torch.tensor([[[[-1.0, 1.0], [1.0, -1.0]]]])
        >>> [round(float(norm(contrast * checks).amax()), 2) for contrast in (1, 10, 1000)]
        [1.0, 3.73, 4.0]
    """

    share = 1 / 16

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features of the input's shape ``(N, C, h, w)``."""
        if self.training:
            return super().forward(features)
        # In units of running deviations; without weight and bias, exports fold it into the convolution before it.
        features = F.batch_norm(features, self.running_mean, self.running_var, eps=self.eps)
        mean = self.share * features.mean((2, 3), keepdim=True)
        var = 1 - self.share + self.share * features.square().mean((2, 3), keepdim=True) - mean.square()
        scale = self.weight[:, None, None] / var.sqrt()
        return (features * scale + (self.bias[:, None, None] - mean * scale)).to(features.dtype)


def normalize_as_members(network: nn.Module) -> None:
    """Replace every fresh ``BatchNorm2d`` of a network by a :class:`MemberBatchNorm2d`."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, MemberBatchNorm2d(child.num_features))

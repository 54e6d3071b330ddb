"""Batch normalisation that mixes running and per-image statistics at test time."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class MixedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that mixes 15/16 running and 1/16 per-image statistics at test time.

    In training every image contributes to the statistics that normalise it, which damps unusual images. Running
    statistics alone do not, so activations of an unusual image can diverge from layer to layer. Mixing both bounds
    them.

    Attributes:
        share: Weight of the image's own statistics at test time, in [0, 1]. The default is the weight that an image
            and its anomalous copy have in a training batch of 16 pairs.

    Example:
        >>> norm, checks = MixedBatchNorm2d(1).eval(), torch.tensor([[[[-1.0, 1.0], [1.0, -1.0]]]])
        >>> [round(float(norm(contrast * checks).amax()), 2) for contrast in (1, 10, 1000)]
        [1.0, 3.73, 4.0]

    References:
        MixNorm, Hu et al., https://arxiv.org/abs/2110.11478
    """

    share = 1 / 16

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features of the input's shape ``(N, C, h, w)``."""
        if self.training:
            return super().forward(features)
        # In units of running deviations. Without weight and bias, exporters fold it into the convolution before it.
        features = F.batch_norm(features, self.running_mean, self.running_var, eps=self.eps)
        wide = features if features.dtype == torch.float64 else features.float()  # squares overflow in half precision
        mean = self.share * wide.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        var = 1 - self.share + self.share * wide.square().mean((2, 3), keepdim=True) - mean.square()
        scale = self.weight[:, None, None] / var.sqrt()
        return (wide * scale + (self.bias[:, None, None] - mean * scale)).to(features.dtype)

    @classmethod
    def convert(cls, network: nn.Module) -> nn.Module:
        """Replace every ``BatchNorm2d`` of a network, like ``SyncBatchNorm.convert_sync_batchnorm``.

        Args:
            network: Changed in place; the state of its layers is kept.

        Returns:
            The same network.
        """
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) is nn.BatchNorm2d:
                    mixed = cls(child.num_features, child.eps, child.momentum)
                    mixed.load_state_dict(child.state_dict())
                    setattr(module, name, mixed.train(child.training))
        return network

"""The residual block that embeddings and decoders are built from."""

from typing import Literal

from torch import Tensor, nn

Resample = Literal["down", "same", "up"]


def _convolution(inputs: int, outputs: int, resample: Resample, kernel: int) -> nn.Module:
    if resample == "up":
        return nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2, bias=False)
    stride = 2 if resample == "down" else 1
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def convolution(inputs: int, outputs: int, resample: Resample = "same", kernel: int = 3) -> nn.Sequential:
    """Convolution and batch normalisation that halve, keep or double (transposed 2x2, RD4AD) the size of the map.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        resample: What happens to the size.
        kernel: Size of the kernel where the map is not doubled.
    """
    return nn.Sequential(_convolution(inputs, outputs, resample, kernel), nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with a width of its own, beside a shortcut (ResNet's blocks).

    Args:
        inputs: Channels in.
        outputs: Channels out.
        resample: Halve, keep or double the size of the map.
        width: Channels between the 1x1 convolutions; without it the block is the plain one.
        signed: End without the ReLU.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resample: Resample = "same",
        width: int | None = None,
        signed: bool = False,
    ) -> None:
        super().__init__()
        if width:
            self.residual = nn.Sequential(
                convolution(inputs, width, kernel=1),
                nn.ReLU(inplace=True),
                convolution(width, width, resample),
                nn.ReLU(inplace=True),
                convolution(width, outputs, kernel=1),
            )
        else:
            self.residual = nn.Sequential(
                convolution(inputs, outputs, resample),
                nn.ReLU(inplace=True),
                convolution(outputs, outputs),
            )
        same = resample == "same" and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, resample, kernel=1)
        self.activation = nn.Identity() if signed else nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, inputs, h, w)`` to ``(N, outputs, h', w')``."""
        result: Tensor = self.activation(self.residual(features) + self.shortcut(features))
        return result

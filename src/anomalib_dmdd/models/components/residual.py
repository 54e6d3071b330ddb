"""The residual block of embeddings and students."""

from typing import Literal

from torch import Tensor, nn

Resample = Literal["down", "same", "up"]


def _convolution(inputs: int, outputs: int, resample: Resample, kernel: int) -> nn.Module:
    if resample == "up":
        return nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2, bias=False)
    stride = 2 if resample == "down" else 1
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def conv_bn(inputs: int, outputs: int, resample: Resample = "same", kernel: int = 3) -> nn.Sequential:
    """Convolution and batch normalisation that halve, keep or double the size of the map.

    Doubling is a transposed 2x2 convolution, as in RD4AD.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        resample: Halve, keep or double the size of the map.
        kernel: Size of the kernel, unless the map is doubled.
    """
    return nn.Sequential(_convolution(inputs, outputs, resample, kernel), nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Basic or bottleneck block of a ResNet: convolutions with a shortcut around them.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        resample: Halve, keep or double the size of the map.
        width: Channels of the bottleneck block's 3x3 convolution; ``None`` builds the basic block of two 3x3 ones.
        final_relu: Whether the block ends in a ReLU.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resample: Resample = "same",
        width: int | None = None,
        final_relu: bool = True,
    ) -> None:
        super().__init__()
        if width:
            self.residual = nn.Sequential(
                conv_bn(inputs, width, kernel=1),
                nn.ReLU(inplace=True),
                conv_bn(width, width, resample),
                nn.ReLU(inplace=True),
                conv_bn(width, outputs, kernel=1),
            )
        else:
            self.residual = nn.Sequential(
                conv_bn(inputs, outputs, resample),
                nn.ReLU(inplace=True),
                conv_bn(outputs, outputs),
            )
        same = resample == "same" and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, resample, kernel=1)
        self.activation = nn.ReLU(inplace=True) if final_relu else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, inputs, h, w)`` to ``(N, outputs, h', w')``."""
        result: Tensor = self.activation(self.residual(features) + self.shortcut(features))
        return result

"""Schedule of the learning rates."""

import math
from collections.abc import Callable, Sequence

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def with_warmup_cosine(
    optimizer: Optimizer, progress: Callable[[], float], scales: Sequence[Callable[[], float]] = ()
) -> OptimizerLRSchedulerConfig:
    """Add warm-up over the first 5 % of the training and cosine decay to zero.

    The last step is the one that is kept. At full rate its batch statistics would lag behind its weights.

    Args:
        optimizer: Its rates are the highest ones.
        progress: Returns the share of the training that is done, in [0, 1].
        scales: For each group of parameters, returns a further factor of its rate; by default 1.

    Returns:
        Optimiser and schedule, as ``configure_optimizers`` returns them.
    """

    def factor(_step: int) -> float:
        done = progress()
        return min(1.0, 0.1 + 18 * done) * 0.5 * (1 + math.cos(math.pi * done))

    def scaled(scale: Callable[[], float]) -> Callable[[int], float]:
        return lambda step: factor(step) * scale()

    scheduler = LambdaLR(optimizer, [scaled(scale) for scale in scales] or factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

"""Equal replicas of the model in a training in several processes."""

from collections.abc import Iterable

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics.metric import jit_distributed_available


class EqualReplicas(Callback):
    """Gives all processes the buffers of the first one at the end of the training.

    DDP does so before each training or validation step only. If no validation follows the last step, every process
    keeps the batch statistics of its own images.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse synchronised batch normalisation where it would change the network.

        Raises:
            ValueError: If a normalisation of the network does more than ``SyncBatchNorm``, which would replace it: mix
                batch statistics at test time, or apply the activation, as in many backbones of timm.
        """
        kinds = {type(module) for module in pl_module.modules() if isinstance(module, nn.BatchNorm2d)}
        lost = ", ".join(sorted(kind.__name__ for kind in kinds - {nn.BatchNorm2d}))
        if stage == TrainerFn.FITTING and lost and getattr(trainer.strategy, "_layer_sync", None) is not None:
            raise ValueError(
                f"trainer.sync_batchnorm: {type(pl_module).__name__} with this backbone cannot be trained with it, "
                f"because it would replace {lost} by a plain normalisation. Leave it out."
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the replicas equal."""
        del trainer
        share(pl_module.buffers())


def share(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of the first process; nothing happens in a single process."""
    if jit_distributed_available():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, src=0)


def zero_of(parameters: Iterable[Tensor]) -> Tensor:
    """Zero, computed from parameters, that gives each of them a gradient of zeros.

    DDP waits for a gradient of each trainable parameter in each step, and stops where one is missing.

    Args:
        parameters: Trainable parameters.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> zero_of([weight]).backward()
        >>> weight.grad
        tensor([0., 0.])
    """
    return 0 * sum((parameter.sum() for parameter in parameters), torch.zeros(()))

"""Detection of NaN and infinity in a training, before they reach a checkpoint."""

from typing import Any

import torch
from anomalib.data import Batch
from torch import Tensor, nn


class FiniteGuard:
    """Stops a training whose loss or weights are no longer finite, and names the cause.

    On a CPU the loss is checked in every step. On an NVIDIA GPU a flag is read one step later, so that no step waits
    for it, and before each checkpoint. Under a gradient scaler infinite gradients are normal, so only the loss is
    judged.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, torch.cuda.Event | None, Any, Batch] | None = None

    def check(self, terms: Any, batch: Batch) -> None:  # noqa: ANN401  # any named tuple
        """Check the terms of a loss, a named tuple of scalars.

        Raises:
            FloatingPointError: If one is not finite now, or on a GPU was not in the step before.
        """
        self.finish()
        with torch.no_grad():
            flag = torch.isfinite(torch.stack([term.detach() for term in terms]).sum())
        event = None
        if flag.is_cuda:
            flag = flag.to("cpu", non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._pending = (flag, event, type(terms)(*(term.detach() for term in terms)), batch)
        if event is None:
            self.finish()

    def finish(self) -> None:
        """Judge the last step that was checked.

        Raises:
            FloatingPointError: If its loss was not finite.
        """
        if self._pending is None:
            return
        flag, event, terms, batch = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        if not flag:
            raise FloatingPointError(_cause(terms, batch))

    def check_weights(self, network: nn.Module) -> None:
        """Check all weights and buffers, before they are saved.

        Raises:
            FloatingPointError: If one holds NaN or infinity, or the last loss was not finite.
        """
        self.finish()
        tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
        if not bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()):
            name = next(name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all())
            raise FloatingPointError(f"{name} holds NaN or infinity, so no checkpoint is written. {_ADVICE}")


_ADVICE = "The last good checkpoint is kept. Lower the learning rate, or train with --trainer.precision 32-true."


def _cause(terms: Any, batch: Batch) -> str:  # noqa: ANN401
    """Message that names the broken image, or the terms of the loss."""
    broken = (~torch.isfinite(batch.image.flatten(1)).all(1)).nonzero().flatten().tolist()
    if broken:
        paths = [str(batch.image_path[index]) for index in broken] if batch.image_path else [f"number {broken[0]}"]
        return f"The training stopped: an image holds NaN or infinity: {', '.join(paths)}."
    names = [name for name, term in terms._asdict().items() if not torch.isfinite(term)] or ["their sum"]
    return f"The training stopped: the loss is not finite ({', '.join(names)}). {_ADVICE}"

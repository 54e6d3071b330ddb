"""Training steps give a GPU its work without waiting for results."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from anomalib.data import ImageBatch
from small_models import MODELS, build
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique2"}


class Waits(TorchDispatchMode):
    """Collects operations that need a value or a shape from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(  # noqa: ANN204
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ):
        del types
        name = func.overloadpacket.__name__
        indices = args[1] if name in {"index", "index_put_"} else []
        if name in WAITS or any(index is not None and index.dtype == torch.bool for index in indices):
            self.found.append(name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_waits_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name).train()
    replaced = {
        "trainer": SimpleNamespace(datamodule=None),
        "training_progress": 0.5,
        "log": Mock(),
        "log_dict": Mock(),
    }
    for attribute, value in replaced.items():
        monkeypatch.setattr(type(model), attribute, value)
    model._finite = Mock()  # waits on a CPU, where that costs nothing
    batch = ImageBatch(image=torch.randn(2, 3, 64, 64))
    with Waits() as waits:
        model.training_step(batch).backward()
    assert waits.found == []


def test_waiting_is_seen() -> None:
    values = torch.arange(3.0)
    with Waits() as waits:
        float(values.sum())
        values[values > 1]
    assert waits.found == ["_local_scalar_dense", "index"]

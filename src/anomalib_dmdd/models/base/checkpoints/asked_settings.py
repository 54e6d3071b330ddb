"""Pre- and post-processor that a user asked for, beside those of a checkpoint."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .checkpoint_mixin import CheckpointMixin

TRANSFORMS = ("transform", "export_transform")
"""What Anomalib's pre-processor loses if a checkpoint could not store it."""


class AskedSettings:
    """What a user asked for, noted before a checkpoint brings its own.

    Anomalib lets the settings of the checkpoint win without a word.

    Attributes:
        own_pre_processor: Whether the pre-processor is not the default one, also for its size.

    Args:
        model: The model that is about to take a checkpoint.
    """

    def __init__(self, model: "CheckpointMixin") -> None:
        self._pre = model.pre_processor
        self._transforms = {name: getattr(self._pre, name, None) for name in TRANSFORMS}
        pre = stored(self._pre)
        self._can_be_stored = pre.get("transform") is not None
        make = type(model).configure_pre_processor  # type: ignore[attr-defined]  # of AnomalibModule
        self.own_pre_processor = bool(differing(pre, stored(make())))
        self._asked = {
            "pre_processor": differing(pre, stored(make(model.input_size))),
            "post_processor": differing(stored(model.post_processor), _usual(model.post_processor)),
        }

    def keep_transforms(self, model: "CheckpointMixin") -> None:
        """Give a pre-processor its transforms back if the checkpoint could not store them.

        Raises:
            ValueError: If they could have been stored, so that they are not those of the training.
        """
        if self._transforms["transform"] is not None and getattr(model.pre_processor, "transform", self) is None:
            if self._can_be_stored:
                raise ValueError(
                    "pre_processor: the checkpoint has no transforms, because Anomalib could not store those of the "
                    "training. Pass the same pre-processor (--model.pre_processor, or pre_processor= in Python)."
                )
            for name, transform in self._transforms.items():
                setattr(model.pre_processor, name, transform)

    def check(self, model: "CheckpointMixin", checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that has replaced what was asked for.

        Args:
            model: The model that has taken the checkpoint.
            checkpoint: The loaded checkpoint.

        Raises:
            ValueError: If the checkpoint contradicts what was asked for.
        """
        if self._pre is None and checkpoint.get("anomalib_components_enabled", {}).get("pre_processor"):
            raise ValueError("pre_processor: the checkpoint was trained with one, but none was asked for.")
        for name, asked in self._asked.items():
            found = stored(getattr(model, name))
            if wrong := differing(asked, found):
                key, value = next(iter(wrong.items()))
                raise ValueError(
                    f"{name}: the checkpoint was trained with {key}={found.get(key)}, but {value} was asked for."
                )


def stored(component: object) -> dict[str, Any]:
    """What Anomalib stores of a pre- or post-processor."""
    return dict(component.checkpoint_config()) if hasattr(component, "checkpoint_config") else {}


def differing(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are not the same in others."""
    return {name: value for name, value in settings.items() if name not in others or not same(value, others[name])}


def same(first: Any, second: Any) -> bool:  # noqa: ANN401
    """Whether two values are equal; lists equal tuples, and NaN equals NaN."""
    first, second = (list(value) if isinstance(value, tuple) else value for value in (first, second))
    try:
        return bool(first == second) or repr(first) == repr(second)
    except (RuntimeError, ValueError):  # tensors and arrays of several values
        return np.array_equal(first, second)


def _usual(component: object) -> dict[str, Any]:
    """Settings of a component without arguments, of the nearest class that can be made so."""
    for cls in type(component).__mro__:
        try:
            return stored(cls())
        except Exception:  # noqa: BLE001, PERF203, S112  # whatever a class of the user raises
            continue
    return {}

"""How a model is saved in a checkpoint, and loaded from one."""

from collections.abc import Mapping
from typing import Any

from anomalib.data import AnomalibDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from anomalib_dmdd.models.base.finite import FiniteGuard
from anomalib_dmdd.models.base.trained_images import store_numbers, stored_numbers
from anomalib_dmdd.models.components import DistillationModel

from .asked_settings import AskedSettings
from .checkpoint import CHECKPOINT_KEY, describe, own_version, refuse_other_model, restore_settings
from .last_model import LastModelMixin


class CheckpointMixin(LastModelMixin):
    """Mixin that recognises checkpoints, takes their settings, and refuses those that do not fit.

    Attributes:
        written_by: Version of this package that wrote the loaded checkpoint, if one was loaded.
        trained_on: Numbers of the images of this and all former trainings.
    """

    written_by: str | None = None
    trained_on: frozenset[int] = frozenset()
    model: DistillationModel
    pre_processor: nn.Module | None
    input_size: tuple[int, int] | None

    def setup(self, stage: str) -> None:
        """Refuse a network that no checkpoint can hold.

        Raises:
            ValueError: If ``torch.compile`` wraps the network.
        """
        super().setup(stage)
        if stage == TrainerFn.FITTING and hasattr(self.model, "_orig_mod"):
            raise ValueError(
                "model.model: torch.compile() wraps the network, and its weights get names that no model can load. "
                "Call model.model.compile() instead, which keeps them."
            )

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Load a trained model, with the arguments of Lightning's method.

        Raises:
            ValueError: If the file is no checkpoint, or one of another model.
        """
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except (TypeError, ValueError):
            refuse_other_model(cls, checkpoint_path)
            raise

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the checkpoint needs to be recognised; refuse to store broken weights."""
        getattr(self, "_finite", FiniteGuard()).check_weights(self.model)  # without a run there is no loss to judge
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] = describe(self)
        store_numbers(checkpoint, self.trained_on)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the settings of the checkpoint, or refuse it.

        Raises:
            ValueError: If the checkpoint contradicts what the user asked for.
        """
        if self.put_trained_weights_back(checkpoint):
            return
        trainer = self._trainer
        resume = trainer is not None and trainer.training
        asked, size = AskedSettings(self), self.input_size
        restore_settings(self, checkpoint, resume=resume)
        self.trained_on = stored_numbers(checkpoint)
        super().on_load_checkpoint(checkpoint)
        asked.keep_transforms(self)
        if self.input_size != size and (resume or asked.own_pre_processor):
            trained, wanted = (tuple(sides or ()) for sides in (self.input_size, size))
            raise ValueError(f"image_size: the checkpoint was trained with {trained}, but {wanted} was asked for.")
        asked.check(self, checkpoint)
        if self.input_size == size:
            return
        if trainer is not None and isinstance(data := getattr(trainer, "datamodule", None), AnomalibDataModule):
            data.setup(trainer.state.fn)  # its images were to be resized to the other size

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Load weights, with the arguments of torch's method; the metrics stay as they are.

        Raises:
            ValueError: If they do not fit, and another version of the package wrote the checkpoint.
        """
        weights = {name: value for name, value in state_dict.items() if not _is_metric(name)}
        metrics = {name: value for name, value in self.state_dict().items() if _is_metric(name)}
        try:
            return super().load_state_dict(weights | metrics, *args, **kwargs)
        except RuntimeError as error:
            if self.written_by in (None, own_version()):
                raise
            raise ValueError(
                f"The checkpoint was written by {self.written_by} of anomalib-dmdd, and its weights do not fit "
                f"{type(self).__name__} of {own_version()}. Install that version, or train again."
            ) from error


def _is_metric(name: str) -> bool:
    """Whether an entry of a state is a buffer of a metric, as AUPRO has."""
    return name.startswith("evaluator.")

"""BiKD in Lightning and Anomalib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from anomalib_dmdd.models.distillation import Distillation
from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation

from .loss import BikdLoss, margin_reached, schedule, teacher_drift
from .post_processor import BikdPostProcessor
from .torch_model import BikdModel

TEACHER_GRADIENT_NORM = 1.0
"""The norm that the teacher's gradient is clipped at (our choice)."""


class Bikd(Distillation, AnomalibModule):
    """Bidirectional knowledge distillation (Wang, Wang, Pan, Wang; 2024; doi 10.1007/s00521-024-10172-8).

    A reconstruction: the README beside this file says what is the paper's and what is our choice.

    Args:
        backbone: Teacher and student, any timm ``features_only`` CNN.
        layers: Its layers; by default those with strides 4, 8 and 16.
        pre_trained: Start from timm's ImageNet weights. They are fetched when training starts, never to predict, test
            or export from a checkpoint.
        teacher_weights: A local ``.pth`` or ``.safetensors`` file with the backbone's weights instead of a download.
        textures: A folder of images that simulated anomalies take their texture from; without it they are made from
            the training images.
        foreground: Keep simulated anomalies on the object where one stands out from the background.
        augment: Move, turn, scale and brighten each training image a little. It has no effect where the data module has
            augmentations of its own.
        pre_processor: Anomalib's, or False.
        post_processor: :class:`BikdPostProcessor` by default, or False.
        evaluator: Anomalib's, or False.
        visualizer: Anomalib's, or False.

    Raises:
        ValueError: If timm has no such backbone, the backbone no such layers, or the input size does not fit it.
    """

    model: BikdModel

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        textures: str | Path | None = None,
        foreground: bool = True,
        augment: bool = True,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        self.model = BikdModel(backbone, layers, pre_trained, teacher_weights)
        self.check_input_size()
        self.augmentation = MildAugmentation() if augment else None
        self.simulator = AnomalySimulator(textures=textures, foreground=foreground)
        self.loss = BikdLoss()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """The student learns from the batch; in the middle of the training the teacher learns from anomalies on it."""
        del args, kwargs
        weight = schedule(self.training_progress)
        images = self.augmented(batch.image)
        anomalous, mask = self.simulator(images) if weight else (None, None)
        features = self.model(images, anomalous)
        if mask is not None:  # guards against collapse; the README says what is healthy
            guards = {
                "teacher_drift": teacher_drift(features).detach() / len(features.teacher),
                "margin_reached": margin_reached(features, mask, self.loss.margin),
            }
            self.log_dict(guards, batch_size=len(batch.image))
        return self.log_loss(self.loss(features, mask, weight), batch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One Adam for student and teacher, whose gradients are disjoint (rates: our choice)."""
        return self.decayed(
            torch.optim.Adam(
                [
                    {"params": self.model.student.parameters(), "lr": 5e-3},
                    {"params": self.teacher_parameters(), "lr": 1e-4},
                ],
                betas=(0.5, 0.999),
            )
        )

    def teacher_parameters(self) -> list[Tensor]:
        """The parameters of the teacher that are trained."""
        return [parameter for parameter in self.model.teacher.parameters() if parameter.requires_grad]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of the teacher alone."""
        super().on_before_optimizer_step(optimizer)
        torch.nn.utils.clip_grad_norm_(self.teacher_parameters(), TEACHER_GRADIENT_NORM)

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export as Anomalib does, without the anchor: it is only needed in training."""
        anchor, self.model.anchor = self.model.anchor, None
        try:
            path: Path = super().to_torch(*args, **kwargs)
        finally:
            self.model.anchor = anchor
        return path

    @staticmethod
    def configure_post_processor() -> BikdPostProcessor:
        """The default post-processor."""
        return BikdPostProcessor()

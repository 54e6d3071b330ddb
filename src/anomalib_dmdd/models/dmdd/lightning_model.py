"""DMDD in Lightning and Anomalib."""

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

from .loss import DmddLoss
from .post_processor import DmddPostProcessor
from .torch_model import AnomalyMap, DmddModel


class Dmdd(Distillation, AnomalibModule):
    """Dual-Modeling Decouple Distillation (Liu, Wang, Leng, Zhang; ACM MM 2024; arXiv 2408.03888).

    A reconstruction: the README beside this file says what is the paper's and what is our choice.

    Args:
        backbone: Teacher, any timm ``features_only`` CNN.
        layers: Its layers; by default those with strides 4, 8 and 16.
        pre_trained: Start from timm's ImageNet weights. They are fetched when training starts, never to predict, test
            or export from a checkpoint.
        teacher_weights: A local ``.pth`` or ``.safetensors`` file with the backbone's weights instead of a download.
        textures: A folder of images that simulated anomalies take their texture from; without it they are made from
            the training images.
        foreground: Keep simulated anomalies on the object where one stands out from the background.
        anomaly_map: The map that is reported: the ``head``'s, the ``sum`` of all distances, ``both`` together, or one
            branch alone, ``normality`` or ``abnormality``.
        augment: Move, turn, scale and brighten each training image a little. It has no effect where the data module has
            augmentations of its own.
        pre_processor: Anomalib's, or False.
        post_processor: :class:`DmddPostProcessor` by default, or False.
        evaluator: Anomalib's, or False.
        visualizer: Anomalib's, or False.

    Raises:
        ValueError: If timm has no such backbone, the backbone no such layers, or the input size does not fit it.
    """

    model: DmddModel

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        textures: str | Path | None = None,
        foreground: bool = True,
        anomaly_map: AnomalyMap = "both",
        augment: bool = True,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        self.model = DmddModel(backbone, layers, pre_trained, teacher_weights, anomaly_map)
        self.check_input_size()
        self.augmentation = MildAugmentation() if augment else None
        self.simulator = AnomalySimulator(textures=textures, foreground=foreground)
        self.loss = DmddLoss()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Simulate anomalies on the batch and learn from the pairs."""
        del args, kwargs
        images = self.augmented(batch.image)
        anomalous, mask = self.simulator(images)
        return self.log_loss(self.loss(self.model(images, anomalous), mask), batch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One Adam for student and head, whose gradients are disjoint (student: URD's code; head's rate: ours)."""
        student = [*self.model.embedding.parameters(), *self.model.decoder.parameters()]
        student += self.model.decouple.parameters()
        return self.decayed(
            torch.optim.Adam(
                [{"params": student, "lr": 5e-3}, {"params": self.model.head.parameters(), "lr": 3e-3}],
                betas=(0.5, 0.999),
            )
        )

    @staticmethod
    def configure_post_processor() -> DmddPostProcessor:
        """The default post-processor."""
        return DmddPostProcessor()

"""DSKD in Lightning and Anomalib."""

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
from anomalib_dmdd.synthesis import MildAugmentation

from .loss import DskdLoss
from .post_processor import DskdPostProcessor
from .torch_model import AnomalyMap, DskdModel, EmbeddingInput


class Dskd(Distillation, AnomalibModule):
    """Dual-Student Knowledge Distillation (Yao, Gao; arXiv 2402.00448).

    A reconstruction: the README beside this file says what is the paper's and what is our choice.

    Args:
        backbone: Teacher and encoder student, any timm ``features_only`` CNN.
        layers: Its layers; by default those with strides 4, 8 and 16.
        pre_trained: Start from timm's ImageNet weights. They are fetched when training starts, never to predict, test
            or export from a checkpoint.
        teacher_weights: A local ``.pth`` or ``.safetensors`` file with the backbone's weights instead of a download.
        embedding_input: Whose features the embedding takes: ``both`` the encoder student's and the teacher's, the
            ``student``'s alone, or only the ``teacher``'s (a control: plain reverse distillation).
        anomaly_map: Whose distances are reported: those of ``both`` students, in each layer their harmonic mean per
            position, or of one alone, ``encoder`` or ``decoder``.
        augment: Move, turn, scale and brighten each training image a little. It has no effect where the data module has
            augmentations of its own.
        pre_processor: Anomalib's, or False.
        post_processor: :class:`DskdPostProcessor` by default, or False.
        evaluator: Anomalib's, or False.
        visualizer: Anomalib's, or False.

    Raises:
        ValueError: If timm has no such backbone, the backbone no such layers, or the input size does not fit it.
    """

    model: DskdModel

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        embedding_input: EmbeddingInput = "both",
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
        self.model = DskdModel(backbone, layers, pre_trained, teacher_weights, embedding_input, anomaly_map)
        self.check_input_size()
        self.augmentation = MildAugmentation() if augment else None
        self.loss = DskdLoss()

    def method_epochs(self, steps_per_epoch: int) -> int:
        """200 epochs, as in RD4AD (our choice)."""
        del steps_per_epoch
        return 200

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Match both students with the teacher on normal images."""
        del args, kwargs
        return self.log_loss(self.loss(self.model(self.augmented(batch.image))), batch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam for both students and the embedding (settings: RD4AD's)."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return self.decayed(torch.optim.Adam(trained, lr=5e-3, betas=(0.5, 0.999)))

    @staticmethod
    def configure_post_processor() -> DskdPostProcessor:
        """The default post-processor."""
        return DskdPostProcessor()

"""DSKD in Lightning and Anomalib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from anomalib_dmdd.models.base import DefaultLength, DistillationMixin
from anomalib_dmdd.synthesis import MildAugmentation

from .loss import DskdLoss
from .torch_model import AnomalyMapMode, DskdModel, EmbeddingInput


class Dskd(DistillationMixin, AnomalibModule):
    """Dual-Student Knowledge Distillation.

    Note:
        A reconstruction, as the authors released no code. The README beside this file lists what comes from the paper.

    Args:
        backbone: Architecture of teacher and encoder student, any timm ``features_only`` CNN.
        layers: Layers of the teacher that are compared; the default is those with strides 4, 8 and 16.
        pre_trained: Whether the teacher starts from timm's ImageNet weights. They are loaded when training starts;
            predict, test and export take them from the checkpoint.
        teacher_weights: A local ``.pth`` or ``.safetensors`` file with the weights of the backbone, instead of a
            download.
        embedding_input: Features that the embedding takes: ``both`` those of encoder student and teacher, or those of
            one, ``student`` or ``teacher``.
        anomaly_map_mode: Distances that are reported: ``harmonic`` the harmonic mean of both students' distances, or
            those of one, ``encoder`` or ``decoder``.
        known_defects: Not supported, because DSKD learns from good images only.
        image_size: Height and width in pixels that images are resized to, or one number for both; the default is 256.
            Instead of it, ``pre_processor`` can be given.
        augment: Whether each training image is rotated, shifted, scaled and brightened a little. It has no effect if
            the data module has augmentations of its own.
        validate_every_n_epochs: Epochs between validations, which set the thresholds; it takes precedence over the
            trainer's ``check_val_every_n_epoch``. By default a training without a length validates about ten times,
            and one with a length as often as the trainer says. The last model is always validated.
        check_training_images: Whether up to 1000 training images are scored at the end, to name those that may not be
            good.
        pre_processor: A pre-processor of Anomalib, True for the default one, False for none.
        post_processor: A post-processor of Anomalib, True for :class:`DistillationPostProcessor`, False for none.
        evaluator: An evaluator of Anomalib, True for the default one, False for none.
        visualizer: A visualizer of Anomalib, True for the default one, False for none.

    Raises:
        ValueError: If backbone, layers or a mode are unknown, the input size does not fit the backbone, or known
            defects are given.

    Example:
        >>> model = Dskd(pre_trained=False)
        >>> model.default_length.epochs
        200

    References:
        Yao, Gao; https://arxiv.org/abs/2402.00448
    """

    default_length: ClassVar[DefaultLength] = DefaultLength(epochs=200)
    model: DskdModel

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        embedding_input: EmbeddingInput = "both",
        anomaly_map_mode: AnomalyMapMode = "harmonic",
        known_defects: str | Path | None = None,
        image_size: int | tuple[int, int] | None = None,
        augment: bool = True,
        validate_every_n_epochs: int | None = None,
        check_training_images: bool = True,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        if known_defects is not None:
            raise ValueError("known_defects: Dskd learns from good images only. Train Dmdd or Bikd with known defects.")
        super().__init__(
            pre_processor=self.sized(pre_processor, image_size),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        teacher = self.build_teacher(backbone, layers, pre_trained, teacher_weights)
        self.model = DskdModel(teacher, embedding_input, anomaly_map_mode)
        self.check_input_size()
        self.augmentation = MildAugmentation() if augment else None
        self.validate_every_n_epochs = validate_every_n_epochs
        self.check_training_images = check_training_images
        self.loss = DskdLoss()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Match both students with the teacher on normal images."""
        del args, kwargs
        return self.log_and_sum(self.loss(self.model(self.augmented(batch.image))), batch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam for both students and the embedding, with the settings of RD4AD."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return self.with_warmup_cosine(torch.optim.Adam(trained, lr=5e-3, betas=(0.5, 0.999)))

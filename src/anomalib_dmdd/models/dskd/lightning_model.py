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
    """Dual-Student Knowledge Distillation (DSKD).

    Note:
        A reconstruction, as the authors released no code. The README beside this file lists what comes from the paper.

    Args:
        backbone: Architecture of the teacher, the name of any CNN in timm that supports ``features_only``, for
            example ``resnet18.tv_in1k``.
        layers: Names of the compared layers of the teacher, for example ``[layer1, layer2, layer3]``. By default
            those with strides 4, 8 and 16.
        pre_trained: Whether the teacher starts from ImageNet weights, which timm downloads at the first training. With
            random weights the accuracy is low. A checkpoint holds all weights.
        teacher_weights: Local ``.pth`` or ``.safetensors`` file with the weights of the backbone, used instead of the
            download.
        embedding_input: Features that the embedding before the decoder student takes: those of encoder ``student`` or
            ``teacher``, or of ``both``.
        anomaly_map_mode: Distances that are reported. ``encoder`` or ``decoder`` are those of one student, ``harmonic``
            is the harmonic mean of both.
        known_defects: Not supported, because DSKD learns from good images only.
        image_size: Size in pixels that images are resized to, one number or ``[height, width]``. By default 256. Sides
            must be multiples of 32 for the default layers. It excludes ``pre_processor``.
        augment: Whether each training image is rotated by up to 5 degrees, shifted, scaled and brightened a little. It
            has no effect if the data module has augmentations of its own.
        validate_every_n_epochs: Epochs between validations, 1 or more. They set the thresholds. By default a training
            without a length validates about ten times, and one with a length as often as the trainer says. The last
            model is always validated.
        check_training_images: Whether up to 1000 training images are scored at the end, to name those that may not be
            good.
        pre_processor: Resizes and normalises images. True for the default one, False for none.
        post_processor: Turns maps into scores, labels and masks. True for :class:`DistillationPostProcessor`, False for
            none.
        evaluator: Computes metrics. True for AUROC and F1 score of images and pixels, False for none.
        visualizer: Draws pictures of tested and predicted images. True for the default one, False for none.

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

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

from anomalib_dmdd.models.base import DistillationMixin
from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation

from .loss import DmddLoss
from .torch_model import AnomalyMapMode, DmddModel


class Dmdd(DistillationMixin, AnomalibModule):
    """Dual-Modeling Decouple Distillation (DMDD).

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
        textures: Folder of images that give simulated anomalies their texture. By default textures come from the
            training images and from drawn patterns.
        foreground: Whether simulated anomalies stay on the object. It has no effect where no object stands out from the
            background.
        known_defects: Folder of images of real defects, each with a mask, such as ``000.png`` with ``000_mask.png``.
            Half of the simulated anomalies are then cut out of these. It is read when training starts.
        anomaly_map_mode: Map that is reported. ``head_x_normality`` is the map of the segmentation head times the
            distances of the normality branch, and ``head`` is the map of the head alone. ``normality`` and
            ``abnormality`` are the distances of one branch, and ``sum`` adds those of both.
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
        ValueError: If backbone, layers or mode are unknown, or the input size does not fit the backbone.

    Example:
        >>> model = Dmdd(backbone="resnet18", pre_trained=False)
        >>> sorted(model.hparams)[:3]
        ['anomaly_map_mode', 'augment', 'backbone']

    References:
        Liu, Wang, Leng, Zhang; ACM MM 2024; https://arxiv.org/abs/2408.03888
    """

    model: DmddModel

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        textures: str | Path | None = None,
        foreground: bool = True,
        known_defects: str | Path | None = None,
        anomaly_map_mode: AnomalyMapMode = "head_x_normality",
        image_size: int | tuple[int, int] | None = None,
        augment: bool = True,
        validate_every_n_epochs: int | None = None,
        check_training_images: bool = True,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=self.sized(pre_processor, image_size),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        teacher = self.build_teacher(backbone, layers, pre_trained, teacher_weights)
        self.model = DmddModel(teacher, anomaly_map_mode)
        self.check_input_size()
        self.augmentation = MildAugmentation() if augment else None
        self.validate_every_n_epochs = validate_every_n_epochs
        self.check_training_images = check_training_images
        self.simulator = AnomalySimulator(textures, foreground, known_defects)
        self.loss = DmddLoss()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Simulate anomalies on the batch and learn from the pairs."""
        del args, kwargs
        images = self.augmented(batch.image)
        anomalous, mask = self.simulator(images)
        return self.log_and_sum(self.loss(self.model(images, anomalous), self.model.tiled(mask)), batch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One Adam with two parameter groups, because the gradients of student and head are disjoint."""
        student = [*self.model.embedding.parameters(), *self.model.decoder.parameters()]
        student += self.model.decouple.parameters()
        return self.with_warmup_cosine(
            torch.optim.Adam(
                [{"params": student, "lr": 5e-3}, {"params": self.model.head.parameters(), "lr": 3e-3}],
                betas=(0.5, 0.999),
            )
        )

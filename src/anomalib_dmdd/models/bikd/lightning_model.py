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

from anomalib_dmdd.models.base import DistillationMixin, zero_of
from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation

from .loss import BikdLoss, margin_reached, teacher_drift
from .torch_model import BikdModel

TEACHER_GRADIENT_NORM = 1.0
"""The gradient norm of the teacher is clipped to this."""

TEACHER_STEPS = 400
"""In a training of more steps, the teacher's rate falls in proportion."""


class Bikd(DistillationMixin, AnomalibModule):
    """Bidirectional Knowledge Distillation (BiKD).

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
        ValueError: If backbone or layers are unknown, nothing of the teacher can learn, or the input size does not fit.

    Example:
        >>> model = Bikd(pre_trained=False)
        >>> len(model.teacher_parameters())  # the convolutions of layer1 to layer3
        14

    References:
        Wang, Wang, Pan, Wang; Neural Computing and Applications 36, 2024; https://doi.org/10.1007/s00521-024-10172-8
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
        super().__init__(
            pre_processor=self.sized(pre_processor, image_size),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        teacher = self.build_teacher(backbone, layers, pre_trained, teacher_weights)
        self.model = BikdModel(teacher)
        self.check_input_size()
        self.augmentation = MildAugmentation() if augment else None
        self.validate_every_n_epochs = validate_every_n_epochs
        self.check_training_images = check_training_images
        self.simulator = AnomalySimulator(textures, foreground, known_defects)
        self.loss = BikdLoss()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Train the student and, in the second phase, the teacher."""
        del args, kwargs
        images = self.augmented(batch.image)
        weight = backward_weight(self.training_progress)
        anomalous, mask = self.simulator(images) if weight else (None, None)
        features = self.model(images, anomalous)
        mask = mask if mask is None else self.model.tiled(mask)
        terms = self.loss(features, mask, weight)
        if mask is not None:  # signs of a collapse; the README says which values are healthy
            drift = terms.anchor / self.loss.anchor if self.loss.anchor else teacher_drift(features)
            signs = {
                "teacher_drift": drift.detach() / len(features.teacher),
                "margin_reached": margin_reached(features, mask, self.loss.margin),
            }
            self.log_dict(signs, batch_size=len(images))
        loss = self.log_and_sum(terms, batch)
        return loss if weight else loss + zero_of(self.teacher_parameters())

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One Adam with two parameter groups, because the gradients of student and teacher are disjoint."""
        return self.with_warmup_cosine(
            torch.optim.Adam(
                [
                    {"params": self.model.student.parameters(), "lr": 5e-3},
                    {"params": self.teacher_parameters(), "lr": 1e-4},
                ],
                betas=(0.5, 0.999),
            ),
            scales=[lambda: 1.0, lambda: teacher_scale(self.training_progress, self.trainer.global_step)],
        )

    def teacher_parameters(self) -> list[Tensor]:
        """The parameters of the teacher that are trained; none if the user froze them."""
        teacher = self.model.teacher
        parameters = [teacher.get_parameter(name) for name in teacher.learning]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of the teacher alone, or drop it while the teacher rests."""
        super().on_before_optimizer_step(optimizer)
        if backward_weight(self.training_progress):
            torch.nn.utils.clip_grad_norm_(self.teacher_parameters(), TEACHER_GRADIENT_NORM)
            return
        for parameter in self.teacher_parameters():
            parameter.grad = None  # Adam skips it; with a gradient of zeros its momentum would still move the teacher

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export as Anomalib does, but without the anchor, which only training needs."""
        anchor, self.model.anchor = self.model.anchor, None
        try:
            path: Path = super().to_torch(*args, **kwargs)
        finally:
            self.model.anchor = anchor
        return path


def teacher_scale(progress: float, step: int) -> float:
    """Factor of the teacher's rate, which falls with the length of the training.

    So its rates add up to those of 400 steps. With higher ones, long trainings lost accuracy: docs/performance.md.

    Args:
        progress: Share of the training that is done, in [0, 1].
        step: Number of steps that are done.

    Example:
        >>> [round(teacher_scale(0.5, step), 3) for step in (100, 200, 2500)]
        [1.0, 1.0, 0.08]
    """
    return min(1.0, TEACHER_STEPS * progress / max(1, step))


def backward_weight(progress: float) -> float:
    """Weight of backward distillation over the training; at 0 the teacher does not learn.

    First the student learns alone, then both learn, and at last the teacher rests while the student settles.

    Args:
        progress: Share of the training that is done, in [0, 1].

    Example:
        >>> [backward_weight(progress) for progress in (0.1, 0.3, 0.5, 0.9)]
        [0.0, 0.5, 1.0, 0.0]
    """
    if not 0.2 <= progress < 0.8:  # noqa: PLR2004  # the second phase
        return 0.0
    return min(1.0, round((progress - 0.2) / 0.2, 6))

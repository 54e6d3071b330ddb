"""Variants of the models that undo or add one choice, for development.py; each takes the arguments of its model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from anomalib.data import Batch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_dmdd import Bikd, Dmdd, Dskd
from anomalib_dmdd.models.base import zero_of
from anomalib_dmdd.models.bikd.loss import BikdLoss
from anomalib_dmdd.models.components import (
    BottleneckEmbedding,
    DecoderStudent,
    DistanceNormalizer,
    EncoderStudent,
    MixedBatchNorm2d,
    matching_distance,
)
from anomalib_dmdd.models.dmdd.loss import DmddLoss, DmddLossParts
from anomalib_dmdd.models.dmdd.segmentation_head import RandomScale
from anomalib_dmdd.models.dmdd.torch_model import Decouple, DmddFeatures
from anomalib_dmdd.synthesis import MildAugmentation

WARM_UP, REST = 0.05, 0.9
"""Shares of the training after which the rates have risen, and after which a variant learns no more."""


class _Changed:
    """Mixin of a variant.

    Args:
        change: Name of a function of this file that changes the model after it is built.
        **arguments: Those of the model.
    """

    def __init__(self, change: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        globals()[change](self)


class DmddChanged(_Changed, Dmdd):
    """DMDD with a change."""


class DskdChanged(_Changed, Dskd):
    """DSKD with a change."""


class BikdChanged(_Changed, Bikd):
    """BiKD with a change."""


def without_dropout(model: Dmdd) -> None:
    """No dropout before the embedding's compressing stage."""
    model.model.embedding.dropout.p = 0.0


def with_more_dropout(model: Dmdd) -> None:
    """Twice the dropout before the embedding's compressing stage."""
    model.model.embedding.dropout.p = 0.4


def with_dropout(model: nn.Module) -> None:
    """DMDD's dropout in the embedding."""
    for module in model.modules():
        if isinstance(module, BottleneckEmbedding):
            module.dropout.p = 0.2


def with_flat_loss(model: Dmdd) -> None:
    """One cosine distance for each whole feature map in NGM, as in RD4AD and URD."""
    model.loss = _FlatLoss()


def without_guidance(model: Dmdd) -> None:
    """The normality branch learns from normal images alone."""
    model.loss = DmddLoss(guidance=0.0)


def with_full_guidance(model: Dmdd) -> None:
    """The normality branch learns as much from anomalous copies as from normal images."""
    model.loss = DmddLoss(guidance=1.0)


def with_median(model: Dmdd) -> None:
    """A map is divided by its median where that is above the limit of normal images."""
    model.model.normalizer = _MedianNormalizer(model.model.normalizer.limit.numel())


def with_factors_up_to_3(model: Dmdd) -> None:
    """The head learns from distances times factors from 1/3 to 3."""
    model.model.head.scale = RandomScale(largest=3)


def with_unscaled_distances(model: Dmdd) -> None:
    """The head learns from the distances as they are, without a random factor for each image."""
    model.model.head.scale = nn.Identity()


def with_relaxed_loss(model: Dmdd) -> None:
    """In NGM, the nine tenths of the positions that match best count a tenth, after Dinomaly."""
    model.loss = _RelaxedLoss()


def with_noise_on_the_features(model: Dmdd) -> None:
    """The embedding sees the teacher's features with noise, half as long as they are."""
    model.model.embedding.register_forward_pre_hook(_add_noise)


def with_stronger_augmentation(model: Dmdd | Dskd) -> None:
    """Twice the default rotation, shift, scale and brightness."""
    model.augmentation = MildAugmentation(10.0, 0.06, 0.1, 0.2)


def with_stronger_geometry(model: Dmdd) -> None:
    """Twice the default rotation, shift and scale."""
    model.augmentation = MildAugmentation(10.0, 0.06, 0.1, 0.1)


def with_stronger_geometry_and_less_light(model: Dmdd) -> None:
    """Twice the default rotation, shift and scale, half the brightness."""
    model.augmentation = MildAugmentation(10.0, 0.06, 0.1, 0.05)


def with_more_light(model: Dmdd) -> None:
    """Twice the default brightness."""
    model.augmentation = MildAugmentation(5.0, 0.03, 0.05, 0.2)


def with_one_compressing_block(model: nn.Module) -> None:
    """One residual block in the compressing stage of the embedding."""
    for module in model.modules():
        if isinstance(module, BottleneckEmbedding):
            module.compress = module.compress[:1]


def with_shallow_decoder(model: nn.Module) -> None:
    """One residual block in each stage of the decoder, as DSKD has."""
    for module in model.modules():
        if isinstance(module, DecoderStudent):
            module.stages = nn.ModuleList(stage[:1] for stage in module.stages)


def with_small_student(model: nn.Module) -> None:
    """One residual block in each stage of embedding and decoder."""
    with_one_compressing_block(model)
    with_shallow_decoder(model)


def with_weights_of_rd4ad(model: nn.Module) -> None:
    """Students that start with weights as those of RD4AD."""
    for part in model.modules():
        if isinstance(part, BottleneckEmbedding | DecoderStudent | Decouple):
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def with_weights_of_torch(model: Dskd) -> None:
    """An encoder student that starts with weights as torch draws them."""
    for module in model.model.encoder.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.reset_parameters()


def with_narrow_embedding(model: Dmdd) -> None:
    """Bottleneck blocks in the compressing stage of the embedding."""
    teacher = model.model.teacher
    model.model.embedding = BottleneckEmbedding(teacher.channels, teacher.reductions, dropout=0.2, narrow=True)
    MixedBatchNorm2d.convert(model.model.embedding.compress)
    model.model.use_fast_layout()


def with_half_of_the_encoder(model: Dskd) -> None:
    """An encoder student with one residual block in each stage, half of those of the teacher."""
    teacher = model.model.teacher
    model.model.encoder = EncoderStudent(teacher.channels, teacher.reductions, 1, final_relu=teacher.final_relu)
    model.model.use_fast_layout()


def without_push(model: Bikd) -> None:
    """The teacher is not pushed away from the student in anomalous cells."""
    model.loss = BikdLoss(push=0.0)


def without_anchor(model: Bikd) -> None:
    """The teacher may leave its pre-trained weights."""
    model.loss = BikdLoss(anchor=0.0)


def with_a_plain_block(model: Bikd) -> None:
    """The embedding compresses with a block of two 3x3 convolutions."""
    teacher = model.model.teacher
    model.model.student[0] = BottleneckEmbedding(teacher.channels, teacher.reductions, blocks=1)
    model.model.use_fast_layout()


def with_two_compressing_blocks(model: Bikd) -> None:
    """Two residual blocks in the compressing stage of the embedding, as RD4AD has."""
    teacher = model.model.teacher
    model.model.student[0] = BottleneckEmbedding(teacher.channels, teacher.reductions)
    model.model.use_fast_layout()


class DmddWithLateGuidance(Dmdd):
    """DMDD whose guidance starts after a fifth of the training, and is full after three fifths."""

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Set the guidance and learn."""
        self.loss.guidance = 0.3 * min(1.0, max(0.0, (self.training_progress - 0.2) / 0.4))
        return super().training_step(batch, *args, **kwargs)


class _Rated:
    """Mixin of a variant with other learning rates.

    Args:
        factor: Multiple of all rates.
        **arguments: Those of the model.
    """

    def __init__(self, factor: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.factor = factor

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser of the model, but for the rates."""
        config: OptimizerLRSchedulerConfig = super().configure_optimizers()  # type: ignore[misc]
        scheduler = config["lr_scheduler"]["scheduler"]
        scheduler.base_lrs = [self.factor * rate for rate in scheduler.base_lrs]
        return config


class DmddWithRate(_Rated, Dmdd):
    """DMDD with other learning rates."""


class DskdWithRate(_Rated, Dskd):
    """DSKD with other learning rates."""


class BikdWithRate(_Rated, Bikd):
    """BiKD with other learning rates."""


class DmddWithWeightDecay(Dmdd):
    """DMDD with decoupled weight decay of the student's convolutions."""

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser of DMDD, but for the decay."""
        student = [self.model.embedding, self.model.decoder, self.model.decouple]
        weights = [weight for module in student for weight in module.parameters()]
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "lr": 5e-3, "weight_decay": 0.5},
            {"params": [weight for weight in weights if weight.ndim == 1], "lr": 5e-3},
            {"params": [*self.model.head.parameters()], "lr": 3e-3},
        ]
        return self.with_warmup_cosine(torch.optim.AdamW(groups, betas=(0.5, 0.999), weight_decay=0.0))


class DmddWithMomentum(Dmdd):
    """DMDD whose Adam averages gradients over about ten steps, not two."""

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser of DMDD, but for its first beta."""
        config: OptimizerLRSchedulerConfig = super().configure_optimizers()
        for group in config["optimizer"].param_groups:
            group["betas"] = (0.9, 0.999)
        return config


class DmddWithAverage(Dmdd):
    """DMDD with a moving average of the weights in place of the decay of the rates.

    After 90 % of the training the average stands in and learns no more, because batch statistics lag behind weights.
    """

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser of DMDD, with a constant rate after the warm-up."""
        config: OptimizerLRSchedulerConfig = super().configure_optimizers()
        scheduler = config["lr_scheduler"]["scheduler"]
        scheduler.lr_lambdas = [self._without_decay(factor) for factor in scheduler.lr_lambdas]
        return config

    def _without_decay(self, factor: Callable[[int], float]) -> Callable[[int], float]:
        def constant(step: int) -> float:
            if self.training_progress < WARM_UP:
                return factor(step)
            return 1.0 if self.training_progress < REST else 0.0

        return constant

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Average, and put the average in place."""
        super().on_train_batch_end(*args, **kwargs)
        weights = [weight.data for weight in self.model.parameters() if weight.requires_grad]
        step = self.trainer.global_step
        if step == 1:
            self.average, self.stands_in = [weight.clone() for weight in weights], False
        if self.training_progress < REST:
            tenth = 0.1 * step / self.training_progress  # of the training, in steps
            torch._foreach_lerp_(self.average, weights, max(1 / tenth, 1 / (1 + step)))
        elif not self.stands_in:
            torch._foreach_copy_(weights, self.average)
            self.stands_in = True


class BikdForwardOnly(Bikd):
    """BiKD whose teacher does not learn, a plain reverse distillation."""

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Forward distillation."""
        del args, kwargs
        features = self.model(self.augmented(batch.image))
        return self.log_and_sum(self.loss(features), batch) + zero_of(self.teacher_parameters())


CHANGES = {
    "Dmdd": [
        without_dropout,
        with_more_dropout,
        with_flat_loss,
        without_guidance,
        with_full_guidance,
        with_median,
        with_factors_up_to_3,
        with_unscaled_distances,
        with_relaxed_loss,
        with_noise_on_the_features,
        with_stronger_augmentation,
        with_stronger_geometry,
        with_stronger_geometry_and_less_light,
        with_more_light,
        with_one_compressing_block,
        with_shallow_decoder,
        with_small_student,
        with_weights_of_rd4ad,
        with_narrow_embedding,
    ],
    "Dskd": [
        with_dropout,
        with_stronger_augmentation,
        with_one_compressing_block,
        with_weights_of_rd4ad,
        with_weights_of_torch,
        with_half_of_the_encoder,
    ],
    "Bikd": [
        with_dropout,
        with_small_student,
        with_weights_of_rd4ad,
        without_push,
        without_anchor,
        with_a_plain_block,
        with_two_compressing_blocks,
    ],
}
"""Changes of each model."""

VARIANTS: dict[str, dict[str, Any]] = {
    "Dmdd with late guidance": {"class_path": "variants.DmddWithLateGuidance"},
    "Dmdd with averaged weights": {"class_path": "variants.DmddWithAverage"},
    "Dmdd with more momentum": {"class_path": "variants.DmddWithMomentum"},
    "Dmdd with weight decay": {"class_path": "variants.DmddWithWeightDecay"},
    "Bikd forward only": {"class_path": "variants.BikdForwardOnly"},
}
"""Label of each variant, and its entry in the ``models`` of a comparison. The first word is the present default."""

for _name, _changes in CHANGES.items():
    for _change in _changes:
        _label = f"{_name} {_change.__name__.replace('_', ' ').replace('rd4ad', 'RD4AD')}"
        VARIANTS[_label] = {"class_path": f"variants.{_name}Changed", "init_args": {"change": _change.__name__}}
    _ours = f"anomalib_dmdd.{_name}"
    VARIANTS |= {
        f"{_name} without augmentation": {"class_path": _ours, "init_args": {"augment": False}},
        f"{_name} in single precision": {"class_path": _ours, "trainer": {"precision": "32-true"}},
        f"{_name} with MobileNetV2": {"class_path": _ours, "init_args": {"backbone": "mobilenetv2_100.ra_in1k"}},
        f"{_name} with 0.4 of the rate": {"class_path": f"variants.{_name}WithRate", "init_args": {"factor": 0.4}},
        f"{_name} with twice the rate": {"class_path": f"variants.{_name}WithRate", "init_args": {"factor": 2.0}},
    }


class _FlatLoss(DmddLoss):
    def forward(self, features: DmddFeatures, mask: Tensor) -> DmddLossParts:
        def flat(branch: Sequence[Tensor]) -> Tensor:
            pairs = zip(branch, features.teacher, strict=True)
            distances = [1 - F.cosine_similarity(n.float().flatten(1), t.float().flatten(1)).mean() for n, t in pairs]
            return torch.stack(distances).sum()

        terms = super().forward(features, mask)
        guided, plain = flat(features.anomalous_normality), flat(features.normality)
        return terms._replace(ngm=self.guidance * guided + (2 - self.guidance) * plain)


class _RelaxedLoss(DmddLoss):
    def forward(self, features: DmddFeatures, mask: Tensor) -> DmddLossParts:
        def relaxed(branch: Sequence[Tensor]) -> Tensor:
            means = []
            for normality, teacher in zip(branch, features.teacher, strict=True):
                distances = matching_distance(normality, teacher).flatten()
                weights = torch.full_like(distances, 0.1)
                weights[distances.detach().topk(max(1, len(distances) // 10), sorted=False).indices] = 1.0
                means.append((weights * distances).sum() / weights.sum())
            return torch.stack(means).sum()

        terms = super().forward(features, mask)
        guided, plain = relaxed(features.anomalous_normality), relaxed(features.normality)
        return terms._replace(ngm=self.guidance * guided + (2 - self.guidance) * plain)


class _MedianNormalizer(DistanceNormalizer):
    def forward(self, maps: Tensor) -> Tensor:
        scaled = super().forward(maps)
        positions = scaled.flatten(2)
        upper_half = positions.topk(positions.shape[-1] // 2 + 1, sorted=False).values
        return scaled / upper_half.amin(-1).clamp_min(1)[..., None, None]


def _add_noise(module: nn.Module, inputs: tuple[Sequence[Tensor]]) -> tuple[Sequence[Tensor]]:
    if not module.training:
        return inputs
    lengths = [features.float().square().mean(1, keepdim=True).sqrt() for features in inputs[0]]
    pairs = zip(inputs[0], lengths, strict=True)
    return ([features + 0.5 * length.to(features.dtype) * torch.randn_like(features) for features, length in pairs],)

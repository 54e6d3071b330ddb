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
)
from anomalib_dmdd.models.dmdd.loss import DmddLoss, DmddLossParts
from anomalib_dmdd.models.dmdd.torch_model import Decouple, DmddFeatures
from anomalib_dmdd.synthesis import MildAugmentation


class _Changed:
    """Mixin of a variant that changes a model after it is built."""

    _change: Callable[..., None]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._change()


class DmddWithoutDropout(_Changed, Dmdd):
    """DMDD without dropout before the embedding's compressing stage."""

    def _change(self) -> None:
        self.model.embedding.dropout.p = 0.0


class DmddWithFlatLoss(_Changed, Dmdd):
    """DMDD with one cosine distance for each whole feature map in NGM, as in RD4AD and URD."""

    def _change(self) -> None:
        self.loss = _FlatLoss()


class DmddWithoutGuidance(_Changed, Dmdd):
    """DMDD whose normality branch learns from normal images alone."""

    def _change(self) -> None:
        self.loss = DmddLoss(guidance=0.0)


class DmddWithFullGuidance(_Changed, Dmdd):
    """DMDD whose normality branch learns as much from anomalous copies as from normal images."""

    def _change(self) -> None:
        self.loss = DmddLoss(guidance=1.0)


class DmddWithLateGuidance(Dmdd):
    """DMDD whose guidance starts after a fifth of the training, and is full after three fifths."""

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Set the guidance and learn."""
        self.loss.guidance = 0.3 * min(1.0, max(0.0, (self.training_progress - 0.2) / 0.4))
        return super().training_step(batch, *args, **kwargs)


class DmddWithMedian(_Changed, Dmdd):
    """DMDD that divides a map by its median where that is above the limit of normal images."""

    def _change(self) -> None:
        self.model.normalizer = _MedianNormalizer(self.model.normalizer.limit.numel())


class DmddWithMoreDropout(_Changed, Dmdd):
    """DMDD with twice the dropout before the embedding's compressing stage."""

    def _change(self) -> None:
        self.model.embedding.dropout.p = 0.4


class _Augmented:
    """Mixin of a variant with another augmentation.

    Args:
        pose: Multiple of the default rotation, shift and scale.
        light: Multiple of the default brightness.
        kind: Name of the class of the augmentation in this file, by default the one of the package.
        **arguments: Those of the model.
    """

    def __init__(self, pose: float = 1.0, light: float = 1.0, kind: str = "MildAugmentation", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.augmentation = globals()[kind](5.0 * pose, 0.03 * pose, 0.05 * pose, 0.1 * light)


class DmddWithAugmentation(_Augmented, Dmdd):
    """DMDD with another augmentation."""


class DskdWithAugmentation(_Augmented, Dskd):
    """DSKD with another augmentation."""


class Reflecting(MildAugmentation):
    """Augmentation whose uncovered corners mirror the image."""

    padding_mode = "reflection"


class Bicubic(MildAugmentation):
    """Augmentation that hardly blurs the images."""

    interpolation = "bicubic"


class Half(MildAugmentation):
    """Augmentation that leaves the pose of every second image as it is."""

    def _transforms(self, images: Tensor) -> Tensor:
        transforms = super()._transforms(images)
        chosen = torch.randint(2, (len(images), 1, 1), device=images.device).bool()
        return torch.where(chosen, transforms, torch.eye(2, 3, device=images.device))


class HalfBicubic(Half, Bicubic):
    """Augmentation of half of the poses that hardly blurs the images."""


class _Rated:
    """Mixin of a variant with other learning rates.

    Args:
        factor: Multiple of all rates.
        **arguments: Those of the model.
    """

    def __init__(self, factor: float = 1.0, **arguments: Any) -> None:
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


class DmddWithNoise(_Changed, Dmdd):
    """DMDD whose embedding sees the teacher's features with noise, half as long as they are."""

    def _change(self) -> None:
        self.model.embedding.register_forward_pre_hook(_add_noise)


class DskdWithDropout(_Changed, Dskd):
    """DSKD with DMDD's dropout in the embedding."""

    def _change(self) -> None:
        _set_dropout(self.model)


class BikdWithDropout(_Changed, Bikd):
    """BiKD with DMDD's dropout in the embedding."""

    def _change(self) -> None:
        _set_dropout(self.model)


class DmddWithOneCompressingBlock(_Changed, Dmdd):
    """DMDD with one residual block in the compressing stage of the embedding."""

    def _change(self) -> None:
        _keep_one_block(self.model)


class DskdWithOneCompressingBlock(_Changed, Dskd):
    """DSKD with one residual block in the compressing stage of the embedding."""

    def _change(self) -> None:
        _keep_one_block(self.model)


class DmddWithSmallStudent(_Changed, Dmdd):
    """DMDD with one residual block in each stage of embedding and decoder."""

    def _change(self) -> None:
        _shrink_student(self.model)


class DmddWithShallowDecoder(_Changed, Dmdd):
    """DMDD with one residual block in each stage of the decoder, as DSKD has."""

    def _change(self) -> None:
        _keep_one_decoder_block(self.model)


class DmddWithWeightsOfRd4ad(_Changed, Dmdd):
    """Dmdd whose students start with weights as those of RD4AD."""

    def _change(self) -> None:
        _draw_weights(self.model)


class DskdWithWeightsOfRd4ad(_Changed, Dskd):
    """Dskd whose students start with weights as those of RD4AD."""

    def _change(self) -> None:
        _draw_weights(self.model)


class BikdWithWeightsOfRd4ad(_Changed, Bikd):
    """Bikd whose students start with weights as those of RD4AD."""

    def _change(self) -> None:
        _draw_weights(self.model)


class BikdForwardOnly(Bikd):
    """BiKD whose teacher does not learn, a plain reverse distillation."""

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Forward distillation."""
        del args, kwargs
        features = self.model(*self.model.tiled(self.augmented(batch.image)))
        return self.log_and_sum(self.loss(features), batch) + zero_of(self.teacher_parameters())


class BikdWithoutPush(_Changed, Bikd):
    """BiKD whose teacher is not pushed away from the student in anomalous cells."""

    def _change(self) -> None:
        self.loss = BikdLoss(push=0.0)


class BikdWithoutAnchor(_Changed, Bikd):
    """BiKD whose teacher may leave its pre-trained weights."""

    def _change(self) -> None:
        self.loss = BikdLoss(anchor=0.0)


class BikdWithSmallStudent(_Changed, Bikd):
    """BiKD with one residual block in each stage of the decoder, as its embedding has."""

    def _change(self) -> None:
        _shrink_student(self.model)


class BikdWithPlainBlock(_Changed, Bikd):
    """BiKD whose embedding compresses with a block of two 3x3 convolutions."""

    def _change(self) -> None:
        teacher = self.model.teacher
        self.model.student[0] = BottleneckEmbedding(teacher.channels, teacher.reductions, blocks=1)
        self.model.use_fast_layout()


class DskdWithHalfOfTheEncoder(_Changed, Dskd):
    """DSKD whose encoder student has one residual block in each stage, half of those of the teacher."""

    def _change(self) -> None:
        teacher = self.model.teacher
        self.model.encoder = EncoderStudent(teacher.channels, teacher.reductions, 1, final_relu=teacher.final_relu)
        self.model.use_fast_layout()


class DskdWithWeightsOfTorch(_Changed, Dskd):
    """DSKD whose encoder student starts with weights as torch draws them."""

    def _change(self) -> None:
        for module in self.model.encoder.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()


class DmddWithNarrowEmbedding(_Changed, Dmdd):
    """DMDD with bottleneck blocks in the compressing stage of the embedding."""

    def _change(self) -> None:
        teacher = self.model.teacher
        self.model.embedding = BottleneckEmbedding(teacher.channels, teacher.reductions, dropout=0.2, narrow=True)
        MixedBatchNorm2d.convert(self.model.embedding.compress)
        self.model.use_fast_layout()


class BikdWithTwoCompressingBlocks(_Changed, Bikd):
    """BiKD with two residual blocks in the compressing stage of the embedding, as RD4AD has."""

    def _change(self) -> None:
        teacher = self.model.teacher
        self.model.student[0] = BottleneckEmbedding(teacher.channels, teacher.reductions)
        self.model.use_fast_layout()


VARIANTS: dict[str, dict[str, Any]] = (
    {
        "Dmdd without augmentation": {"class_path": "anomalib_dmdd.Dmdd", "init_args": {"augment": False}},
        "Dmdd without dropout": {"class_path": "variants.DmddWithoutDropout"},
        "Dmdd with flat loss": {"class_path": "variants.DmddWithFlatLoss"},
        "Dmdd without guidance": {"class_path": "variants.DmddWithoutGuidance"},
        "Dmdd with full guidance": {"class_path": "variants.DmddWithFullGuidance"},
        "Dmdd with late guidance": {"class_path": "variants.DmddWithLateGuidance"},
        "Dmdd with median": {"class_path": "variants.DmddWithMedian"},
        "Dmdd with weight decay": {"class_path": "variants.DmddWithWeightDecay"},
        "Dmdd with more dropout": {"class_path": "variants.DmddWithMoreDropout"},
        "Dmdd with noise on the features": {"class_path": "variants.DmddWithNoise"},
        "Dskd without augmentation": {"class_path": "anomalib_dmdd.Dskd", "init_args": {"augment": False}},
        "Dskd with dropout": {"class_path": "variants.DskdWithDropout"},
        "Bikd without augmentation": {"class_path": "anomalib_dmdd.Bikd", "init_args": {"augment": False}},
        "Bikd with dropout": {"class_path": "variants.BikdWithDropout"},
        "Bikd forward only": {"class_path": "variants.BikdForwardOnly"},
        "Bikd without push": {"class_path": "variants.BikdWithoutPush"},
        "Bikd without anchor": {"class_path": "variants.BikdWithoutAnchor"},
        "Bikd with a plain block": {"class_path": "variants.BikdWithPlainBlock"},
        "Dskd with half of the encoder": {"class_path": "variants.DskdWithHalfOfTheEncoder"},
        "Dskd with weights of torch": {"class_path": "variants.DskdWithWeightsOfTorch"},
        "Dmdd with shallow decoder": {"class_path": "variants.DmddWithShallowDecoder"},
        "Dmdd with narrow embedding": {"class_path": "variants.DmddWithNarrowEmbedding"},
        "Bikd with two compressing blocks": {"class_path": "variants.BikdWithTwoCompressingBlocks"},
    }
    | {
        f"{model} with stronger augmentation": {
            "class_path": f"variants.{model}WithAugmentation",
            "init_args": {"pose": 2.0, "light": 2.0},
        }
        for model in ("Dmdd", "Dskd")
    }
    | {
        f"{model} with {name}": {"class_path": f"variants.{model}WithRate", "init_args": {"factor": factor}}
        for model in ("Dmdd", "Dskd", "Bikd")
        for name, factor in {"0.4 of the rate": 0.4, "twice the rate": 2.0}.items()
    }
    | {
        f"Dmdd with {name}": {"class_path": "variants.DmddWithAugmentation", "init_args": arguments}
        for name, arguments in {
            "stronger augmentation, reflected borders": {"pose": 2.0, "light": 2.0, "kind": "Reflecting"},
            "stronger geometry": {"pose": 2.0},
            "stronger geometry, less light": {"pose": 2.0, "light": 0.5},
            "stronger geometry, reflected borders": {"pose": 2.0, "kind": "Reflecting"},
            "reflected borders": {"kind": "Reflecting"},
            "more light": {"light": 2.0},
            "bicubic augmentation": {"kind": "Bicubic"},
            "half of the images augmented": {"kind": "Half"},
            "half of the images augmented, bicubic": {"kind": "HalfBicubic"},
        }.items()
    }
    | {
        f"{name} with one compressing block": {"class_path": f"variants.{name}WithOneCompressingBlock"}
        for name in ("Dmdd", "Dskd")
    }
    | {
        f"{name} with weights of RD4AD": {"class_path": f"variants.{name}WithWeightsOfRd4ad"}
        for name in ("Dmdd", "Dskd", "Bikd")
    }
    | {f"{name} with small student": {"class_path": f"variants.{name}WithSmallStudent"} for name in ("Dmdd", "Bikd")}
    | {
        f"{name} in single precision": {"class_path": f"anomalib_dmdd.{name}", "trainer": {"precision": "32-true"}}
        for name in ("Dmdd", "Dskd", "Bikd")
    }
    | {
        f"{name} with MobileNetV2": {
            "class_path": f"anomalib_dmdd.{name}",
            "init_args": {"backbone": "mobilenetv2_100.ra_in1k"},
        }
        for name in ("Dmdd", "Dskd", "Bikd")
    }
)
"""Label of each variant, and its entry in the ``models`` of a comparison. The first word is the present default."""


class _FlatLoss(DmddLoss):
    def forward(self, features: DmddFeatures, mask: Tensor) -> DmddLossParts:
        def flat(branch: Sequence[Tensor]) -> Tensor:
            pairs = zip(branch, features.teacher, strict=True)
            distances = [1 - F.cosine_similarity(n.float().flatten(1), t.float().flatten(1)).mean() for n, t in pairs]
            return torch.stack(distances).sum()

        terms = super().forward(features, mask)
        guided, plain = flat(features.anomalous_normality), flat(features.normality)
        return terms._replace(ngm=self.guidance * guided + (2 - self.guidance) * plain)


class _MedianNormalizer(DistanceNormalizer):
    def forward(self, maps: Tensor) -> Tensor:
        scaled = super().forward(maps)
        positions = scaled.flatten(2)
        upper_half = positions.topk(positions.shape[-1] // 2 + 1, sorted=False).values
        return scaled / upper_half.amin(-1).clamp_min(1)[..., None, None]


def _set_dropout(model: nn.Module, probability: float = 0.2) -> None:
    for module in model.modules():
        if isinstance(module, BottleneckEmbedding):
            module.dropout.p = probability


def _add_noise(module: nn.Module, inputs: tuple[Sequence[Tensor]]) -> tuple[Sequence[Tensor]]:
    if not module.training:
        return inputs
    lengths = [features.float().square().mean(1, keepdim=True).sqrt() for features in inputs[0]]
    pairs = zip(inputs[0], lengths, strict=True)
    return ([features + 0.5 * length.to(features.dtype) * torch.randn_like(features) for features, length in pairs],)


def _keep_one_block(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, BottleneckEmbedding):
            module.compress = module.compress[:1]


def _draw_weights(model: nn.Module) -> None:
    for part in model.modules():
        if isinstance(part, BottleneckEmbedding | DecoderStudent | Decouple):
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _shrink_student(model: nn.Module) -> None:
    _keep_one_block(model)
    _keep_one_decoder_block(model)


def _keep_one_decoder_block(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, DecoderStudent):
            module.stages = nn.ModuleList(stage[:1] for stage in module.stages)

r"""Ablation of a model: train its variants and test each of them with every map that it can report.

    python benchmarks/ablation.py Dmdd path/to/images screw --steps 400

The category is in the layout of MVTec AD.
One training of DMDD gives all of its rows, because neither the abnormality branch nor a head trains the decoder. So the
normality map is that of a model without the other parts, and simpler heads are trained beside the model's own.
"""

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from anomalib.data import Batch, MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, ReverseDistillation
from lightning import seed_everything
from timm.layers.cbam import ChannelAttn, SpatialAttn
from torch import Tensor, nn

from anomalib_dmdd import Dmdd, Dskd
from anomalib_dmdd.compare.measure import accuracy, build_evaluator
from anomalib_dmdd.models.dmdd.loss import segmentation
from anomalib_dmdd.models.dmdd.segmentation_head import SegmentationHead

METRICS = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")


class Heads(nn.ModuleDict):
    """Segmentation heads in the place of one; which of them answers is chosen by name."""

    def __init__(self, own: SegmentationHead, maps: int) -> None:
        width = own.correction.in_channels
        attentions = {"no": nn.Identity(), "channel": ChannelAttn(width, rd_ratio=1 / 4), "spatial": SpatialAttn(7)}
        heads = {f"head with {name} attention": SegmentationHead(maps, width) for name in attentions}
        for head, attention in zip(heads.values(), attentions.values(), strict=True):
            head.attention = attention
        heads["head, unscaled distances"] = unscaled = copy.deepcopy(own)  # so that only the scales differ
        unscaled.scale = nn.Identity()
        super().__init__({"head: one 3x3 convolution": nn.Conv2d(maps, 1, 3, padding=1), **heads, "head": own})
        self.chosen = "head"
        self.logits: list[Tensor] = []

    def forward(self, maps: Tensor) -> Tensor:
        """Logits of the chosen head; in training, those of the others are kept for their losses."""
        if self.training:
            self.logits = [head(maps) for name, head in self.items() if name != self.chosen]
        return self[self.chosen](maps)

    @property
    def sum(self) -> nn.Conv2d:
        """The weighted sum in the model's own head, whose type the model asks for."""
        return self["head"].sum


class DmddWithHeads(Dmdd):
    """DMDD with simpler heads that are trained beside its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.model.head = Heads(self.model.head, maps=2 * len(self.model.decouple))

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """The model's own step, with the losses of the other heads."""
        del args, kwargs
        images = self.augmented(batch.image)
        anomalous, mask = self.simulator(images)
        loss = self.log_and_sum(self.loss(self.model(images, anomalous), mask), batch)
        masks = torch.cat([torch.zeros_like(mask), mask])
        return loss + torch.stack([segmentation(logits, masks) for logits in self.model.head.logits]).sum()

    def maps(self) -> Sequence[str]:
        """Names of the maps that :meth:`report` knows."""
        products = [f"{head} x normality" for head in self.model.head if "scale" in head]
        return ["normality", "abnormality", "sum", *self.model.head, "head_x_normality", *products]

    def report(self, name: str) -> None:
        """Report a map of the model, or that of one of the heads."""
        head = name.removesuffix(" x normality")
        mode = "head" if head == name else "head_x_normality"
        known = head in self.model.head
        self.model.anomaly_map_mode, self.model.head.chosen = (mode, head) if known else (name, "head")


class DskdMaps(Dskd):
    """DSKD that can change the map that it reports."""

    def maps(self) -> Sequence[str]:
        """Names of the maps that :meth:`report` knows."""
        return ["harmonic", "encoder", "decoder"]

    def report(self, name: str) -> None:
        """Report one student's map, or both."""
        self.model.anomaly_map_mode = name


VARIANTS: dict[str, dict[str, tuple[type[AnomalibModule], dict[str, Any]]]] = {
    "Dmdd": {"DMDD": (DmddWithHeads, {}), "Anomalib's reverse distillation": (ReverseDistillation, {})},
    "Dskd": {f"embedding of {name}": (DskdMaps, {"embedding_input": name}) for name in ("student", "both", "teacher")},
}
"""Variants of each model: name, class and arguments."""


def build(cls: type[AnomalibModule], settings: dict[str, Any], backbone: str, size: int) -> AnomalibModule:
    """Build a variant with the metrics of the compare command."""
    return cls(
        # Anomalib finds the decoder of a backbone by the name of its architecture, without the tag of the weights.
        backbone=backbone.partition(".")[0] if cls is ReverseDistillation else backbone,
        pre_processor=cls.configure_pre_processor((size, size)),
        evaluator=build_evaluator(),
        visualizer=False,
        **settings,
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=VARIANTS)
    parser.add_argument("root", type=Path, help="folder with categories in the layout of MVTec AD")
    parser.add_argument("category")
    parser.add_argument("--variants", nargs="+", help="only these")
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", default="32-true", help="as in Lightning; bf16-mixed saves time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file of the table (default: results/ablation/MODEL_CATEGORY_SEED.md)")
    args = parser.parse_args()
    if not (args.root / args.category).is_dir():  # otherwise Anomalib downloads it
        parser.error(f"There is no folder {args.root / args.category}.")
    known = VARIANTS[args.model]
    args.variants = args.variants or list(known)
    if unknown := set(args.variants) - set(known):
        parser.error(f"{args.model} has no variant {', '.join(sorted(unknown))}. Known: {', '.join(known)}.")
    args.out = args.out or Path(f"results/ablation/{args.model}_{args.category}_{args.seed}.md")
    return args


def train_and_test(model: AnomalibModule, data: MVTecAD, steps: int, precision: str) -> Iterator[tuple[str, str]]:
    """Train a model; yield the name of each of its maps, and its cells of the table."""
    with TemporaryDirectory() as scratch:
        engine = Engine(
            max_steps=steps,
            precision=precision,
            check_val_every_n_epoch=sys.maxsize,  # only the last step is tested
            logger=False,
            enable_model_summary=False,
            default_root_dir=scratch,
        )
        engine.fit(model, datamodule=data)
        for name in model.maps() if hasattr(model, "maps") else [""]:
            if name:
                model.report(name)
            engine.validate(model, datamodule=data, verbose=False)  # the range of the map
            row = accuracy(engine, model, data)
            yield name, " | ".join(f"{100 * row[key]:.1f}" for key in METRICS)


def main() -> None:
    """Write a row of the table as soon as it is known."""
    args = arguments()
    data = MVTecAD(root=args.root, category=args.category, train_batch_size=args.batch, num_workers=0)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("| variant | map | image AUROC | pixel AUROC | AUPRO |\n|---|---|---|---|---|\n")
    for title in args.variants:
        seed_everything(args.seed, workers=True, verbose=False)
        model = build(*VARIANTS[args.model][title], args.backbone, args.size)
        for name, cells in train_and_test(model, data, args.steps, args.precision):
            with args.out.open("a") as table:
                table.write(f"| {title} | {name} | {cells} |\n")
    print(f"{args.out}:\n{args.out.read_text()}")


if __name__ == "__main__":
    main()

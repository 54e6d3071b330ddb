r"""Random combinations of settings: each trains a step and predicts, or is refused in one line.

    python tests/fuzz.py --count 300 --out docs/results/fuzz.csv

One in ten is exported to OpenVINO, whose answers must be equal. A case depends on its number alone, so any of them can
be repeated: `--first 17 --count 1`. The exit code is 1 if a case failed.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from anomalib.data import Folder
from anomalib.deploy import OpenVINOInferencer
from anomalib.engine import Engine
from lightning import seed_everything
from PIL import Image
from rich.progress import track

import anomalib_dmdd
from anomalib_dmdd.models import __all__ as models
from anomalib_dmdd.models.base import DistillationPostProcessor

BACKBONES = [
    "resnet10t",
    "resnet18",
    "vgg11_bn",
    "mobilenetv3_small_050",
    "efficientnet_lite0",
    "convnext_atto",
    "regnetx_002",
    "ghostnet_050",
    "hrnet_w18_small",
    "densenet121",
    "efficientformer_l1",
    "mixnet_s",
    "xcit_nano_12_p8_224",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
]
SIDES = [48, 64, 64, 96, 100, 128, 128, 128]
MODES = {
    "Dmdd": ["head_x_normality", "head", "sum", "normality", "abnormality"],
    "Dskd": ["harmonic", "encoder", "decoder"],
}


@dataclass
class Case:
    """One combination of settings."""

    number: int
    model: str
    backbone: str
    layers: list[str] | None
    height: int
    width: int
    batch: int
    mode: str | None
    sigma: float
    top_k: int
    precision: str
    augment: bool
    export: bool


def draw(number: int) -> Case:
    """The case of a number."""
    choose = random.Random(number)  # no secret
    model, backbone = choose.choice(models), choose.choice(BACKBONES)
    layers = None
    if choose.random() < 0.4:
        try:
            names = timm.create_model(backbone, features_only=True).feature_info.module_name()
            layers = choose.sample(names, choose.randint(1, len(names)))
        except Exception:  # noqa: BLE001  # a backbone without feature maps: the case shows how it is refused
            layers = ["layer1"]
    side = choose.choice(SIDES)
    return Case(
        number=number,
        model=model,
        backbone=backbone,
        layers=layers,
        height=side,
        width=side if choose.random() < 0.7 else choose.choice(SIDES),
        batch=choose.randint(1, 4),
        mode=choose.choice(MODES[model]) if model in MODES else None,
        sigma=choose.choice([0.0, 1.0, 1.0, 4.0, 4.0, 4.0, 40.0]),
        top_k=choose.choice([1, 1, 10, 100, 1000, 10**6]),
        precision=choose.choice(["32-true", "bf16-mixed"]),
        augment=choose.random() < 0.5,
        export=choose.random() < 0.1,
    )


def check(case: Case, images: Path) -> str:
    """Train, predict and perhaps export; the outcome in a word, or the line of the refusal."""
    seed_everything(case.number, verbose=False)
    cls = getattr(anomalib_dmdd, case.model)
    settings: dict[str, Any] = {"anomaly_map_mode": case.mode} if case.mode else {}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            model = cls(
                backbone=case.backbone,
                layers=case.layers,
                pre_trained=False,
                augment=case.augment,
                pre_processor=cls.configure_pre_processor((case.height, case.width)),
                post_processor=DistillationPostProcessor(sigma=case.sigma, top_k=case.top_k),
                visualizer=False,
                **settings,
            )
            quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
            engine = Engine(accelerator="cpu", max_steps=1, precision=case.precision, default_root_dir=scratch, **quiet)
            data = Folder(
                name="fuzz",
                root=images,
                normal_dir="good",
                abnormal_dir="bad",
                train_batch_size=case.batch,
                eval_batch_size=4,
                num_workers=0,
            )
            engine.fit(model, datamodule=data)
        except ValueError as error:
            lines = str(error).strip().splitlines()
            return f"refused: {lines[0]}" if len(lines) == 1 else "FAULT: refused in more than one line"
        image = next((images / "bad").iterdir())
        (found,) = engine.predict(model, data_path=image)
        score, anomaly_map = float(found.pred_score), found.anomaly_map.float().squeeze().numpy()
        if not (0 <= score <= 1 and anomaly_map.min() >= 0 and anomaly_map.max() <= 1):
            return f"FAULT: score {score}, map {anomaly_map.min()} to {anomaly_map.max()}"
        return export(model, engine, image) if case.export else "trained"


def export(model: Any, engine: Engine, image: Path) -> str:  # noqa: ANN401
    """Export to OpenVINO and compare with the answer of the Engine."""
    path = engine.export(model, "openvino", export_root=engine.trainer.default_root_dir)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    answer = OpenVINOInferencer(path, device="CPU", config=exact).predict(str(image))
    with torch.no_grad():
        picture = torch.from_numpy(np.asarray(Image.open(image).convert("RGB"))).permute(2, 0, 1)[None] / 255
        expected = model.float().cpu().eval()(picture).anomaly_map
    difference = float(np.abs(np.asarray(answer.anomaly_map).squeeze() - expected.numpy().squeeze()).max())
    return "exported" if difference < 2e-3 else f"FAULT: the export differs by {difference:.4f}"


def make_images(root: Path) -> None:
    """A few noise images of odd sizes, some with a bright square."""
    generator = np.random.default_rng(0)
    for name, count in (("good", 8), ("bad", 4)):
        (root / name).mkdir()
        for number in range(count):
            image = generator.integers(60, 120, (90 + number, 110, 3), dtype=np.uint8)
            if name == "bad":
                image[20:40, 30:50] = 255
            Image.fromarray(image).save(root / name / f"{number}.png")


def main() -> int:
    """Run the cases and write their outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("results/fuzz.csv"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder))
        for number in track(range(args.first, args.first + args.count), description="Cases"):
            case, start = draw(number), time.perf_counter()
            try:
                outcome = check(case, Path(folder))
            except Exception as error:  # noqa: BLE001  # any other error is a fault
                traceback.print_exc()
                outcome = f"FAULT: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            rows.append(asdict(case) | {"outcome": outcome, "seconds": round(time.perf_counter() - start, 1)})
            args.out.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(args.out, index=False)
    outcomes = pd.DataFrame(rows)["outcome"]
    print(outcomes.str.split(":").str[0].value_counts().to_string())
    faults = outcomes[outcomes.str.startswith("FAULT")]
    print(faults.to_string())
    return 1 if len(faults) else 0


if __name__ == "__main__":
    sys.exit(main())

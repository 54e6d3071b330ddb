r"""What each map that a trained model can report is worth: mean and deviation over checkpoints, say of three seeds.

    python benchmarks/maps.py Dmdd path/to/images screw results/compare/runs/Dmdd-screw-*/model.ckpt

Nothing is trained. The category is in the layout of MVTec AD.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import get_args

from ablation import METRICS
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule

from anomalib_dmdd import Dmdd, Dskd
from anomalib_dmdd.compare.measure import accuracy, build_evaluator
from anomalib_dmdd.models.dmdd import torch_model as dmdd
from anomalib_dmdd.models.dskd import torch_model as dskd
from anomalib_dmdd.parts import MemberBatchNorm2d

MODELS = {"Dmdd": (Dmdd, get_args(dmdd.AnomalyMap)), "Dskd": (Dskd, get_args(dskd.AnomalyMap))}
"""Class and maps of each model."""


def arguments(description: str | None, models: Iterable[str]) -> argparse.Namespace:
    """Read the command line of a script that tests checkpoints of one of the models on a category."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=models)
    parser.add_argument("root", type=Path, help="folder with categories in the layout of MVTec AD")
    parser.add_argument("category")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--running", action="store_true", help="normalise by the running statistics alone (DMDD)")
    args = parser.parse_args()
    if not (args.root / args.category).is_dir():  # Anomalib would set out to download it
        parser.error(f"There is no folder {args.root / args.category}.")
    if missing := [str(path) for path in args.checkpoints if not path.is_file()]:
        parser.error(f"There is no file {', '.join(missing)}.")
    return args


def load(cls: type[AnomalibModule], checkpoint: Path, *, running: bool) -> AnomalibModule:
    """A trained model, if asked for without the image's own share in the statistics that it is normalised by."""
    model = cls.load_from_checkpoint(checkpoint, visualizer=False)
    for module in model.modules():
        if running and isinstance(module, MemberBatchNorm2d):
            module.share = 0
    return model.eval()


def main() -> None:
    """Print the table."""
    args = arguments(__doc__, MODELS)
    cls, maps = MODELS[args.model]
    data = MVTecAD(root=args.root, category=args.category, num_workers=0)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in maps}
    for checkpoint in args.checkpoints:
        model = load(cls, checkpoint, running=args.running)
        model.evaluator = build_evaluator()
        for name in maps:
            model.model.anomaly_map = name
            engine = Engine(logger=False)
            engine.validate(model, datamodule=data, verbose=False)  # the range of the map
            rows[name].append(accuracy(engine, model, data))
    print("| map | image AUROC | pixel AUROC | AUPRO |\n|---|---|---|---|")
    for name, tested in rows.items():
        print(f"| {name} | " + " | ".join(cell([100 * row[key] for row in tested]) for key in METRICS) + " |")


def cell(values: list[float]) -> str:
    """Mean and deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()

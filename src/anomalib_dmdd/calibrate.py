"""The command ``anomalib-dmdd calibrate``: new thresholds for a trained model, from new images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib.data import Folder
from anomalib.engine import Engine

from anomalib_dmdd.models.base import DistillationPostProcessor
from anomalib_dmdd.models.base.checkpoint_file import save_complete
from anomalib_dmdd.models.base.thresholds import expected_false_alarms
from anomalib_dmdd.trained_model import load_trained


def arguments(line: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse what cannot work."""
    parser = argparse.ArgumentParser("anomalib-dmdd calibrate", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a training")
    parser.add_argument("--data", type=Path, required=True, help="folder with new good images")
    parser.add_argument("--defective", type=Path, help="folder with new defective images, if there are some")
    parser.add_argument("--out", type=Path, help="new checkpoint; by default NAME-calibrated.ckpt beside the old one")
    args = parser.parse_args(line)
    args.out = args.out or args.checkpoint.parent / f"{args.checkpoint.stem}-calibrated.ckpt"
    if args.out.exists():
        parser.error(f"{args.out} exists already. Remove it, or choose another file with --out.")
    for folder in filter(None, (args.data, args.defective)):
        if not folder.is_dir():
            parser.error(f"There is no folder {folder}.")
    good, defective = args.data.resolve(), args.defective and args.defective.resolve()
    if defective and (good.is_relative_to(defective) or defective.is_relative_to(good)):
        parser.error(f"{args.data} and {args.defective} overlap. Give separate folders of good and defective images.")
    return args


def images(args: argparse.Namespace) -> Folder:
    """New images as validation images.

    Anomalib demands training images as well. They are not used, so the good images stand in for them.
    """
    data = Folder(
        name="new",
        normal_dir=args.data.resolve(),
        normal_test_dir=args.data.resolve(),
        abnormal_dir=args.defective.resolve() if args.defective else None,
        test_split_mode="from_dir",
        val_split_mode="same_as_test",
        num_workers=0,
    )
    data.setup()
    return data


def main(line: Sequence[str] | None = None) -> int:
    """Set new thresholds, report them, and write a new checkpoint.

    Returns:
        Exit code.
    """
    args = arguments(line)
    try:
        model, checkpoint = load_trained(args.checkpoint)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    old = thresholds(model.post_processor)
    try:
        data = images(args)
    except (RuntimeError, ValueError) as error:  # a folder without images
        print(f"error: {error}", file=sys.stderr)
        return 2
    engine = Engine(logger=False, default_root_dir=args.out.parent)
    engine.validate(model, datamodule=data, verbose=False)
    report(old, thresholds(model.post_processor), data, model.post_processor, has_defective=args.defective is not None)
    state = model.state_dict()
    checkpoint["state_dict"] |= {name: state[name] for name in state if name.startswith("post_processor.")}
    # The post-processor is a callback, too, and Lightning restores those last.
    checkpoint.get("callbacks", {})[model.post_processor.state_key] = model.post_processor.state_dict()
    model.threshold_age.save(checkpoint)
    save_complete(checkpoint, args.out)
    print(f"Written: {args.out}")
    return 0


def thresholds(post_processor: DistillationPostProcessor) -> dict[str, float]:
    """Raw thresholds of images and pixels."""
    return {name: float(getattr(post_processor, f"{name}_threshold")) for name in ("image", "pixel")}


def report(
    old: dict[str, float],
    new: dict[str, float],
    data: Folder,
    post_processor: DistillationPostProcessor,
    *,
    has_defective: bool,
) -> None:
    """Print old and new thresholds, and what they rest on."""
    count = len(data.val_data)
    for name, value in new.items():
        print(f"{name} threshold: {old[name]:.6g} before, {value:.6g} now")
    if has_defective:
        print(f"With them, F1 is highest on the {count} images given.")
    else:
        quantile = post_processor.normal_quantile
        share = 100 * expected_false_alarms(count, quantile)
        print(f"They are the {quantile:g} quantile of {count} good images. Expect about {share:.2g} % of good images")
        print("to be flagged; few images make this a rough guess.")
    limit = float(post_processor.normalized_image_threshold)
    if limit < 1 and old["image"] > 0:  # not without a threshold, which is NaN
        squared = (new["image"] / old["image"]) ** 2 * limit / (1 - limit)
        limit = squared / (1 + squared)
        print(f"A file exported before gives the same verdicts with inspector.py --threshold {limit:.7g}")

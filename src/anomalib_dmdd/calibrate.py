"""The command ``anomalib-dmdd calibrate``: new thresholds for a trained model, from new images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib.data import Folder
from anomalib.engine import Engine
from torch import Tensor

from anomalib_dmdd.inspector import rescale
from anomalib_dmdd.models.base import DistillationPostProcessor
from anomalib_dmdd.models.base.checkpoints.checkpoint_file import save_complete
from anomalib_dmdd.models.base.reports.images import UNREADABLE
from anomalib_dmdd.models.base.thresholds import alarms_above, images_needed, percent
from anomalib_dmdd.trained_model import load_trained


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse what cannot work."""
    parser = argparse.ArgumentParser("anomalib-dmdd calibrate", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a training")
    parser.add_argument("--data", type=Path, required=True, help="folder with new good images")
    parser.add_argument("--defective", type=Path, help="folder with new defective images, if there are some")
    parser.add_argument("--out", type=Path, help="new checkpoint; by default NAME-calibrated.ckpt beside the old one")
    args = parser.parse_args(arguments)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Set new thresholds, report them, and write a new checkpoint.

    Returns:
        Exit code.
    """
    args = parse(arguments)
    try:
        calibrate(args)
    except (*UNREADABLE, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Written: {args.out}")
    return 0


def calibrate(args: argparse.Namespace) -> None:
    """Set new thresholds, report them, and write a new checkpoint.

    Raises:
        OSError: If an image cannot be read, or the checkpoint cannot be written.
        RuntimeError: If a folder holds no images.
        ValueError: If the checkpoint cannot be used.
    """
    model, checkpoint = load_trained(args.checkpoint)
    if not model.post_processor.enable_thresholding:
        raise ValueError(f"{args.checkpoint} was trained with enable_thresholding=False, so it takes no thresholds.")
    old = thresholds(model.post_processor)
    data = images(args)
    engine = Engine(logger=False, default_root_dir=args.out.parent, devices=1)
    engine.validate(model, datamodule=data, verbose=False)
    keep_ratio(old, model.post_processor)
    report(old, thresholds(model.post_processor), model.post_processor)
    state = model.state_dict()
    checkpoint["state_dict"] |= {name: state[name] for name in state if name.startswith("post_processor.")}
    # The post-processor is a callback, too, and Lightning restores those last.
    checkpoint.get("callbacks", {})[model.post_processor.state_key] = model.post_processor.state_dict()
    model.threshold_age.save(checkpoint)
    save_complete(checkpoint, args.out)


def thresholds(post_processor: DistillationPostProcessor) -> dict[str, float]:
    """Raw thresholds of images and pixels."""
    return {name: float(getattr(post_processor, f"{name}_threshold")) for name in ("image", "pixel")}


def keep_ratio(old: dict[str, float], post_processor: DistillationPostProcessor) -> None:
    """Let the threshold of pixels follow that of images.

    The old one may come from masks, which new images do not have.
    """
    if old["image"] > 0 and old["pixel"] > 0:  # else it is missing or says nothing
        post_processor._pixel_threshold.copy_(post_processor.image_threshold * old["pixel"] / old["image"])  # noqa: SLF001


def report(old: dict[str, float], new: dict[str, float], post_processor: DistillationPostProcessor) -> None:
    """Print old and new thresholds, what they rest on, and what to expect of them."""
    scores, labels = post_processor.validation_scores, post_processor.validation_labels
    good, defective = scores[~labels], scores[labels]
    for name, value in new.items():
        print(f"{name} threshold: {old[name]:.6g} before, {value:.6g} now")
    report_alarms(good, defective, new["image"], post_processor)
    if 2 * (above := int((good > post_processor.flagged_above(old["image"])).sum())) > len(good):
        print(f"{above} of {len(good)} good images lie above the threshold of before. Are all of them good, and of the")
        print("part that the model was trained with? If so, the change may be too large: train again.")
    limit = float(post_processor.normalized_image_threshold)
    # inspector.py takes no threshold of raw scores; without a threshold the old one is NaN.
    if post_processor.enable_normalization and limit < 1 and old["image"] > 0:
        limit = rescale(limit, (new["image"] / old["image"]) ** 2)
        print(f"A file exported before gives the same verdicts with inspector.py --threshold {limit:.7g}")


def report_alarms(good: Tensor, defective: Tensor, threshold: float, post_processor: DistillationPostProcessor) -> None:
    """Print what a raw threshold rests on, flags, and lets expect."""
    limit, quantile = post_processor.flagged_above(threshold), post_processor.normal_quantile
    sensitivity = post_processor.image_sensitivity
    at = "" if sensitivity == 0.5 else f" with the image_sensitivity of the model, {sensitivity:g}"  # noqa: PLR2004
    if len(defective):
        images = len(good) + len(defective)
        print(f"With them, F1 is highest on the {images} images given{', at a sensitivity of 0.5' if at else ''}.")
        alarms, about = alarms_above(good, limit), "up to"
    else:
        print(f"They are the {quantile:g} quantile of {len(good)} good images.")
        alarms, about = post_processor.expected_alarms(good, threshold), "up to" if at else "about"
    flagged = [int((some > limit).sum()) for some in (defective, good)]
    found = f"{flagged[0]} of {len(defective)} defective and " if len(defective) else ""
    print(f"They flag {found}{flagged[1]} of {len(good)} good images{at}.")
    rough = "" if len(good) >= images_needed(quantile) else "; few images make this a rough guess"
    print(f"Expect {about} {percent(alarms)} % of good images to be flagged{rough}.")

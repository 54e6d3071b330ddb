"""Inspect images with an exported model on a computer without PyTorch.

Copy this file and ``model.xml`` and ``model.bin``. The file needs openvino, numpy and pillow, nothing else:

    python inspector.py model.xml images --csv results.csv --overlays overlays

Exit codes:
    0: All images are good.
    1: At least one image is defective, even if others are unreadable.
    2: Nothing was inspected: wrong arguments, a model that does not load, or no readable image. Also a failed write.
    3: At least one image or folder is unreadable, and all other images are good.
    130: Interrupted with Ctrl-C. The results so far are in the CSV file.

Note:
    Images are read as Anomalib reads them: without their EXIF orientation and without transparency. Grey images of
    16 bits or of floats are the exception. Anomalib cuts their values off at 255, here they are scaled.
"""

import argparse
import csv
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SECTION = "anomalib_dmdd"
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
UINT16_MAX = 65535


@dataclass(frozen=True, eq=False)
class Inspection:
    """Result of one image.

    Attributes:
        score: From 0 to 1. At the threshold of the training it is 0.5, at twice the threshold 0.8.
        is_defective: Verdict of the model, or whether the score exceeds your threshold.
        anomaly_map: Map ``(h, w)`` from 0 to 1, in the size of the model.
        milliseconds: Time from the array to this result.
    """

    score: float
    is_defective: bool
    anomaly_map: NDArray[np.float32]
    milliseconds: float

    @property
    def verdict(self) -> str:
        """``defective`` or ``good``."""
        return "defective" if self.is_defective else "good"


class Inspector:
    """Exported model that inspects one image after the other, for example of a camera.

    Images are resized here with an antialiased bilinear filter in single precision, to the size of the file. A file for
    images of any size gets that of the training, if it names it. The answers are those of the Engine then: equal within
    1e-5.

    The model computes in single precision, because its thresholds were set in it. The default of OpenVINO is bfloat16
    on some processors, and scores then depend on the processor. NPUs have no single precision.

    Args:
        model: Path of ``model.xml``, with ``model.bin`` beside it.
        device: Device of OpenVINO, such as ``CPU`` or ``GPU``.
        threshold: Score from 0 to 1 above which an image is defective. By default the model decides.
        ignore: Image whose white pixels mark a region to ignore. It is scaled to the map, whose values become 0 there.
            The score is then the maximum of the map, and ``top_k`` of the model has no effect. It is converted from
            pixel thresholds to image thresholds if the file of the model holds both. The image is defective if the
            score exceeds ``limit``.

    Attributes:
        facts: What the file says about its model; empty if it says nothing.
        limit: Your threshold, or that of the model: 1 minus its ``image_sensitivity``, by default 0.5. A model without
            a threshold has 1, which no score exceeds. Overlays outline the pixels of the map above it.

    Raises:
        ValueError: If an argument is out of range, the mask cannot be read, or the model is not an anomaly model.
        OSError: If a file is missing.
        RuntimeError: If OpenVINO cannot load the model or the device.

    Example, which needs a model::

        inspector = Inspector("model.xml")
        result = inspector.predict(np.zeros((480, 640, 3), np.uint8))
        print(result.verdict, result.score)
    """

    def __init__(
        self, model: str | Path, device: str = "CPU", threshold: float | None = None, ignore: str | Path | None = None
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"The threshold must be a score from 0 to 1, not {threshold}.")
        self._ignored = None if ignore is None else read_mask(Path(ignore))
        core = ov.Core()
        network = read_network(core, Path(model))
        self.facts = read_facts(network)
        if self.facts.get("scores") == "raw":
            raise ValueError(f"The scores of {model} are raw. Export the model with a post-processor that normalises.")
        self._pixel_to_image = squared_ratio(self.facts)
        untrained = math.isnan(float(self.facts.get("image_threshold", 0)))
        own = 1.0 if untrained else 1.0 - float(self.facts.get("image_sensitivity", 0.5))
        self.limit = own if threshold is None else threshold
        self._use_label = threshold is None and ignore is None and "pred_label" in output_names(network)
        fixed = [None if side.is_dynamic else side.get_length() for side in network.input(0).partial_shape][2:]
        trained = [int(side) for side in self.facts.get("image_size", "").split("x") if side]
        self._size = [side or size for side, size in zip(fixed, trained or (None, None), strict=True)]
        config = {} if "NPU" in device else {"INFERENCE_PRECISION_HINT": "f32"}
        self._run = core.compile_model(network, device, config)
        self.predict(np.zeros((256, 256), np.uint8))  # the first run is slow, and fails if the mask does not fit

    def predict(self, image: NDArray[Any]) -> Inspection:
        """Inspect one image.

        Args:
            image: Grey ``(H, W)``, RGB ``(H, W, 3)`` or RGBA ``(H, W, 4)``. Its values are uint8, uint16 up to 65535,
                or float from 0 to 1.

        Raises:
            ValueError: If the array is not such an image.
        """
        start = time.perf_counter()
        pixels = resize(to_rgb(image), self._size)
        outputs = self._run(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))  # (1, 3, H, W)
        anomaly_map: NDArray[np.float32] = outputs["anomaly_map"].reshape(outputs["anomaly_map"].shape[-2:])
        score = float(outputs["pred_score"].item())
        if self._ignored is not None:
            anomaly_map = clear(anomaly_map, self._ignored)
            score = rescale(float(anomaly_map.max()), self._pixel_to_image)
        is_defective = bool(outputs["pred_label"].item()) if self._use_label else score > self.limit
        return Inspection(score, is_defective, anomaly_map, 1000 * (time.perf_counter() - start))


def read_network(core: ov.Core, path: Path) -> ov.Model:
    """Read an exported anomaly model."""
    if path.suffix != ".xml":
        raise ValueError(f"The model must be an .xml file of OpenVINO, not {path}.")
    for part in (path, path.with_suffix(".bin")):
        if not part.is_file():
            raise FileNotFoundError(f"The model needs the file {part}, which does not exist.")
    with path.open("rb") as file:
        if b"<net" not in file.read(4096):
            raise ValueError(f"{path} is not a model of OpenVINO.")
    network = core.read_model(path)
    if missing := {"anomaly_map", "pred_score"} - output_names(network):
        raise ValueError(f"{path} is not an anomaly model: it has no output {' and '.join(sorted(missing))}.")
    return network


def output_names(network: ov.Model) -> set[str]:
    """Names of all outputs of a model."""
    return {name for output in network.outputs for name in output.get_names()}


def read_facts(network: ov.Model) -> dict[str, str]:
    """What our exporter has written into the file, such as model, version and thresholds."""
    if not network.has_rt_info([SECTION]):
        return {}
    return {name: str(value.value) for name, value in network.get_rt_info([SECTION]).astype(dict).items()}


def squared_ratio(facts: dict[str, str]) -> float:
    """Squared ratio of pixel to image threshold, 1 without both."""
    if not {"image_threshold", "pixel_threshold"} <= facts.keys():
        return 1.0
    raw = (float(facts[name]) for name in ("pixel_threshold", "image_threshold"))
    pixel, image = (1.0 if math.isnan(value) else max(value, 1e-7) for value in raw)
    return (pixel / image) ** 2


def read_mask(path: Path) -> Image.Image:
    """Read a mask whose white pixels mark a region to ignore.

    Raises:
        ValueError: If the file is not a readable image, or has no white pixel.
    """
    try:
        mask = Image.open(path).convert("L")
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ValueError(f"The mask {path} cannot be read: {last_line(error)}") from error
    if 0 < (highest := np.asarray(mask).max()) <= 127:  # noqa: PLR2004
        raise ValueError(f"The mask has no white pixel, its highest value is {highest}. White is 255.")
    return mask


def clear(anomaly_map: NDArray[np.float32], mask: Image.Image) -> NDArray[np.float32]:
    """Set a map ``(h, w)`` to 0 where a mask of any size is white."""
    height, width = anomaly_map.shape
    ignored = np.asarray(mask.resize((width, height), Image.Resampling.NEAREST)) > 127  # noqa: PLR2004
    if ignored.all():
        raise ValueError("The mask ignores the whole image, so all images would be good.")
    return np.where(ignored, np.float32(0), anomaly_map)


def rescale(score: float, squared_ratio: float) -> float:
    """Express a normalised score in another threshold.

    A score is ``r^2 / (1 + r^2)``, with r in thresholds. This multiplies r^2 by ``squared_ratio``.

    Example:
        >>> rescale(0.5, 4.0)
        0.8
    """
    return score * squared_ratio / (1 - score + score * squared_ratio)


def to_rgb(image: NDArray[Any]) -> NDArray[np.float32]:
    """Convert a grey, RGB or RGBA image to RGB ``(H, W, 3)``, 0 to 1.

    Raises:
        ValueError: If shape, type or range is not that of an image.
    """
    image = np.asarray(image)  # a camera may deliver a list, or None
    scale = 1 if image.dtype.kind == "f" else {"uint8": 255, "uint16": UINT16_MAX}.get(image.dtype.name)
    if scale is None or image.ndim not in {2, 3} or image.shape[2:] not in {(), (3,), (4,)} or not image.size:
        raise ValueError(
            "An image must have the shape (H, W), (H, W, 3) or (H, W, 4) and the type uint8, uint16 or float, "
            f"not {image.shape} and {image.dtype}."
        )
    pixels = image.astype(np.float32) / np.float32(scale)
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # so that NaN is refused, too
        raise ValueError(f"Float images must lie between 0 and 1, not {pixels.min():g} and {pixels.max():g}.")
    return np.repeat(pixels[..., None], 3, axis=2) if image.ndim == 2 else pixels[..., :3]  # noqa: PLR2004


def resize(pixels: NDArray[np.float32], size: Sequence[int | None]) -> NDArray[np.float32]:
    """Resize an image ``(H, W, C)`` to a size, where None keeps a side."""
    height, width = (wanted or side for wanted, side in zip(size, pixels.shape, strict=False))
    if (height, width) == pixels.shape[:2]:
        return pixels
    channels = [Image.fromarray(np.ascontiguousarray(channel)) for channel in pixels.transpose(2, 0, 1)]
    return np.stack([np.asarray(channel.resize((width, height), Image.Resampling.BILINEAR)) for channel in channels], 2)


def read_image(path: Path) -> NDArray[Any]:
    """Read an image file into an array for :meth:`Inspector.predict`.

    Raises:
        ValueError: If the file is not a readable image.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] not in "IF":
                return np.asarray(image.convert("RGB"))
            pixels = np.asarray(image)
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ValueError(last_line(error)) from error
    is_16_bit = pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= UINT16_MAX
    return pixels.astype(np.uint16) if is_16_bit else pixels


def draw_overlay(image: NDArray[Any], anomaly_map: NDArray[np.float32], limit: float) -> Image.Image:
    """Blend a heat map into an image, with the pixels above a limit outlined."""
    pixels = to_rgb(image)
    heat = np.clip(resize(anomaly_map[..., None], pixels.shape[:2]), 0, 1)  # (H, W, 1)
    colour = np.clip(1.5 - np.abs(4 * heat - np.array([3, 2, 1])), 0, 1)  # from blue over green to red
    blended = pixels + 0.6 * heat * (colour - pixels)
    above = Image.fromarray(np.where(heat[..., 0] > limit, 255, 0).astype(np.uint8))
    line = ImageFilter.MaxFilter(2 * math.ceil(max(above.size) / 500) + 1)
    blended[np.asarray(above.filter(line)) > np.asarray(above)] = (1, 1, 0)
    return Image.fromarray((255 * blended).round().astype(np.uint8))


def find_images(arguments: Sequence[Path], overlays: Path | None) -> list[Path]:
    """Image files of the command line, sorted, without overlays of an earlier run.

    Folders that cannot be listed and links that lead nowhere are among them, to be reported as unreadable.

    Raises:
        OSError: If a file or folder is missing.
        ValueError: If a folder has no images, or is the one of the overlays.
    """
    drawn = overlays.resolve() if overlays else None
    files: dict[str, Path] = {}  # each file once, however the arguments name it
    for argument in arguments:
        if not argument.exists():
            raise FileNotFoundError(f"{argument} does not exist.")
        if argument.resolve() == drawn:
            raise ValueError("--overlays must not be a folder of the images.")
        found = list(images_below(argument)) if argument.is_dir() else [argument]
        if drawn and drawn not in argument.resolve().parents:
            found = [path for path in found if drawn not in path.resolve().parents]
        if not found:
            raise ValueError(f"No images were found in {argument}.")
        files = {os.path.abspath(path): path for path in found} | files  # noqa: PTH100
    return sorted(files.values())


def images_below(folder: Path) -> Iterator[Path]:
    """Image files in a folder, below and behind links, and folders that cannot be listed."""
    locked: list[Path] = []
    listed: set[str] = set()
    walk = os.walk(folder, onerror=lambda error: locked.append(Path(error.filename)), followlinks=True)
    for parent, folders, names in walk:
        if (real := os.path.realpath(parent)) in listed:  # a link back to a folder above, or a second link
            folders.clear()
            continue
        listed.add(real)
        for path in (Path(parent, name) for name in names):
            if path.suffix.lower() in SUFFIXES and (path.is_file() or not path.exists()):  # not a pipe, which blocks
                yield path
    yield from locked


def absolute(path: Path) -> Path:
    """Absolute path without ``..``; links stay.

    Example:
        >>> absolute(Path("/parts/../1.png")).as_posix()
        '/1.png'
    """
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute leaves "..", Path.resolve follows links


def common_folder(folders: Iterable[Path]) -> Path | None:
    """The deepest folder that holds all folders; None on several drives of Windows."""
    try:
        return Path(os.path.commonpath(list(map(absolute, folders))))
    except ValueError:
        return None


def below(root: Path | None, path: Path) -> Path:
    """A path relative to a common folder; without one, below the name of its drive."""
    path = absolute(path)
    drive = re.sub(r"[:\\/]+", "_", path.drive).strip("_")
    return path.relative_to(root) if root else Path(drive, *path.parts[1:])


def plan_overlays(files: Sequence[Path], arguments: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Path of the overlay of each image, below the folder that all arguments share."""
    root = common_folder(path if path.is_dir() else path.parent for path in arguments)
    return {path: folder / f"{below(root, path)}.jpg" for path in files}


def last_line(error: Exception) -> str:
    """Last line of a message; OpenVINO writes its cause there."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def show_progress(done: int = 0, total: int = 0, seconds: float = 0.0) -> None:
    """Draw a progress bar on the terminal, or remove it if the total is 0."""
    if not sys.stderr.isatty():
        return
    text = ""
    if total:
        left = f"{seconds * (total - done) / done / 60:.1f} min left" if done else ""
        bar = "#" * (20 * done // total)
        text = f"[{bar:<20}] image {done + 1} of {total}, {100 * done // total} % {left}"
    print(f"\r{text:<78}" if text else f"\r{'':78}\r", end="", file=sys.stderr, flush=True)


@dataclass
class Tally:
    """Counts of a run and the exit code that follows from them."""

    defective: int = 0
    unreadable: int = 0
    interrupted: bool = False
    milliseconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        time_each = f"median {median(self.milliseconds):.1f} ms" if self.milliseconds else "none inspected"
        counts = f"{len(self.milliseconds)} images, {self.defective} defective, {self.unreadable} unreadable"
        return f"{counts}, {time_each}{', interrupted' if self.interrupted else ''}"

    @property
    def exit_code(self) -> int:
        """Exit code; defects count more than unreadable files."""
        if self.interrupted:
            return 130
        if not self.milliseconds:
            return 2
        return 1 if self.defective else 3 if self.unreadable else 0


def inspect_files(
    inspector: Inspector, files: Sequence[Path], tally: Tally
) -> Iterator[tuple[Path, NDArray[Any], Inspection]]:
    """Inspect one file after the other, and report unreadable ones on stderr."""
    start = time.perf_counter()
    for done, path in enumerate(files):
        show_progress(done, len(files), time.perf_counter() - start)
        try:
            image = read_image(path)
            result = inspector.predict(image)
        except (ValueError, RuntimeError) as error:  # OpenVINO refuses sizes that the network cannot process
            show_progress()
            print(f"unreadable: {path}: {last_line(error)}", file=sys.stderr)
            tally.unreadable += 1
            continue
        show_progress()
        tally.defective += result.is_defective
        tally.milliseconds.append(result.milliseconds)
        yield path, image, result


def run(args: argparse.Namespace) -> int:
    """Inspect the images of the command line and return the exit code."""
    files = find_images(args.images, args.overlays)
    overlays = plan_overlays(files, args.images, args.overlays) if args.overlays else {}
    written = {path.resolve() for path in [*overlays.values(), *filter(None, [args.csv])]}
    read = [*files, args.model, args.model.with_suffix(".bin"), Path(__file__), *filter(None, [args.ignore])]
    if overwritten := written & {path.resolve() for path in read}:
        raise ValueError(f"The results would overwrite {min(overwritten)}.")
    inspector = Inspector(args.model, args.device, args.threshold, args.ignore)
    for name, value in inspector.facts.items():
        print(f"{name}: {value}")
    width, tally = max(len(str(path)) for path in files), Tally()
    # A buffer of one line: what is written stays if the run is interrupted.
    with Path(args.csv or os.devnull).open("w", 1, "utf-8", "backslashreplace", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "score", "verdict", "milliseconds"])
        try:
            for path, image, result in inspect_files(inspector, files, tally):
                shown = f"{result.milliseconds:.1f}"
                print(f"{path!s:<{width}}  {result.score:.4f}  {result.verdict:<6}  {shown} ms", flush=True)
                table.writerow([path, f"{result.score:.7g}", result.verdict, shown])
                if path in overlays:
                    overlays[path].parent.mkdir(parents=True, exist_ok=True)
                    draw_overlay(image, result.anomaly_map, inspector.limit).save(
                        overlays[path], quality=90, subsampling=0
                    )
        except KeyboardInterrupt:
            tally.interrupted = True
            show_progress()
    print(tally)
    return tally.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    text = (__doc__ or "").split("\n\n")
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=text[0], epilog="\n\n".join(text[3:]), formatter_class=layout)
    parser.add_argument("model", type=Path, help="model.xml of an OpenVINO export, with model.bin beside it")
    parser.add_argument(
        "images", type=Path, nargs="+", help="image files, and folders that are searched with all below"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write file, score, verdict and milliseconds to this file"
    )
    parser.add_argument(
        "--overlays", type=Path, metavar="FOLDER", help="draw heat maps and outlines of what is above the threshold"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="score from 0 to 1 above which an image is defective"
    )
    parser.add_argument(
        "--ignore",
        type=Path,
        metavar="MASK.png",
        help="image whose white pixels mark a region to ignore. The score is then the maximum of the map outside it, "
        "without the top_k of the model, and counts against the threshold. It is converted to units of the image "
        "threshold; if the model does not hold its thresholds, it stays in units of the pixel threshold",
    )
    parser.add_argument("--device", default="CPU", help="device of OpenVINO, by default CPU")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name must not end the run
    try:
        return run(parser.parse_args(arguments))
    except (OSError, RuntimeError, ValueError) as error:
        show_progress()
        print(f"error: {last_line(error)}", file=sys.stderr)
    except KeyboardInterrupt:  # while the model loads
        return 130
    except Exception:  # noqa: BLE001  # Python would exit with 1, which means defects
        traceback.print_exc()
    return 2


if __name__ == "__main__":
    sys.exit(main())

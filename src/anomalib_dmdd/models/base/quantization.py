"""Quantisation of an OpenVINO model to 8-bit integers, where it costs no accuracy."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from anomalib.data import AnomalibDataModule, AnomalibDataset, ImageBatch
from anomalib.metrics import F1Score
from rich.progress import track
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

logger = logging.getLogger(__name__)

RECOMMENDED_IMAGES = 300
"""NNCF calibrates with that many images at most."""

CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData"})
ARITHMETIC = frozenset({"Divide", "Multiply", "Power", "ReduceMean", "ReduceSum", "Sqrt", "Subtract"})
"""Types of operations that normalise features; they stay in single precision."""

MARGIN = 0.05
"""Scores closer to the threshold than this may change sides."""

MAX_DISAGREEMENT = 0.01
"""Share of the images that may be labelled differently beyond the margin."""

MAX_SHIFT = 0.1
"""Largest median change of a score, in normalised units."""


def ignored_operations(model: Any) -> list[str]:  # noqa: ANN401
    """Names of the operations that must stay in single precision.

    Only the convolutions of teacher and students, and the additions between them, are quantised. The structure of the
    graph shows which ones these are. Distance maps are its first maps with one channel. Whatever reads a map stays in
    single precision: head, smoothing, scores and thresholds. So do operations that lead to no convolution: distances.
    So does the first convolution with all before it, because values of brighter images would be clipped.

    Args:
        model: OpenVINO model with an input ``(N, 3, H, W)``.
    """
    operations = model.get_ordered_ops()
    convolutions = {
        operation.get_friendly_name() for operation in operations if operation.get_type_name() in CONVOLUTIONS
    }
    after_map: set[str] = set()
    after_convolution: set[str] = set()
    for operation in operations:
        name = operation.get_friendly_name()
        parents = {value.get_node().get_friendly_name() for value in operation.input_values()}
        if parents & after_map or _is_map(operation):
            after_map.add(name)
        if parents & (after_convolution | convolutions):
            after_convolution.add(name)
    before_convolution: set[str] = set()
    for operation in reversed(operations):
        name = operation.get_friendly_name()
        is_convolution = operation.get_type_name() in CONVOLUTIONS and name not in after_map
        if is_convolution or name in before_convolution:
            before_convolution.add(name)
            before_convolution |= {value.get_node().get_friendly_name() for value in operation.input_values()}
    return [
        operation.get_friendly_name()
        for operation in operations
        if operation.get_type_name() not in {"Constant", "Parameter", "Result"}
        and (
            operation.get_friendly_name() in after_map
            or operation.get_friendly_name() not in before_convolution & after_convolution
            or operation.get_type_name() in ARITHMETIC
        )
    ]


def _is_map(operation: Any) -> bool:  # noqa: ANN401
    """Whether the output is a map ``(N, 1, h, w)`` and not a single value."""
    if operation.get_type_name() in {"Constant", "Parameter"} or not operation.get_output_size():
        return False
    shape = operation.output(0).get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4:  # noqa: PLR2004  # N, C, h, w
        return False
    return bool(shape[1] == 1 and not (shape[2] == 1 and shape[3] == 1))


def load_calibration_images(model: Any, datamodule: AnomalibDataModule | None) -> list[npt.NDArray[np.float32]]:  # noqa: ANN401
    """Batches ``(N, 3, H, W)`` of validation images, filled up with training images.

    Args:
        model: OpenVINO model, whose fixed batch size is kept.
        datamodule: Source of the images.

    Raises:
        ValueError: If there is no data module or no image.
    """
    if datamodule is None:
        raise ValueError("compression_type: quantisation needs images to calibrate with. Pass --data.")
    datamodule.setup("fit")
    dataset, trained = getattr(datamodule, "val_data", None), datamodule.train_data
    if dataset is None or not len(dataset):
        dataset = trained
    elif (missing := RECOMMENDED_IMAGES - len(dataset)) > 0 and isinstance(trained, type(dataset)):
        dataset += evenly_spaced(trained, missing)
    size = batch_size(model)
    chosen = evenly_spaced(dataset, max(1, RECOMMENDED_IMAGES // size) * size)
    chosen.augmentations = datamodule.val_augmentations  # not those of the training
    images = [batch.image.numpy() for batch in batches(datamodule, chosen, model)]
    if not images:
        raise ValueError(f"compression_type: calibration needs {size} images or more, the data hold {len(dataset)}.")
    if len(images) * size < RECOMMENDED_IMAGES:
        logger.warning("Calibrating with %d images; %d are better.", len(images) * size, RECOMMENDED_IMAGES)
    return images


def evenly_spaced(dataset: AnomalibDataset, count: int) -> AnomalibDataset:
    """That many images of a data set, or all if it has fewer."""
    count = min(len(dataset), count)
    return dataset.subsample([index * len(dataset) // count for index in range(count)])


def batch_size(model: Any) -> int:  # noqa: ANN401
    """Fixed batch size of an OpenVINO model, or 1."""
    return 1 if model.input(0).partial_shape[0].is_dynamic else int(model.input(0).shape[0])


def batches(datamodule: AnomalibDataModule, images: AnomalibDataset, model: Any) -> DataLoader[Any]:  # noqa: ANN401
    """Batches that fit a model, while the data module keeps its own."""
    sides = model.input(0).partial_shape[2:]
    collate = datamodule.external_collate_fn or images.collate_fn
    if all(side.is_static for side in sides):
        collate = partial(resized, collate, [side.get_length() for side in sides])
    size = batch_size(model)  # a smaller last batch would not fit
    return DataLoader(images, size, collate_fn=collate, num_workers=datamodule.num_workers, drop_last=True)


def resized(collate: Callable[[Any], ImageBatch], size: list[int], items: Any) -> ImageBatch:  # noqa: ANN401
    """A batch at the fixed size of a model, shrunk as the pre-processor does."""
    batch = collate(items)
    masks = batch.gt_mask  # (N, h, w)
    return batch.update(
        image=resize(batch.image, size, antialias=True),
        gt_mask=None if masks is None else resize(masks, size, InterpolationMode.NEAREST),
    )


def _nncf() -> Any:  # noqa: ANN401
    """NNCF, without the line that it prints about each operation."""
    import nncf  # noqa: PLC0415  # slow to import, and only needed here

    logging.getLogger("nncf").setLevel(logging.ERROR)  # set_log_level would change handlers that others put there
    return nncf


def quantize(model: Any, images: list[npt.NDArray[np.float32]]) -> Any:  # noqa: ANN401
    """Quantise the convolutions of teacher and students with NNCF."""
    nncf = _nncf()
    return nncf.quantize(model, nncf.Dataset(images), ignored_scope=nncf.IgnoredScope(names=ignored_operations(model)))


def quantize_with_accuracy_control(
    model: Any,  # noqa: ANN401
    images: list[npt.NDArray[np.float32]],
    datamodule: AnomalibDataModule,
    metric: Any,  # noqa: ANN401
    max_drop: float,
) -> Any:  # noqa: ANN401
    """Quantise, but keep layers in single precision where a metric would drop.

    Args:
        model: OpenVINO model.
        images: Batches to calibrate with.
        datamodule: Its validation images are judged. If they hold no anomaly, no metric tells anything, and the scores
            of the calibration images are compared with those of the original.
        metric: A metric of Anomalib; by default the F1 score of the image labels.
        max_drop: Largest accepted drop of the metric, or mean change of a score.
    """
    nncf = _nncf()
    judged_data: Iterable[Any]
    judged = getattr(datamodule, "val_data", None)
    if judged is None or not len(judged) or not judged.has_anomalous:
        logger.warning("INT8_ACQ: there are no defective validation images, so changes of the scores are judged.")
        judged_data, judge = score_judge(model, images)
    else:
        judged_data = batches(datamodule, judged, model)
        judge = metric_judge(metric or F1Score(fields=["pred_label", "gt_label"]))
    return nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(images),
        nncf.Dataset(judged_data),
        judge,
        max_drop=max_drop,
        ignored_scope=nncf.IgnoredScope(names=ignored_operations(model)),
    )


Judge = Callable[[Any, Iterable[Any]], tuple[float, None]]
"""Value of a compiled model on some data, the higher the better; NNCF takes a second value that is not used here."""


def metric_judge(metric: Any) -> Judge:  # noqa: ANN401
    """A judge by a metric of Anomalib on batches of images."""

    def judge(compiled: Any, batches: Iterable[Any]) -> tuple[float, None]:  # noqa: ANN401
        metric.reset()
        for batch in batches:
            output = compiled(batch.image.numpy())
            named = {name: torch.from_numpy(output[name]) for name in ("pred_score", "pred_label", "anomaly_map")}
            named = {name: value.flatten() if value.ndim < 4 else value for name, value in named.items()}  # noqa: PLR2004
            metric.update(ImageBatch(image=batch.image, gt_label=batch.gt_label, gt_mask=batch.gt_mask, **named))
        return float(metric.compute()), None

    return judge


def score_judge(model: Any, images: list[npt.NDArray[np.float32]]) -> tuple[list[Any], Judge]:  # noqa: ANN401
    """Pairs of a batch and its original scores, and a judge by their mean change."""
    score, _ = _answers(model, images, "Scoring with the original model")
    ends = np.cumsum([len(batch) for batch in images])[:-1]
    pairs = list(zip(images, np.split(score, ends), strict=True))

    def judge(compiled: Any, pairs: Iterable[Any]) -> tuple[float, None]:  # noqa: ANN401
        changes = [np.abs(np.ravel(compiled(batch)["pred_score"]) - score) for batch, score in pairs]
        return 1 - float(np.concatenate(changes).mean()), None

    return pairs, judge


def check_agreement(
    model: Any,  # noqa: ANN401
    compressed: Any,  # noqa: ANN401
    images: list[npt.NDArray[np.float32]],
    threshold: float,
) -> None:
    """Compare a compressed model with its original on some images.

    Args:
        model: The original OpenVINO model.
        compressed: The compressed one.
        images: Batches to compare them on.
        threshold: Normalised score above which an image is defective.

    Raises:
        RuntimeError: If labels or scores differ by more than :data:`MAX_DISAGREEMENT` and :data:`MAX_SHIFT` allow.
    """
    score, label = _answers(model, images, "Checking the original model")
    new_score, new_label = _answers(compressed, images, "Checking the compressed model")
    changed = float(np.mean((label != new_label) & (np.abs(score - threshold) > MARGIN)))
    shift = float(np.median(np.abs(score - new_score)))
    summary = (
        f"{100 * np.mean(label == new_label):.3g} % of {len(score)} labels are equal, "
        f"the median change of a score is {shift:.2g}"
    )
    if changed > MAX_DISAGREEMENT or shift > MAX_SHIFT:
        raise RuntimeError(
            f"compression_type: the compressed model differs from the original ({summary}), so it was not written. "
            "Use more images to calibrate with, INT8_ACQ or FP16."
        )
    logger.info("The compressed model agrees with the original: %s.", summary)


def _answers(model: Any, images: list[npt.NDArray[np.float32]], title: str) -> list[npt.NDArray[Any]]:  # noqa: ANN401
    """Scores and labels of a model.

    OpenVINO's models must not outlive this frame, as those in the traceback of an error do. Freed by the thread of a
    progress bar, they would unmap the stack on which this thread handles signals, and the next signal would end it.
    """
    import openvino as ov  # noqa: PLC0415  # only where it is used

    run = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = [run(batch) for batch in track(images, title)]
    return [np.concatenate([np.ravel(output[key]) for output in outputs]) for key in ("pred_score", "pred_label")]

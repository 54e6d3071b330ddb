"""Measure accuracy, size and speed in the same way for all models."""

import re
import sys
import timeit
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import openvino
import torch
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine
from anomalib.metrics import AUPR, AUPRO, AUROC, Evaluator, F1Score
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from anomalib_dmdd.models.base.evaluator import RankingEvaluator, bounded

from .plan import Run

WARM_UP = 10


def build_evaluator() -> Evaluator:
    """Build the metrics that every model is tested with; pixel metrics need masks."""
    pixels: dict[str, Any] = {"fields": ["anomaly_map", "gt_mask"], "prefix": "pixel_", "strict": False}
    return RankingEvaluator(
        test_metrics=[
            AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
            F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
            AUROC(**pixels),
            AUPR(**pixels),
            AUPRO(**pixels, fpr_limit=0.3),
        ],
    )


def accuracy(engine: Engine, model: AnomalibModule, datamodule: AnomalibDataModule) -> dict[str, float]:
    """Test a model on scores and maps that are not clipped.

    Anomalib clips normalised scores to [0, 1]. With a threshold near the top of the range most background pixels
    become 0 and can no longer be ranked, so the metrics would measure the clipping. A sigmoid replaces the clipping
    during the test. Predicted labels stay the same at the default sensitivity of 0.5.

    Returns:
        The metrics; none if all test images are of one kind.
    """
    post_processor = model.post_processor
    clips = post_processor is not None and type(post_processor)._normalize is PostProcessor._normalize  # noqa: SLF001
    with patch.object(post_processor, "_normalize", _normalize_unclipped) if clips else nullcontext():
        metrics: dict[str, float] = engine.test(model, datamodule=datamodule, verbose=False)[0]
    return metrics if has_both_kinds(datamodule) else {}


def has_both_kinds(datamodule: AnomalibDataModule) -> bool:
    """Whether there are good and defective test images, without which metrics mean nothing."""
    return len(set(datamodule.test_data.samples["label_index"])) > 1


def _normalize_unclipped(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
    """Normalise with a sigmoid, because torchmetrics takes scores outside of [0, 1] for logits."""
    if preds is None:
        return None
    middle = torch.where(threshold.isnan(), (norm_min + norm_max) / 2, threshold)
    spread = (norm_max - norm_min).clamp_min(torch.finfo(torch.float32).eps)
    return (4 * (preds.float() - middle) / spread).sigmoid()


def peak_memory(device: torch.device) -> dict[str, float | str]:
    """Peak memory so far in MB, of torch on the GPU or of the process."""
    if device.type == "cuda":
        return {"peak_memory_mb": torch.cuda.max_memory_allocated(device) / 1e6, "memory_of": "GPU"}
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would carry over the peak of the process that started this one
        kilobytes = re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]
        return {"peak_memory_mb": int(kilobytes) * 1024 / 1e6, "memory_of": "process"}
    if sys.platform == "darwin":
        import resource  # noqa: PLC0415  # not on Windows

        return {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "memory_of": "process"}
    return {}


class _StoragesRead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the storages of all tensors that operators read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        for value in tree_iter((args, kwargs or {})):
            if isinstance(value, Tensor):
                self.storages.add(value.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def count_parameters(model: nn.Module, image: Tensor) -> int:
    """Count the numbers that inference reads: weights, statistics and memory banks."""
    with _StoragesRead() as read:
        model(image)
    tensors = {tensor.untyped_storage().data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() for storage, tensor in tensors.items() if storage in read.storages)


def time_calls(forward: Callable[[], object], passes: int) -> dict[str, float]:
    """Median and quartiles of the duration of a call in milliseconds, after a warm-up."""
    seconds = timeit.repeat(forward, repeat=WARM_UP + passes, number=1)[WARM_UP:]
    return dict(zip(("ms", "ms_p25", "ms_p75"), 1e3 * np.percentile(seconds, [50, 25, 75]), strict=True))


@torch.inference_mode()
def time_torch(model: nn.Module, image: Tensor, passes: int) -> dict[str, float]:
    """Time whole forward passes of one image, from pre- to post-processing; see `time_calls`."""

    def forward() -> None:
        model(image)
        if image.is_cuda:
            torch.cuda.synchronize()

    return time_calls(forward, passes)


def measure_export(
    path: Path, data: AnomalibDataModule, run: Run, precision: str, *, raw: bool = False
) -> dict[str, float]:
    """Time an exported OpenVINO model on the CPU, and test it.

    The file is tested as it is: that of an Anomalib model clips normalised scores to [0, 1].

    Args:
        path: The model.
        data: Source of the test images.
        run: Settings of the measurement.
        precision: ``FP32`` or ``INT8``.
        raw: Whether scores may lie above 1.

    Returns:
        Latency as in `time_torch`; with good and defective images ``image_AUROC``, with masks ``pixel_AUPRO``.
    """
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": run.cores}
    if precision == "FP32":
        config["INFERENCE_PRECISION_HINT"] = "f32"  # also on a CPU where OpenVINO prefers BF16
    exported = openvino.Core().compile_model(path, "CPU", config)
    first = data.test_data[0].image[None].numpy()
    times = time_calls(lambda: exported(first), run.timed_passes)
    metrics = [metric for metric in build_evaluator().test_metrics if metric.name in {"image_AUROC", "pixel_AUPRO"}]
    for batch in data.test_dataloader():
        # Each call overwrites the arrays of the last result, so they are copied one by one.
        results = (exported(image[None].numpy()) for image in batch.image)
        outputs = [{port.any_name: torch.tensor(result[port]) for port in exported.outputs} for result in results]
        batch.update(**{name: torch.cat([output[name] for output in outputs]) for name in outputs[0]})
        if raw:
            batch.pred_score, batch.anomaly_map = bounded(batch.pred_score), bounded(batch.anomaly_map)
        for metric in metrics:
            metric.update(batch)
    if not has_both_kinds(data):
        return times
    return times | {metric.name: float(metric.compute()) for metric in metrics if metric.update_called}

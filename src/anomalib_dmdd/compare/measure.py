"""What is measured, in the same way for all models: accuracy, size, speed."""

import sys
import time
from pathlib import Path
from typing import Any

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

WARM_UP = 10


def build_evaluator() -> Evaluator:
    """Build the metrics that every model is tested with; the pixel ones need masks."""
    pixels: dict[str, Any] = {"fields": ["anomaly_map", "gt_mask"], "prefix": "pixel_", "strict": False}
    return Evaluator(
        test_metrics=[
            AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
            F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
            AUROC(**pixels),
            AUPR(**pixels),
            AUPRO(**pixels, fpr_limit=0.3),
        ],
    )


def accuracy(engine: Engine, model: AnomalibModule, datamodule: AnomalibDataModule) -> dict[str, float]:
    """Test a model on scores and maps that nothing was cut off from.

    Anomalib's normalisation cuts at 0 and 1. With a threshold near the top of the range most of a background becomes 0
    and can no longer be ranked, which would be measured instead of the model. Labels are those of Anomalib at its
    default sensitivity of 0.5, and close to them at others.

    Returns:
        The metrics of the test set by name.
    """
    post_processor = model.post_processor
    cuts = post_processor is not None and type(post_processor)._normalize is PostProcessor._normalize  # noqa: SLF001
    if cuts:
        post_processor._normalize = _without_limits  # noqa: SLF001
    try:
        metrics: dict[str, float] = engine.test(model, datamodule=datamodule, verbose=False)[0]
    finally:
        if cuts:
            del post_processor._normalize  # noqa: SLF001  # the class's own again
    return metrics


def _without_limits(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
    """Anomalib's line as the middle of a sigmoid: scores stay in [0, 1], or torchmetrics would take them for logits."""
    if preds is None:
        return None
    middle = torch.where(threshold.isnan(), (norm_min + norm_max) / 2, threshold)
    spread = (norm_max - norm_min).clamp_min(torch.finfo(torch.float32).eps)
    return (4 * (preds.float() - middle) / spread).sigmoid()


def peak_memory(device: torch.device) -> dict[str, float | str]:
    """Measure the most memory that was in use so far, in MB: on a GPU what torch allocated there, else of the process.

    Worker processes that load data are not counted.
    """
    if device.type == "cuda":
        return {"peak_memory_mb": torch.cuda.max_memory_allocated(device) / 1e6, "memory_of": "GPU"}
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would carry over the peak of the process that started this one
        kilobytes = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return {"peak_memory_mb": kilobytes * 1024 / 1e6, "memory_of": "process"}
    if sys.platform == "win32":
        return {}
    import resource  # noqa: PLC0415  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_memory_mb": peak * (1 if sys.platform == "darwin" else 1024) / 1e6, "memory_of": "process"}


class _StoragesRead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the storages of all tensors that operators receive."""

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
    """Count the numbers that inference reads: weights, statistics, memory banks; nothing that only training needs.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 100)
    ...         self.register_buffer("bank", torch.zeros(5, 2))
    ...     def forward(self, x):
    ...         return torch.cdist(self.used(x), self.bank)
    >>> count_parameters(Net(), torch.rand(1, 3))  # 3 * 2 + 2 + 5 * 2
    18
    """
    with _StoragesRead() as read:
        model(image)
    tensors = {tensor.untyped_storage().data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() for storage, tensor in tensors.items() if storage in read.storages)


def _time_passes(forward: Any, passes: int) -> dict[str, float]:  # noqa: ANN401
    for _ in range(WARM_UP):
        forward()
    milliseconds = []
    for _ in range(passes):
        start = time.perf_counter()
        forward()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    low, median, high = np.percentile(milliseconds, [25, 50, 75])
    return {"ms": median, "ms_p25": low, "ms_p75": high}


@torch.inference_mode()
def time_torch(model: nn.Module, image: Tensor, passes: int) -> dict[str, float]:
    """Time whole forward passes of one image, from pre- to post-processing, on the model's device.

    Returns:
        Median, first and third quartile in milliseconds.
    """

    def forward() -> None:
        model(image)
        if image.is_cuda:
            torch.cuda.synchronize()

    return _time_passes(forward, passes)


def time_openvino(path: Path, image: Tensor, passes: int, threads: int, precision: str) -> dict[str, float]:
    """Time the exported model on the CPU with one image; FP32 is really computed in FP32.

    Returns:
        Median, first and third quartile in milliseconds.
    """
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision == "FP32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(path, "CPU", config)
    array = image.cpu().numpy()
    return _time_passes(lambda: compiled(array), passes)

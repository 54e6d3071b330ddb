"""Scores of a validation epoch, gathered from all processes."""

from collections.abc import Iterable
from itertools import compress
from typing import Any, NamedTuple

import torch
from anomalib.data import Batch
from torch import Tensor, distributed
from torchmetrics.metric import jit_distributed_available
from torchmetrics.utilities.distributed import gather_all_tensors


class ScoredBatch(NamedTuple):
    """What thresholds need of a validation batch of N images.

    Attributes:
        paths: Path of each image; None where the data has no paths.
        statistics: Image score, label and highest pixel of the map of each image ``(N, 3)``.
        maps: Anomaly maps ``(N, H * W)``; None without masks.
        masks: Anomalous pixels ``(N, H * W)``; None without masks.
    """

    paths: list[str | None]
    statistics: Tensor
    maps: Tensor | None
    masks: Tensor | None

    @classmethod
    def of(cls, batch: Batch) -> "ScoredBatch":
        """Take what is needed from a batch that has been scored."""
        maps = batch.anomaly_map.flatten(1).float()
        scores = batch.pred_score.flatten().float()
        labels = torch.zeros_like(scores) if batch.gt_label is None else batch.gt_label.flatten().float()
        paths = getattr(batch, "image_path", None)
        return cls(
            [None] * len(scores) if paths is None else [str(path) for path in paths],
            torch.stack([scores, labels, maps.amax(1)], dim=1),
            None if batch.gt_mask is None else maps,
            None if batch.gt_mask is None else batch.gt_mask.flatten(1).bool(),
        )


class ValidationScores:
    """Scores of one validation epoch.

    Lightning's sampler gives each process the same number of images, so some images are validated twice where the
    number of images is not a multiple of the number of processes. Such copies, and images with a score that is not
    finite, are left out. All processes hold the same values, except for the pixels, which stay where they are until
    :meth:`pixels`.

    Every process must construct it, even one without images, because it waits for the others.

    Args:
        batches: The batches of this process.
        device: Device that the processes exchange tensors on.

    Attributes:
        image: Image scores ``(N,)``.
        labels: Whether each image is anomalous ``(N,)``.
        highest: Highest pixel of each map ``(N,)``.
        broken: Paths of the images whose scores are not finite.
    """

    def __init__(self, batches: list[ScoredBatch], device: torch.device) -> None:
        self._device = device
        own_paths = [path for batch in batches for path in batch.paths]
        all_paths = gather_objects(own_paths)
        seen = {path for paths in all_paths[: _rank()] for path in paths if path is not None}
        first = [path not in seen for path in own_paths]
        statistics = _concatenate([batch.statistics for batch in batches], (0, 3), device)
        finite = statistics.isfinite().all(1)
        self.broken = [
            str(path) for paths in gather_objects(list(compress(own_paths, _both(first, ~finite)))) for path in paths
        ]
        keep = torch.tensor(_both(first, finite), dtype=torch.bool, device=device)
        self.image, labels, self.highest = _gather(statistics[keep]).unbind(1)
        self.labels = labels.bool()
        split = torch.split(keep, [len(batch.paths) for batch in batches])
        pairs = list(zip(batches, split, strict=True))
        self._maps = [batch.maps[kept].flatten() for batch, kept in pairs if batch.maps is not None]
        self._masks = [batch.masks[kept].flatten() for batch, kept in pairs if batch.masks is not None]

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Pixels of all maps with a mask, and their labels, ``(M,)`` each.

        Every process must call it.
        """
        maps = _gather(_concatenate(self._maps, (0,), self._device))
        masks = _gather(_concatenate(self._masks, (0,), self._device).to(torch.uint8))
        return maps, masks.bool()


def _both(first: Iterable[bool], second: Tensor) -> list[bool]:
    return [one and two for one, two in zip(first, second.tolist(), strict=True)]


def _concatenate(tensors: list[Tensor], empty: tuple[int, ...], device: torch.device) -> Tensor:
    """Concatenate tensors; a process without any still has an empty one to exchange."""
    return torch.cat(tensors).to(device) if tensors else torch.empty(empty, device=device)


def _rank() -> int:
    return distributed.get_rank() if jit_distributed_available() else 0


def _gather(tensor: Tensor) -> Tensor:
    """Concatenate the tensors of all processes, which may differ in length."""
    if not jit_distributed_available():
        return tensor
    return torch.cat(gather_all_tensors(tensor))


def gather_objects(own: list[Any]) -> list[list[Any]]:
    """Lists of all processes, by rank."""
    if not jit_distributed_available():
        return [own]
    gathered: list[list[Any]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(gathered, own)
    return gathered

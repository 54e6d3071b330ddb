"""Thresholds of two processes that hold different images, against those of one process that holds them all."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed, multiprocessing

from anomalib_dmdd.models.base import DistillationPostProcessor

NAMES = "abcdefg"
SHARES = {  # images of each process, by name; upper case: an anomaly
    "anomalies on one process": ("aCE", "bdf"),
    "copies of images": ("aCE", "bdaa"),
    "an odd number of normal images": ("ace", "bda"),
    "a process without images": ("aBcD", ""),
    "a broken image": ("aBg", "cDd"),
}


def batch(names: str) -> ImageBatch:
    """One batch; the map of an image depends on its name, that of an anomaly is higher in its left half."""
    generators = [torch.Generator().manual_seed(ord(name.lower())) for name in names]
    maps = torch.stack([torch.rand(1, 8, 8, generator=generator) for generator in generators])
    masks = torch.zeros(len(names), 8, 8, dtype=torch.bool)
    for index, name in enumerate(names):
        masks[index, :, :4] = name.isupper()
        maps[index, 0, :, :4] += name.isupper()
        maps[index] /= name != "g"  # infinite
    return ImageBatch(
        image=torch.zeros(len(names), 3, 8, 8),
        anomaly_map=maps,
        gt_label=torch.tensor([int(name.isupper()) for name in names]),
        gt_mask=masks,
        image_path=list(names.lower()),
    )


def thresholds(names: str) -> dict[str, torch.Tensor]:
    """The thresholds of a post-processor after a validation of these images, in batches of two."""
    post_processor = DistillationPostProcessor(sigma=0)
    post_processor.on_validation_epoch_start(None, None)
    for start in range(0, len(names), 2):
        post_processor.on_validation_batch_end(None, None, batch(names[start : start + 2]))
    post_processor.on_validation_epoch_end(SimpleNamespace(sanity_checking=False), None)
    return {name: value for name, value in post_processor.named_buffers() if name.endswith("threshold")}


def work(rank: int, folder: Path) -> None:
    """What each process does: all cases, one after the other."""
    rank_zero_only.rank = rank
    logging.basicConfig(filename=folder / f"{rank}.log", level=logging.WARNING)
    distributed.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.save({case: thresholds(shares[rank]) for case, shares in SHARES.items()}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distributed")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, path), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)  # most of it is for imports on a busy machine
    assert [process.exitcode for process in processes] == [0, 0]  # None: they wait for each other
    return path


@pytest.mark.parametrize("case", SHARES)
def test_all_processes_get_the_thresholds_of_one(case: str, folder: Path) -> None:
    first, second = (torch.load(folder / f"{rank}.pt")[case] for rank in (0, 1))
    alone = thresholds("".join(dict.fromkeys("".join(SHARES[case]))))
    for name, value in alone.items():
        assert value.isfinite()
        assert torch.equal(first[name], value), name
        assert torch.equal(second[name], value), name


def test_only_the_first_process_speaks_and_counts_all_images_once(folder: Path) -> None:
    first, second = ((folder / f"{rank}.log").read_text() for rank in (0, 1))
    assert "its 5 normal images" in first
    assert "1 validation images are left out" in first
    assert not second

"""Known defects in a training: read when it starts, refused where they are tested, not needed afterwards."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from anomalib.engine import Engine
from lightning import seed_everything
from PIL import Image
from small_models import build
from torch import Tensor

from anomalib_dmdd import DemoParts, Dmdd


@pytest.fixture
def known(demo_root: Path, tmp_path: Path) -> Path:
    """A good part with a painted square, beside its mask."""
    folder = tmp_path / "known"
    folder.mkdir()
    with Image.open(next(demo_root.rglob("train/good")) / "000.png") as image:
        image.paste("red", (100, 100, 140, 140))
        image.save(folder / "painted.png")
        mask = Image.new("L", image.size)
    mask.paste("white", (100, 100, 140, 140))
    mask.save(folder / "painted_mask.png")
    return folder


def test_a_training_blends_them_in_and_its_checkpoint_needs_no_folder(
    known: Path, parts: DemoParts, engine: Callable[..., Engine]
) -> None:
    seen: list[Tensor] = []
    seed_everything(0)
    model = build("Dmdd", known_defects=known)
    hook = model.simulator.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs[0]))
    run = engine(max_steps=3, limit_val_batches=1)
    run.fit(model, datamodule=parts)
    normalised = torch.cat(seen)
    red = (normalised[:, 0] - normalised[:, 1:].amax(1) > 3).flatten(1).sum(1) > 4  # of 100 pixels at 64x64
    assert 0.2 < red.float().mean() < 0.8
    hook.remove()
    stored = torch.load(model.to_torch(known.parent), weights_only=False)
    assert stored["model"].simulator._known is None, "no exported model holds the images"

    shutil.rmtree(known)
    loaded = Dmdd.load_from_checkpoint(run.best_model_path, visualizer=False).eval()
    assert loaded.model(normalised).anomaly_map.isfinite().all()
    with pytest.raises(FileNotFoundError, match="known_defects: there is no folder"):
        engine(max_steps=1).fit(build("Bikd", known_defects=known), datamodule=parts)


def test_a_test_image_of_another_name_and_format_is_refused(
    known: Path, demo_root: Path, parts: DemoParts, engine: Callable[..., Engine]
) -> None:
    with Image.open(demo_root / "flange/test/chip/003.png") as image:
        image.save(known / "from_the_line.bmp")
    shutil.copy(demo_root / "flange/ground_truth/chip/003_mask.png", known / "from_the_line_mask.png")
    model = build("Dmdd", known_defects=known)
    with pytest.raises(ValueError, match=r"known_defects: 1 of the .*from_the_line\.bmp is .*chip.003\.png"):
        engine(max_steps=1).fit(model, datamodule=parts)


def test_dskd_says_why_it_takes_none(known: Path) -> None:
    with pytest.raises(ValueError, match="known_defects: Dskd learns from good images only"):
        build("Dskd", known_defects=known)

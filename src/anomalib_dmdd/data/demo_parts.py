"""Data module of procedurally drawn parts, which needs no download."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from anomalib.data import AnomalibDataModule, MVTecADDataset
from anomalib.data.utils import Split, TestSplitMode, ValSplitMode
from anomalib.utils.path import resolve_dataset_root
from rich.progress import track
from torch import Generator, Tensor
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2.functional import to_pil_image

from .defects import KINDS, sample_defect
from .drawing import Scene, draw

logger = logging.getLogger(__name__)

CATEGORY = "flange"
PARTS = [("train", "good", 60), ("test", "good", 20), *(("test", kind, 12) for kind in KINDS)]
RECORD = "drawing.json"
VERSION = 2  # raised whenever the same seed would give other pictures


class DemoParts(AnomalibDataModule):
    """Procedurally drawn steel flanges on a conveyor belt.

    There are 60 good parts for training, and 20 good, 12 chipped, 12 scratched and 12 stained parts for testing. The
    images have 256x256 pixels. They are drawn once under ``root``, in the layout of MVTec AD, and read from there.

    Args:
        root: Folder of the drawing; ``None`` for the default data folder of Anomalib.
        drawing_seed: Seed of the drawing; the same seed gives the same pixels.
        train_batch_size: Images per training batch.
        eval_batch_size: Images per validation and test batch.
        num_workers: Processes that read images; the parts are few and small, so none is needed.
        train_augmentations: Augmentations of the training images.
        val_augmentations: Augmentations of the validation images.
        test_augmentations: Augmentations of the test images.
        augmentations: Augmentations of the stages that have none of their own.
        test_split_mode: Where test images come from.
        test_split_ratio: Fraction of the images for testing, where the mode splits.
        val_split_mode: Where validation images come from.
        val_split_ratio: Fraction of the images for validation, where the mode splits.
        seed: Seed of the splits.

    Example:
        >>> DemoParts(drawing_seed=1).category
        'flange'
    """

    def __init__(
        self,
        root: Path | str | None = "./datasets/DemoParts",
        drawing_seed: int = 0,
        train_batch_size: int = 16,
        eval_batch_size: int = 16,
        num_workers: int = 0,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        test_split_mode: TestSplitMode | str = TestSplitMode.FROM_DIR,
        test_split_ratio: float = 0.2,
        val_split_mode: ValSplitMode | str = ValSplitMode.SAME_AS_TEST,
        val_split_ratio: float = 0.5,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
            test_split_mode=test_split_mode,
            test_split_ratio=test_split_ratio,
            val_split_mode=val_split_mode,
            val_split_ratio=val_split_ratio,
            seed=seed,
        )
        self.root = resolve_dataset_root(root, self.name)
        self.category = CATEGORY
        self.drawing_seed = drawing_seed

    def prepare_data(self) -> None:
        """Draw the parts, unless ``root`` holds them.

        Raises:
            FileExistsError: If ``root`` holds another drawing or something else; it is left as it is.
        """
        wanted = {"version": VERSION, "seed": self.drawing_seed}
        if not is_vacant(self.root):
            check(self.root, wanted)
            logger.info("Found the drawing.")
            return
        self.root.parent.mkdir(parents=True, exist_ok=True)
        # Drawn in a temporary folder and then renamed, so that an interrupted drawing never looks finished.
        with TemporaryDirectory(prefix=f".{self.root.name}-", dir=self.root.parent) as studio:
            drawing = Path(studio) / self.root.name
            draw_parts(drawing / CATEGORY, self.drawing_seed)
            (drawing / RECORD).write_text(json.dumps(wanted))
            try:
                if self.root.is_dir():
                    self.root.rmdir()
                drawing.rename(self.root)
            except OSError:
                if not (self.root / RECORD).exists():  # else another process was faster
                    raise
                check(self.root, wanted)

    def _setup(self, _stage: str | None = None) -> None:
        """Read the drawing."""
        self.train_data = MVTecADDataset(root=self.root, category=CATEGORY, split=Split.TRAIN)
        self.test_data = MVTecADDataset(root=self.root, category=CATEGORY, split=Split.TEST)


def is_vacant(root: Path) -> bool:
    """Whether ``root`` does not exist or is an empty folder."""
    return not root.exists() or (root.is_dir() and not any(root.iterdir()))


def check(root: Path, wanted: dict[str, int]) -> None:
    """Check that ``root`` holds the wanted drawing.

    Args:
        root: Folder of a drawing.
        wanted: Version and seed of the drawing.

    Raises:
        FileExistsError: If it does not.
    """
    advice = "Choose another folder with `--data.root`, or remove this one."
    try:
        found = json.loads((root / RECORD).read_text())
    except (OSError, ValueError) as error:
        msg = f"{root} exists, but DemoParts did not draw it: no readable {RECORD} in it. {advice}"
        raise FileExistsError(msg) from error
    if found != wanted:
        raise FileExistsError(f"{root} holds the drawing {found}, and {wanted} was asked for. {advice}")


def draw_parts(folder: Path, seed: int) -> None:
    """Draw all parts, in the layout of MVTec AD.

    Args:
        folder: Folder of the category, which must not exist.
        seed: Seed of the drawing.
    """
    generator = Generator().manual_seed(seed)
    parts = [(split, label, number) for split, label, count in PARTS for number in range(count)]
    with one_thread():
        for split, label, number in track(parts, description="Drawing DemoParts"):
            scene = Scene.sample(generator)
            defect = None if label == "good" else sample_defect(label, scene, generator)
            save(draw(scene, defect), folder / split / label / f"{number:03}.png")
            if defect is not None:
                save(defect.mask[None].byte() * 255, folder / "ground_truth" / label / f"{number:03}_mask.png")


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which torch computes on one thread.

    Maps of this size gain little from more threads, and on a busy machine more threads are much slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def save(picture: Tensor, path: Path) -> None:
    """Write a picture ``(C, H, W)``, uint8, as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(picture).save(path, compress_level=3)

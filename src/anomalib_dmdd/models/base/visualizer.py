"""Pictures of tested and predicted images, with score and verdict."""

from pathlib import Path
from typing import Any

from anomalib.data import ImageBatch, ImageItem
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.functional import add_text_to_image
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from anomalib_dmdd.picture_names import save_picture

GOOD, DEFECTIVE = (120, 220, 120), (255, 110, 90)
"""Colours of the verdict."""


class VerdictVisualizer(ImageVisualizer):
    """Anomalib's pictures with the image's score and verdict in the lower left corner.

    Takes the arguments of Anomalib's ``ImageVisualizer``.
    """

    output_dir: Path | None
    drawn_to: Path | None = None
    """Folder of the last pictures."""

    def verdict(self, item: ImageItem) -> Image.Image | None:
        """The picture of an image; None if there is nothing to draw."""
        picture: Image.Image | None = self.visualize(item)
        if picture is None or item.pred_score is None or item.pred_label is None:
            return picture
        text, color = ("defective", DEFECTIVE) if bool(item.pred_label) else ("good", GOOD)
        place = (10, picture.height - 34)
        drawn: Image.Image = add_text_to_image(
            picture, f"{text} {float(item.pred_score):.3f}", size=20, color=color, position=place
        )
        return drawn

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: ImageBatch,
        batch: ImageBatch,
        batch_idx: int,
        *args: Any,
    ) -> None:
        """Write one picture per image, where Anomalib writes it."""
        del pl_module, outputs, args
        self.drawn_to = self.output_dir or Path(trainer.default_root_dir) / "images"
        data = getattr(trainer, "datamodule", None)
        names = {"dataset_name": getattr(data, "name", None), "category": getattr(data, "category", None)}
        for number, item in enumerate(batch):
            if picture := self.verdict(item):
                source = Path(item.image_path or f"{batch_idx}_{number}.png")  # images in memory have no path
                save_picture(picture, generate_output_filename(source, self.drawn_to, **names), source)

    def on_predict_batch_end(self, *args: Any) -> None:
        """Write one picture per image, where Anomalib writes it."""
        self.on_test_batch_end(*args)

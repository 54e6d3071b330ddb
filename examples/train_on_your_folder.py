r"""Train a model on a folder of your own good images and test it on a few defective ones.

    python examples/train_on_your_folder.py parts/good parts/defective --masks parts/masks --model Bikd

Masks are white where the defect is and named like their images. They are optional: without them there are no metrics of
pixels. Without images and ImageNet weights (a few minutes on a CPU), train on parts that the first command draws:

    python -c "from anomalib_dmdd import DemoParts; DemoParts().prepare_data()"
    python examples/train_on_your_folder.py datasets/DemoParts/flange/train/good datasets/DemoParts/flange/test/chip \
        --masks datasets/DemoParts/flange/ground_truth/chip \
        --backbone resnet18 --pre_trained false --steps 100 --image_size 128
"""

from pathlib import Path
from typing import Literal

from anomalib.data import Folder
from anomalib.engine import Engine
from jsonargparse import auto_cli

import anomalib_dmdd


def train(
    good: Path,
    bad: Path,
    masks: Path | None = None,
    out: Path = Path("results"),
    model: Literal["Dmdd", "Dskd", "Bikd"] = "Dmdd",
    backbone: str | None = None,
    pre_trained: bool = True,
    steps: int | None = None,
    image_size: int = 256,
) -> Path:
    """Train and test.

    Args:
        good: Folder of good images; a fifth of them is kept for testing.
        bad: Folder of images with defects; they set the threshold and test the model.
        masks: Folder with a mask for each image with a defect.
        out: Folder of the results.
        model: Name of the model.
        backbone: Name of a timm CNN, the teacher; by default that of the model.
        pre_trained: Whether the teacher has ImageNet weights; with random weights the accuracy is low.
        steps: Training steps of 16 images; by default as many as the method takes.
        image_size: Height and width in pixels to which images are resized.

    Returns:
        Path of the checkpoint.
    """
    data = Folder(
        name=good.resolve().parent.name,
        normal_dir=good.resolve(),
        abnormal_dir=bad.resolve(),
        mask_dir=masks.resolve() if masks else None,
        train_batch_size=16,
        num_workers=0,
        seed=0,  # the same split every time
    )
    settings = {"backbone": backbone} if backbone else {}
    network = getattr(anomalib_dmdd, model)(pre_trained=pre_trained, image_size=image_size, **settings)
    engine = Engine(default_root_dir=out, max_steps=steps or -1)
    engine.train(network, datamodule=data)  # prints the metrics, and where pictures and weights are
    return Path(engine.best_model_path)


if __name__ == "__main__":
    auto_cli(train)

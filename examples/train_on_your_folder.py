r"""Train DMDD on a folder of your own good images and test it on a few defective ones.

    python examples/train_on_your_folder.py parts/good parts/defective --masks parts/masks

Masks are white where the defect is and named like their images. They are optional: without them there are no metrics of
pixels. Without images and ImageNet weights (a few minutes on a CPU), train on parts that the first command draws:

    python -c "from anomalib_dmdd import DemoParts; DemoParts().prepare_data()"
    python examples/train_on_your_folder.py datasets/DemoParts/flange/train/good datasets/DemoParts/flange/test/chip \
        --masks datasets/DemoParts/flange/ground_truth/chip \
        --backbone resnet18 --pre_trained false --steps 100 --image_size 128
"""

from pathlib import Path

from anomalib.data import Folder
from anomalib.engine import Engine
from jsonargparse import auto_cli

from anomalib_dmdd import Dmdd


def train(
    good: Path,
    bad: Path,
    masks: Path | None = None,
    out: Path = Path("results"),
    backbone: str = "wide_resnet50_2.tv_in1k",
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
        backbone: Name of a timm CNN, the teacher.
        pre_trained: Whether the teacher has ImageNet weights; with random weights the accuracy is low.
        steps: Training steps of 16 images; 5000 by default.
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
    size = (image_size, image_size)
    model = Dmdd(backbone=backbone, pre_trained=pre_trained, pre_processor=Dmdd.configure_pre_processor(size))
    engine = Engine(default_root_dir=out, max_steps=steps or -1)
    engine.fit(model, datamodule=data)
    engine.test(model, datamodule=data)  # prints the metrics and writes a picture of every test image
    print(f"pictures and weights: {engine.trainer.default_root_dir}")
    return Path(engine.best_model_path)


if __name__ == "__main__":
    auto_cli(train)

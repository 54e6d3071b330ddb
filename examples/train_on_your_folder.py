"""Train DMDD on a folder of your own good images, test it on a few bad ones, and keep the model and its pictures.

    python examples/train_on_your_folder.py --good parts/good --bad parts/bad --masks parts/masks

Masks (white where the defect is, named like their images) are optional: without them only whole images are scored.
Try it without data and without ImageNet weights (a few minutes on a CPU):

    anomalib train --model Dmdd --data DemoParts --model.pre_trained false --trainer.max_steps 1   # draws the parts
    python examples/train_on_your_folder.py --good datasets/DemoParts/flange/train/good \
        --bad datasets/DemoParts/flange/test/chip --masks datasets/DemoParts/flange/ground_truth/chip \
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
        bad: Folder of images with defects, for testing only.
        masks: Folder with a mask for each of them.
        out: Where results go.
        backbone: Any timm CNN as the teacher.
        pre_trained: ImageNet weights for the teacher; without them results say little.
        steps: Training steps of 16 images; by default the method's 5000.
        image_size: Height and width that the model sees.

    Returns:
        The checkpoint.
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

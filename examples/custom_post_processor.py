"""Write a post-processor of your own: this one ignores the border of the image, where neighbouring parts are visible.

The same class works in training, prediction, checkpoints and exported models. Try it on drawn parts, with random
weights and without any download:

    python examples/custom_post_processor.py --steps 50
"""

from pathlib import Path
from typing import Any

import torch
from anomalib.engine import Engine
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn.functional import pad

from anomalib_dmdd import DemoParts, Dmdd
from anomalib_dmdd.models.base import DistillationPostProcessor


class IgnoreBorder(DistillationPostProcessor):
    """Sets the anomaly map to zero near the border, before the image score is taken from it.

    Args:
        border: Width of the border in pixels of the map.
        **settings: Arguments of the default post-processor.
    """

    def __init__(self, border: int = 8, **settings: Any) -> None:
        super().__init__(**settings)
        self.border = border

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "border")  # plain settings to store in the checkpoint

    def smooth(self, anomaly_map: Tensor) -> Tensor:
        """Smooth a map and clear its border."""
        width = self.border
        inside = torch.ones_like(anomaly_map[..., width:-width, width:-width])
        return super().smooth(anomaly_map) * pad(inside, (width,) * 4)


def train(
    border: int = 8,
    steps: int = 50,
    image_size: int = 128,
    parts: Path = Path("datasets/DemoParts"),
    out: Path = Path("results"),
) -> Dmdd:
    """Train a model with the post-processor and load it from its checkpoint.

    Args:
        border: Width of the border in pixels of the map.
        steps: Training steps.
        image_size: Height and width in pixels to which images are resized.
        parts: Folder of the drawn parts; they are drawn if it does not exist.
        out: Folder of the results.

    Returns:
        Model from the checkpoint.
    """
    pre_processor = Dmdd.configure_pre_processor((image_size, image_size))
    model = Dmdd(
        backbone="resnet18",
        pre_trained=False,
        pre_processor=pre_processor,
        post_processor=IgnoreBorder(border),
        visualizer=False,
    )
    data = DemoParts(root=parts)
    engine = Engine(default_root_dir=out, max_steps=steps)
    engine.fit(model, datamodule=data)
    engine.test(model, datamodule=data)
    # A checkpoint stores the settings of a post-processor but not its code, so the class is passed again.
    return Dmdd.load_from_checkpoint(engine.best_model_path, post_processor=IgnoreBorder())


if __name__ == "__main__":
    auto_cli(train)

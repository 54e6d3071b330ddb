"""Write a post-processor of your own: this one ignores the border of the image, where neighbouring parts are visible.

The same class works in training, prediction, checkpoints and exported models. Try it on drawn parts, with random
weights and without any download:

    python examples/custom_post_processor.py --steps 50
"""

from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn.functional import pad

import anomalib_dmdd
from anomalib_dmdd import DemoParts
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
        border, (height, width) = self.border, anomaly_map.shape[-2:]
        inside = torch.ones_like(anomaly_map[..., border : height - border, border : width - border])
        return super().smooth(anomaly_map) * pad(inside, (border,) * 4)


def train(
    model: Literal["Dmdd", "Dskd", "Bikd"] = "Dmdd",
    border: int = 8,
    steps: int = 50,
    image_size: int = 128,
    parts: Path = Path("datasets/DemoParts"),
    out: Path = Path("results"),
) -> AnomalibModule:
    """Train a model with the post-processor and load it from its checkpoint.

    Args:
        model: Name of the model.
        border: Width of the border in pixels of the map.
        steps: Training steps.
        image_size: Height and width in pixels to which images are resized.
        parts: Folder of the drawn parts; they are drawn if it does not exist.
        out: Folder of the results.

    Returns:
        Model from the checkpoint.
    """
    cls = getattr(anomalib_dmdd, model)
    network = cls(
        backbone="resnet18",
        pre_trained=False,
        image_size=image_size,
        post_processor=IgnoreBorder(border),
        visualizer=False,
    )
    data = DemoParts(root=parts)
    engine = Engine(default_root_dir=out, max_steps=steps)
    engine.fit(network, datamodule=data)
    engine.test(network, datamodule=data)
    # A checkpoint stores the settings of a post-processor but not its code, so the class is passed again.
    return cls.load_from_checkpoint(engine.best_model_path, post_processor=IgnoreBorder())


if __name__ == "__main__":
    auto_cli(train)

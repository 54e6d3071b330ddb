"""Height and width of the images that a model takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn

from anomalib_dmdd.models.components import Teacher

from .post_processor import DistillationPostProcessor


class InputSizeMixin:
    """Mixin that refuses sizes which the network cannot process.

    Attributes:
        model: The network, which knows what the sides must be multiples of.
        input_size: Height and width that the pre-processor gives to all images; None if it does not.
    """

    model: Any
    input_size: tuple[int, int] | None
    post_processor: nn.Module | None

    @classmethod
    def sized(cls, pre_processor: PreProcessor | bool, image_size: int | Sequence[int] | None) -> PreProcessor | bool:
        """The pre-processor for an image size; without a size, the one that was given.

        Raises:
            ValueError: If both are given, or the size is not one or two positive numbers.
        """
        if image_size is None:
            return pre_processor
        if pre_processor is not True:
            raise ValueError("image_size: give either image_size or pre_processor, which resizes images itself.")
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or min(size) < 1:  # noqa: PLR2004  # height and width
            raise ValueError(f"image_size: {image_size!r} is neither a number of pixels nor height and width.")
        sized: PreProcessor = cls.configure_pre_processor(size)  # type: ignore[attr-defined]  # of AnomalibModule
        return sized

    def build_teacher(
        self, backbone: str, layers: Sequence[str] | None, pre_trained: bool, weights: str | Path | None
    ) -> Teacher:
        """The teacher, checked with an image of the model's own input size."""
        return Teacher(backbone, layers, pre_trained, weights, image_size=self.input_size or (256, 256))

    def check_input_size(self) -> None:
        """Refuse an input size that network or post-processor cannot process, before anything is trained.

        Raises:
            ValueError: If height or width is not a multiple of what the network needs, or too small for the settings of
                the post-processor.
        """
        size, divisor = self.input_size, self.model.size_divisor
        if size and any(side % divisor for side in size):
            fitting = tuple(max(divisor, divisor * round(side / divisor)) for side in size)
            raise ValueError(
                f"The pre-processor resizes images to {tuple(size)}, but {type(self).__name__} with this backbone "
                f"needs a height and width that are multiples of {divisor}, for example {fitting}."
            )
        if size and isinstance(self.post_processor, DistillationPostProcessor):
            self.post_processor.check_size(size)

    def check_images(self, images: Tensor) -> None:
        """Refuse images of a size that the network cannot process; tiles have their own.

        Args:
            images: Images ``(N, 3, H, W)`` behind the pre-processor.

        Raises:
            ValueError: If height or width is not a multiple of what the network needs.
        """
        size, divisor = images.shape[-2:], self.model.size_divisor
        if self.model.tiler is None and any(side % divisor for side in size):
            raise ValueError(
                f"The images have a height and width of {tuple(size)} behind the pre-processor, but "
                f"{type(self).__name__} with this backbone needs multiples of {divisor}. Give image_size, or a Resize "
                "with height and width: with one number it keeps the aspect ratio."
            )

"""What the networks of the three models have in common."""

from torch import Tensor, nn

from anomalib_dmdd.parts import Teacher


class Network(nn.Module):
    """A network with a teacher whose weights are put in place when training starts.

    Attributes:
        teacher: The frozen teacher.
        multiple: Height and width of an input are multiples of this, in pixels.
    """

    teacher: Teacher
    multiple: int

    def load_pretrained(self) -> None:
        """Fetch the teacher's weights, see :meth:`~anomalib_dmdd.parts.Teacher.load_pretrained`."""
        self.teacher.load_pretrained()

    def calibrate(self, images: Tensor) -> None:
        """Fit a random teacher to images ``(N, 3, H, W)``, see :meth:`~anomalib_dmdd.parts.Teacher.calibrate`."""
        self.teacher.calibrate(images)

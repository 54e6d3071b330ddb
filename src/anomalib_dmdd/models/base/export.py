"""Export to ONNX and OpenVINO, checked and with facts about the model."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from anomalib.data import AnomalibDataModule
from anomalib.deploy.export import CompressionType
from torch import nn
from torchvision.transforms.v2 import CenterCrop

from anomalib_dmdd.models.components import evaluation_mode

from .checkpoints.checkpoint import own_version
from .normalization import transforms_of
from .quantization import check_agreement, load_calibration_images, quantize, quantize_with_accuracy_control

logger = logging.getLogger(__name__)

SECTION = "anomalib_dmdd"
"""Where an OpenVINO file holds the facts, see :meth:`ExportMixin.facts`."""

OPSET = 18
"""The oldest opset that torch exports without a conversion, which would print hundreds of lines."""


@contextmanager
def warnings_only(*names: str) -> Iterator[None]:
    """Let loggers of these names pass warnings and errors only."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    try:
        for one in levels:
            one.setLevel(logging.WARNING)
        yield
    finally:
        for one, level in levels.items():
            one.setLevel(level)


class ExportMixin(nn.Module):
    """Mixin with the export hooks of Anomalib, for subclasses of ``AnomalibModule``."""

    pre_processor: nn.Module | None
    post_processor: nn.Module | None
    input_size: tuple[int, int] | None
    hparams: Any
    model: Any
    trained_with: Mapping[str, str] = MappingProxyType({})
    """Name of the training set and date of the training; part of the checkpoint."""

    def facts(self) -> dict[str, str]:
        """What the exported file says about its model."""
        facts = {
            "model": type(self).__name__,
            "version": own_version(),
            "backbone": self.model.teacher.backbone,
            "image_size": "x".join(str(side) for side in self.input_size or ()),
            **self.trained_with,
        }
        for name in ("image_threshold", "pixel_threshold", "image_sensitivity", "pixel_sensitivity"):
            if hasattr(self.post_processor, name):
                facts[name] = f"{float(getattr(self.post_processor, name)):.8g}"
        facts["scores"] = "normalized" if getattr(self.post_processor, "enable_normalization", False) else "raw"
        return facts

    def _refuse_tiles(self) -> None:
        """Refuse to export a model of tiles.

        Its thresholds would not fit the whole images that an exported file takes.

        Raises:
            ValueError: If the model was trained on tiles, or has a tiler now.
        """
        if "tiles" in self.trained_with or getattr(self.model, "tiler", None) is not None:
            raise ValueError(
                "export: the model was trained on tiles, which exported files cannot hold. Predict with the checkpoint "
                "and the same TilerConfigurationCallback, or train without it."
            )

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export as Anomalib does, unless the model works on tiles.

        Textures and known defects stay out of the file.
        """
        self._refuse_tiles()
        if (simulator := getattr(self, "simulator", None)) is not None:
            simulator.forget_images()
        path: Path = super().to_torch(*args, **kwargs)  # type: ignore[misc]
        return path

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as Anomalib does, with the opset of torch and without a line per operation.

        Raises:
            ValueError: If a side of the input size is not positive.
        """
        self._refuse_tiles()
        self._check_export_size(input_size)
        if transforms_of(self.pre_processor, CenterCrop):
            logger.warning(
                "The pre-processor crops images. inspector.py gives whole images to the file, resized, so its scores "
                "differ from those of the Engine. Crop the images before, and leave it out of the pre-processor."
            )
        settings = {"opset_version": OPSET, "verbose": False} | kwargs
        with warnings_only("onnx_ir", "onnxscript"), evaluation_mode(self):  # Anomalib leaves the model in it
            path: Path = super().to_onnx(export_root, model_file_name, input_size, **settings)  # type: ignore[misc]
        return path

    def _check_export_size(self, size: Sequence[int] | None) -> None:
        """Refuse a size without pixels, and warn of one that was not trained."""
        if size is None:
            return
        if min(size) < 1:
            raise ValueError(f"input_size: the sides must be at least 1, not {list(size)}.")
        if self.input_size and tuple(size) != tuple(self.input_size):
            logger.warning(
                "The file takes images of %dx%d, but the model was trained with %dx%d. It resizes them without "
                "antialiasing, so scores can differ by a few hundredths. Export with --input_size [%d,%d] for the "
                "scores of the Engine.",
                *size,
                *self.input_size,
                *self.input_size,
            )

    def to_openvino(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | str | None = None,
        datamodule: AnomalibDataModule | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as Anomalib does, and store the facts of the model.

        Nothing is left of a compressed file that fails its check.

        Raises:
            RuntimeError: If the compressed model judges the calibration images differently.
        """
        import openvino as ov  # noqa: PLC0415  # only where it is used

        kind = CompressionType(compression_type.lower()) if isinstance(compression_type, str) else compression_type
        with TemporaryDirectory() as scratch:
            path: Path = super().to_openvino(  # type: ignore[misc]
                scratch, model_file_name, input_size, kind, datamodule, **kwargs
            )
            model = ov.Core().read_model(path)
            for name, value in self.facts().items():
                model.set_rt_info(value, [SECTION, name])
            final = Path(export_root) / path.relative_to(scratch)
            final.parent.mkdir(parents=True, exist_ok=True)
            ov.save_model(model, final, compress_to_fp16=False)  # what is half precision already stays so
            del model  # it maps the file, which some systems then refuse to remove
        return final

    def _post_training_quantization_ov(self, model: Any, datamodule: AnomalibDataModule | None = None) -> Any:  # noqa: ANN401
        """Quantise the convolutions of teacher and students, and compare the result with the original."""
        images = load_calibration_images(model, datamodule)
        quantized = quantize(model, images)
        check_agreement(model, quantized, images, self._normalized_threshold())
        return quantized

    def _accuracy_control_quantization_ov(
        self,
        model: Any,  # noqa: ANN401
        datamodule: AnomalibDataModule | None = None,
        metric: Any = None,  # noqa: ANN401
        task: Any = None,  # noqa: ANN401, ARG002  # only Anomalib's own metric needs it
        max_drop: float = 0.01,
    ) -> Any:  # noqa: ANN401
        """Quantise, but keep layers in single precision where the metric would drop too much."""
        images = load_calibration_images(model, datamodule)
        quantized = quantize_with_accuracy_control(model, images, datamodule, metric, max_drop)
        check_agreement(model, quantized, images, self._normalized_threshold())
        return quantized

    def _normalized_threshold(self) -> float:
        return float(getattr(self.post_processor, "normalized_image_threshold", 0.5))

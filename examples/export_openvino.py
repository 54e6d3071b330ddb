"""Export a trained model to OpenVINO and run it on a folder of images with the inferencer of Anomalib.

python examples/export_openvino.py path/to/model.ckpt parts/new
"""

from pathlib import Path

from anomalib.data.utils import get_image_filenames
from anomalib.deploy import ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from jsonargparse import auto_cli
from PIL import Image

from anomalib_dmdd.trained_model import load_trained


def export(checkpoint: Path, images: Path, out: Path = Path("exports")) -> dict[str, float]:
    """Export a model and predict with the exported file.

    Args:
        checkpoint: Checkpoint of a training.
        images: Image or folder of images. They are shrunk as in the training.
        out: Folder of the exported model.

    Returns:
        Score of each image from 0 to 1; above 0.5 it is defective.
    """
    model, _ = load_trained(checkpoint)
    size = model.input_size  # height and width; the file of a fixed size scores like the Engine
    path = Engine(default_root_dir=out).export(model, ExportType.OPENVINO, export_root=out, input_size=size)
    print(f"exported: {path}")

    # The computer on the line runs only what follows. Thresholds were set in single precision.
    inferencer = OpenVINOInferencer(path, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
    scores = {}
    for image in get_image_filenames(images):
        picture = Image.open(image).convert("RGB")
        prediction = inferencer.predict(picture.resize(size[::-1], Image.Resampling.BILINEAR) if size else picture)
        scores[str(image)] = float(prediction.pred_score.item())
        print(f"{'defective' if prediction.pred_label.item() else 'good     '} {scores[str(image)]:.2f} {image}")
    return scores


if __name__ == "__main__":
    auto_cli(export)

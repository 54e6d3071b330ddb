"""Export a trained model to OpenVINO and run it on a folder of images with the inferencer of Anomalib.

python examples/export_openvino.py path/to/model.ckpt parts/new
"""

from pathlib import Path

from anomalib.data.utils import get_image_filenames
from anomalib.deploy import ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from jsonargparse import auto_cli

from anomalib_dmdd.trained_model import load_trained


def export(checkpoint: Path, images: Path, out: Path = Path("exports")) -> dict[str, float]:
    """Export a model and predict with the exported file.

    Args:
        checkpoint: Checkpoint of a training.
        images: Image or folder of images of any size, since the exported model resizes them.
        out: Folder of the exported model.

    Returns:
        Score of each image from 0 to 1; at 0.5 and above it is anomalous.
    """
    model, _ = load_trained(checkpoint)
    path = Engine(default_root_dir=out).export(model, ExportType.OPENVINO, export_root=out)
    print(f"exported: {path}")

    inferencer = OpenVINOInferencer(path, device="CPU")  # the computer on the line runs only what follows
    scores = {}
    for image in get_image_filenames(images):
        prediction = inferencer.predict(image)
        scores[str(image)] = float(prediction.pred_score.item())
        print(f"{'ANOMALOUS' if prediction.pred_label.item() else 'good     '} {scores[str(image)]:.2f} {image}")
    return scores


if __name__ == "__main__":
    auto_cli(export)

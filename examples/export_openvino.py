"""Export a trained model to OpenVINO and run it on a folder of images: no PyTorch is needed where it runs.

python examples/export_openvino.py --checkpoint results/.../model.ckpt --images parts/new
"""

from pathlib import Path

from anomalib.data.utils import get_image_filenames
from anomalib.deploy import ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from jsonargparse import auto_cli

from anomalib_dmdd import Dmdd


def export(checkpoint: Path, images: Path, out: Path = Path("exports")) -> dict[str, float]:
    """Export, then predict.

    Args:
        checkpoint: What training left behind.
        images: An image or a folder of them, of any size: resizing is part of the exported model.
        out: Where the export goes.

    Returns:
        Score of each image, 0 to 1; 0.5 and more is anomalous.
    """
    model = Dmdd.load_from_checkpoint(checkpoint)
    path = Engine(default_root_dir=out).export(model, ExportType.OPENVINO, export_root=out)
    print(f"exported: {path}")

    inferencer = OpenVINOInferencer(path, device="CPU")  # from here on, this is all that a machine on the line runs
    scores = {}
    for image in get_image_filenames(images):
        prediction = inferencer.predict(image)
        scores[str(image)] = float(prediction.pred_score.item())
        print(f"{'ANOMALOUS' if prediction.pred_label.item() else 'good     '} {scores[str(image)]:.2f} {image}")
    return scores


if __name__ == "__main__":
    auto_cli(export)

r"""Does a trained student run away? Each image's largest activation at the end of the decoder, over the median one.

    python benchmarks/activations.py Dmdd path/to/images tile results/compare/runs/Dmdd-tile-*/model.ckpt

Where an image is far above the others, its activations grow from layer to layer. DMDD damps them; `--running` shows it
without. The category is in the layout of MVTec AD.
"""

import torch
from anomalib.data import MVTecAD
from anomalib.models import AnomalibModule
from maps import arguments, load
from torch import Tensor
from torch.utils.data import DataLoader

from anomalib_dmdd import Bikd, Dmdd, Dskd
from anomalib_dmdd.parts import DecoderStudent

MODELS = {"Dmdd": Dmdd, "Dskd": Dskd, "Bikd": Bikd}

FAR = 10
"""An image runs away where it has so many times the activations of the median image."""


@torch.inference_mode()
def largest_activations(model: AnomalibModule, images: DataLoader) -> Tensor:
    """The largest activation of each image in the decoder's last and finest features, ``(N,)``."""
    peaks: list[Tensor] = []
    decoder = next(module for module in model.modules() if isinstance(module, DecoderStudent))
    hook = decoder.register_forward_hook(lambda *call: peaks.append(call[-1][0].abs().amax((1, 2, 3))))
    for batch in images:
        model.model(model.pre_processor.transform(batch.image))
    hook.remove()
    return torch.cat(peaks)


def main() -> None:
    """Print a row for each checkpoint and set."""
    args = arguments(__doc__, MODELS)
    data = MVTecAD(root=args.root, category=args.category, num_workers=0)
    data.setup()
    sets = {"training": data.train_data, "test": data.test_data}
    print(f"| checkpoint | images | median | largest / median | above {FAR} |\n|---|---|---|---|---|")
    for checkpoint in args.checkpoints:
        model = load(MODELS[args.model], checkpoint, running=args.running)
        for name, images in sets.items():
            peaks = largest_activations(model, DataLoader(images, batch_size=16, collate_fn=images.collate_fn))
            ratios = peaks / peaks.median()
            far = f"{int((ratios > FAR).sum())} of {len(ratios)}"
            print(f"| {checkpoint} | {name} | {peaks.median():.2f} | {ratios.max():.1f} | {far} |", flush=True)


if __name__ == "__main__":
    main()

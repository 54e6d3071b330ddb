"""Checks of models that see images in tiles, as Anomalib's ``TilerConfigurationCallback`` sets them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomalib.data.utils.tiler import Tiler

    from .mixin import DistillationMixin


def describe_tiles(tiler: "Tiler | None") -> str:
    """Height and width of tiles, and what differs from tiles side by side."""
    if tiler is None:
        return "none"
    size, stride = (f"{tiler.tile_size_h}x{tiler.tile_size_w}", f"{tiler.stride_h}x{tiler.stride_w}")
    overlap = "" if stride == size else f", stride {stride}"
    border = f", remove_border_count {tiler.remove_border_count}" if tiler.remove_border_count else ""
    mode = "" if tiler.mode == "padding" else f", mode {tiler.mode}"
    return f"{size}{overlap}{border}{mode}"


def check_trained_tiles(model: "DistillationMixin") -> None:
    """Check the tiles, also against those of the training, whose thresholds fit no others.

    Raises:
        ValueError: If they do not fit, or are not those of the training.
    """
    check_tiles(model)
    trained, found = model.trained_with.get("tiles", "none"), describe_tiles(model.model.tiler)
    if "trained" in model.trained_with and found != trained:
        raise ValueError(
            f"tiles: the model was trained with {trained}, but has {found} now. Its thresholds do not fit. "
            "Pass the same TilerConfigurationCallback as in the training, for example with --config tiles.yaml."
        )


def check_tiles(model: "DistillationMixin") -> None:
    """Refuse tiles that the network cannot process, or that are larger than the images.

    A checkpoint must have restored the size of the images before.

    Raises:
        ValueError: If height or width of a tile does not fit.
    """
    if (tiler := model.model.tiler) is None:
        return
    tile, divisor = (tiler.tile_size_h, tiler.tile_size_w), model.model.size_divisor
    if any(side % divisor for side in tile):
        raise ValueError(
            f"tile_size: {tile} does not fit. {type(model).__name__} with this backbone needs a height and a width "
            f"that are multiples of {divisor}."
        )
    border = tiler.remove_border_count
    if border and any(s > t - 2 * border for s, t in zip((tiler.stride_h, tiler.stride_w), tile, strict=True)):
        raise ValueError(
            f"remove_border_count: without {border} pixels at their borders, the tiles leave stripes where nothing "
            f"is found. Choose a stride of at most {min(tile) - 2 * border}."
        )
    if model.input_size and any(side < part for side, part in zip(model.input_size, tile, strict=True)):
        raise ValueError(
            f"tile_size: {tile} is larger than the images, which are resized to {tuple(model.input_size)}. Choose "
            "smaller tiles, or larger images with --model.image_size."
        )

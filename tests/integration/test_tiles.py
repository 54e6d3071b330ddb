"""Images in tiles, as Anomalib's callback sets them: training, prediction, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from anomalib.callbacks import TilerConfigurationCallback
from anomalib.data.utils.tiler import Tiler
from anomalib.engine import Engine
from small_models import MODELS, build

import anomalib_dmdd
from anomalib_dmdd import DemoParts
from anomalib_dmdd.trained_model import load_trained

TILE, SIZE = 64, (64, 128)


def tiles(tile_size: int = TILE) -> TilerConfigurationCallback:
    return TilerConfigurationCallback(enable=True, tile_size=tile_size, stride=tile_size)


@pytest.mark.parametrize("name", MODELS)
def test_each_tile_passes_as_an_image(
    name: str, parts: DemoParts, engine: Callable[..., Engine], tmp_path: Path
) -> None:
    model = build(name, size=SIZE)
    seen = []
    model.model.teacher.register_forward_hook(
        lambda _teacher, images, _: seen.append((model.training, tuple(images[0].shape[1:])))
    )
    training = engine(max_steps=5, callbacks=[tiles()])
    training.fit(model, datamodule=parts)
    assert {training for training, _ in seen} == {True, False}
    assert {shape for _, shape in seen} == {(3, TILE, TILE)}, "neither training nor validation saw a whole image"

    trained = getattr(anomalib_dmdd, name).load_from_checkpoint(training.best_model_path, visualizer=False).eval()
    predicted = engine(callbacks=[tiles()]).predict(trained, datamodule=parts)
    image = torch.cat([batch.image for batch in predicted])[:2]
    with torch.no_grad():
        joined = trained.model(image)
        trained.model.tiler = None
        whole = [trained.model(half).anomaly_map for half in image.split(TILE, dim=-1)]
    torch.testing.assert_close(joined.anomaly_map, torch.cat(whole, dim=-1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(joined.pred_score.flatten(), joined.anomaly_map.flatten(1).amax(1))
    with pytest.raises(ValueError, match="export: the model was trained on tiles"):
        trained.to_torch(tmp_path)


@pytest.mark.parametrize(("tile", "message"), [(40, "multiples of 32"), (96, "larger than the images")])
def test_tiles_that_do_not_fit_are_refused(
    tile: int, message: str, parts: DemoParts, engine: Callable[..., Engine]
) -> None:
    with pytest.raises(ValueError, match=f"tile_size: .* {message}"):
        engine(max_steps=1, callbacks=[tiles(tile)]).fit(build("Dskd", size=SIZE), datamodule=parts)


def test_borders_that_leave_stripes_are_refused(parts: DemoParts, engine: Callable[..., Engine]) -> None:
    blind = TilerConfigurationCallback(enable=True, tile_size=TILE, stride=TILE, remove_border_count=8)
    with pytest.raises(ValueError, match=r"remove_border_count: .* a stride of at most 48"):
        engine(max_steps=1, callbacks=[blind]).fit(build("Dskd", size=SIZE), datamodule=parts)


def test_a_broken_tile_breaks_its_image_alone() -> None:
    model = build("Dskd", size=SIZE).eval()
    model.model.tiler = Tiler(tile_size=TILE, stride=TILE)
    images = torch.rand(3, 3, *SIZE)
    images[1, :, :, -1] = torch.nan
    with torch.no_grad():
        maps = model.model(images).anomaly_map
    assert maps.isfinite().flatten(1).all(1).tolist() == [True, False, True]


def test_a_checkpoint_of_tiles_needs_no_size_but_its_tiles(
    parts: DemoParts, engine: Callable[..., Engine], caplog: pytest.LogCaptureFixture
) -> None:
    side = 288  # larger than the images of a model without a checkpoint
    training = engine(max_steps=1, limit_val_batches=1, callbacks=[tiles(side)])
    training.fit(build("Dskd", size=(side, side)), datamodule=parts)
    default = anomalib_dmdd.Dskd(pre_trained=False, visualizer=False)  # of another backbone, too
    seen = []
    load = default.on_load_checkpoint

    def load_and_watch(checkpoint: dict[str, object]) -> None:
        load(checkpoint)
        default.model.teacher.register_forward_hook(lambda _teacher, images, _: seen.append(images[0].shape[-1]))

    default.on_load_checkpoint = load_and_watch
    engine(callbacks=[tiles(side)], limit_predict_batches=1).predict(
        default, datamodule=parts, ckpt_path=training.best_model_path
    )
    assert seen == [side]
    assert default.model.tiler is not None
    same, checkpoint = {"size": (side, side)}, {"ckpt_path": training.best_model_path}
    with pytest.raises(ValueError, match="tiles: the model was trained with 288x288, but has none now"):
        engine().predict(build("Dskd", **same), datamodule=parts, **checkpoint)
    other = TilerConfigurationCallback(enable=True, tile_size=side, stride=side // 2, remove_border_count=8)
    with pytest.raises(ValueError, match="but has 288x288, stride 144x144, remove_border_count 8 now"):
        engine(callbacks=[other]).predict(build("Dskd", **same), datamodule=parts, **checkpoint)
    with caplog.at_level("INFO"):
        engine(callbacks=[tiles(side)], limit_val_batches=1).validate(
            build("Dskd", **same), datamodule=parts, **checkpoint
        )
    assert "are lost" in caplog.text
    assert "To keep such thresholds" not in caplog.text, "no command of ours can cut tiles"
    with pytest.raises(ValueError, match=r"trained on tiles\. Only the commands of Anomalib can cut them"):
        load_trained(Path(training.best_model_path))

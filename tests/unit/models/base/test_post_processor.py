"""Smoothing, score and thresholds, against SciPy and NumPy."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.metrics import AUROC
from scipy.ndimage import gaussian_filter

from anomalib_dmdd.models.base import DistillationPostProcessor


def validate(post_processor: DistillationPostProcessor, maps: torch.Tensor, labels: list[int]) -> None:
    """One validation epoch of one batch; anomalous images are anomalous in their left half."""
    masks = torch.zeros(maps.shape[0], *maps.shape[-2:], dtype=torch.bool)
    masks[torch.tensor(labels, dtype=torch.bool), :, : maps.shape[-1] // 2] = True
    batch = ImageBatch(
        image=torch.zeros(len(maps), 3, *maps.shape[-2:]),
        anomaly_map=maps.clone(),
        gt_label=torch.tensor(labels),
        gt_mask=masks,
    )
    post_processor.on_validation_epoch_start(None, None)
    post_processor.on_validation_batch_end(None, None, batch)
    post_processor.on_validation_epoch_end(SimpleNamespace(sanity_checking=False), None)


@pytest.mark.parametrize("sigma", [0.0, 1.5, 4.0])
def test_smoothing_is_scipys(sigma: float) -> None:
    anomaly_map = torch.rand(2, 1, 64, 48)
    expected = gaussian_filter(anomaly_map.numpy(), sigma=(0, 0, sigma, sigma), mode="mirror", truncate=4.0)
    assert np.abs(DistillationPostProcessor(sigma=sigma).smooth(anomaly_map).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("top_k", [1, 7])
def test_image_score_is_the_mean_of_the_highest_pixels(top_k: int) -> None:
    anomaly_map = torch.rand(3, 1, 16, 16)
    expected = np.sort(anomaly_map.numpy().reshape(3, -1), axis=1)[:, -top_k:].mean(1)
    score = DistillationPostProcessor(top_k=top_k).image_score(anomaly_map)
    assert np.allclose(score.numpy(), expected)


def test_engine_and_exported_graph_agree() -> None:
    post_processor = DistillationPostProcessor(sigma=2.0, top_k=5)
    maps = torch.rand(6, 1, 32, 32)
    validate(post_processor, maps, [0, 0, 0, 1, 1, 1])
    exported = post_processor(InferenceBatch(anomaly_map=maps))
    batch = ImageBatch(image=torch.zeros(6, 3, 32, 32), anomaly_map=maps.clone())
    post_processor.on_test_batch_end(None, None, batch)
    assert torch.equal(exported.pred_score, batch.pred_score)
    assert torch.equal(exported.anomaly_map.squeeze(), batch.anomaly_map.squeeze())
    assert torch.equal(exported.pred_mask.squeeze(), batch.pred_mask.squeeze())
    assert torch.equal(exported.pred_label, batch.pred_label)


def test_normalisation_puts_the_threshold_at_half_and_keeps_all_ranks() -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    maps = torch.randperm(1024, generator=torch.Generator().manual_seed(0)).reshape(4, 1, 16, 16) / 10_000
    maps[2:, :, :, :8] += 2  # a threshold near the top: Anomalib's own normalisation makes the background 0 everywhere
    validate(post_processor, maps, [0, 0, 1, 1])
    threshold = float(post_processor.pixel_threshold)
    maps[0, 0, 0, :4] = threshold * torch.tensor([0.5, 1.0, 2.0, 100.0])
    normalised = post_processor(InferenceBatch(anomaly_map=maps)).anomaly_map
    assert normalised[0, 0, 0, :4].tolist() == pytest.approx([0.2, 0.5, 0.8, 0.9999], abs=1e-5)
    assert torch.equal(normalised.flatten().argsort(stable=True), maps.flatten().argsort(stable=True))
    assert len(normalised.unique()) == len(maps.unique())
    assert 0 <= normalised.min() < normalised.max() <= 1


@pytest.mark.parametrize("sensitivity", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_verdicts_on_raw_scores_are_those_on_normalised_ones(sensitivity: float) -> None:
    maps = 3 * torch.rand(8, 1, 16, 16) * torch.arange(1, 9)[:, None, None, None]
    settings = {"sigma": 0, "image_sensitivity": sensitivity, "pixel_sensitivity": sensitivity}
    verdicts = []
    for normalised in (True, False):
        post_processor = DistillationPostProcessor(enable_normalization=normalised, **settings)
        validate(post_processor, maps, [0, 0, 0, 1, 0, 1, 1, 1])
        found = post_processor(InferenceBatch(anomaly_map=maps.clone()))
        assert torch.equal(found.anomaly_map, maps) != normalised
        verdicts.append(found)
    assert torch.equal(verdicts[0].pred_label, verdicts[1].pred_label)
    assert torch.equal(verdicts[0].pred_mask, verdicts[1].pred_mask)


def test_without_a_threshold_nothing_exceeds_raw_scores() -> None:
    post_processor = DistillationPostProcessor(sigma=0, enable_normalization=False)
    assert not post_processor(InferenceBatch(anomaly_map=100 * torch.rand(2, 1, 8, 8))).pred_label.any()


def test_without_a_threshold_scores_rank_and_nothing_is_labelled() -> None:
    maps = torch.randperm(512).reshape(2, 1, 16, 16) / 170  # far enough apart to keep their order when rounded
    predictions = DistillationPostProcessor(sigma=0, image_sensitivity=0.9)(InferenceBatch(anomaly_map=maps))
    assert 0 <= predictions.anomaly_map.min() < predictions.anomaly_map.max() <= 1
    assert torch.equal(predictions.anomaly_map.flatten().argsort(), maps.flatten().argsort())
    assert predictions.pred_label.dtype == torch.bool
    assert not predictions.pred_label.any()
    assert not predictions.pred_mask.any()


def test_a_map_that_is_not_a_number_does_not_pass_as_good(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    maps = torch.rand(4, 1, 8, 8)
    maps[2:] += 2
    validate(post_processor, maps, [0, 0, 1, 1])
    maps[0, 0, 3, 3], maps[1, 0, 3, 3] = torch.nan, torch.inf
    predictions = post_processor(InferenceBatch(anomaly_map=maps))
    assert predictions.pred_score[:2].tolist() == [1, 1]
    assert predictions.anomaly_map.isfinite().all()
    assert predictions.pred_label.all()
    batch = ImageBatch(image=torch.zeros(4, 3, 8, 8), anomaly_map=maps.clone(), image_path=list("abcd"))
    post_processor.on_predict_batch_end(None, None, batch)
    assert "not finite" in caplog.text


def test_a_raw_map_that_is_not_a_number_does_not_pass_as_good() -> None:
    post_processor = DistillationPostProcessor(sigma=1, enable_normalization=False)
    maps = torch.rand(4, 1, 16, 16)
    maps[2:] += 2
    validate(post_processor, maps, [0, 0, 1, 1])
    assert post_processor(InferenceBatch(anomaly_map=maps)).pred_label.flatten().tolist() == [False, False, True, True]
    maps[0, 0, 3, 3] = torch.nan
    predictions = post_processor(InferenceBatch(anomaly_map=maps))
    assert predictions.pred_score.isinf().tolist() == [True, False, False, False]
    batch = ImageBatch(image=torch.zeros(4, 3, 16, 16), anomaly_map=maps.clone(), image_path=list("abcd"))
    post_processor.on_predict_batch_end(None, None, batch)
    for found in (predictions, batch):
        assert found.pred_label.flatten().tolist() == [True, False, True, True]
        assert found.pred_mask[0].flatten()[3 * 16 + 3]


def test_a_score_that_is_not_a_number_is_left_out_of_the_thresholds(caplog: pytest.LogCaptureFixture) -> None:
    post_processor, expected = DistillationPostProcessor(sigma=0), DistillationPostProcessor(sigma=0)
    maps = torch.rand(20, 1, 8, 8)
    maps[10:] += 2
    labels = [0] * 10 + [1] * 10
    validate(expected, maps, labels)
    assert not caplog.records
    broken = torch.cat([maps, torch.full((1, 1, 8, 8), torch.nan)])
    validate(post_processor, broken, [*labels, 0])
    assert "1 validation images are left out" in caplog.text
    for name in ("_image_threshold", "_pixel_threshold"):
        value = expected.get_buffer(name)
        assert value.isfinite()
        assert torch.equal(post_processor.get_buffer(name), value)
    validate(post_processor, broken[-1:], [0])  # no image is left
    assert post_processor.image_threshold.isnan()
    assert not post_processor(InferenceBatch(anomaly_map=maps)).pred_label.any()


def test_normalisation_of_maps_that_are_zero() -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    maps = torch.zeros(2, 1, 8, 8)
    validate(post_processor, maps, [0, 1])
    predictions = post_processor(InferenceBatch(anomaly_map=maps))
    assert not predictions.anomaly_map.any()
    assert not predictions.pred_label.any()


def test_settings_survive_a_checkpoint() -> None:
    saved = DistillationPostProcessor(sigma=1.0, top_k=9, normal_quantile=0.9, image_sensitivity=0.7)
    restored = DistillationPostProcessor()
    restored.load_checkpoint_config(saved.checkpoint_config())
    assert (restored.sigma, restored.top_k, restored.normal_quantile, restored.image_sensitivity) == (1.0, 9, 0.9, 0.7)


def test_thresholds_from_normal_images_alone(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = DistillationPostProcessor(sigma=0, top_k=3, normal_quantile=0.75)
    maps = torch.rand(40, 1, 16, 16)
    validate(post_processor, maps, [0] * 40)
    validate(post_processor, maps, [0] * 40)
    pixels = np.sort(maps.numpy().reshape(40, -1), axis=1)
    assert float(post_processor.image_threshold) == pytest.approx(np.quantile(pixels[:, -3:].mean(1), 0.75), abs=1e-5)
    assert float(post_processor.pixel_threshold) == pytest.approx(np.quantile(pixels[:, -1], 0.75), abs=1e-5)
    assert len(caplog.records) == 1  # once a run, and Anomalib's own warning speaks of another threshold
    assert "its 40 normal images. Expect about 26 %" in caplog.text
    assert "rough guess" not in caplog.text
    predictions = post_processor(InferenceBatch(anomaly_map=maps))
    assert int(predictions.pred_label.sum()) == 10


def test_few_normal_images_promise_little(caplog: pytest.LogCaptureFixture) -> None:
    validate(DistillationPostProcessor(sigma=0), torch.rand(9, 1, 8, 8), [0] * 9)
    assert "its 9 normal images. Expect about 12 %" in caplog.text  # 2 % would need 50 images
    assert "a rough guess, 9 images are few" in caplog.text


def test_thresholds_lie_between_the_scores_that_they_separate(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    maps = torch.rand(4, 1, 16, 16)
    maps[2:, :, :, :8] += 2
    with caplog.at_level(logging.INFO):
        validate(post_processor, maps, [0, 0, 1, 1])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "few validation images, only 2 of one kind" in caplog.text
    scores = maps.flatten(1).amax(1)
    middle = (scores[:2].max() + scores[2:].min()) / 2
    assert float(post_processor.image_threshold) == pytest.approx(float(middle))
    anomalous = torch.zeros_like(maps, dtype=torch.bool)
    anomalous[2:, :, :, :8] = True
    middle = (maps[~anomalous].max() + maps[anomalous].min()) / 2
    assert float(post_processor.pixel_threshold) == pytest.approx(float(middle))
    predictions = post_processor(InferenceBatch(anomaly_map=maps))
    assert predictions.pred_label.tolist() == [False, False, True, True]  # also the weakest anomaly
    assert torch.equal(predictions.pred_mask, anomalous)


def test_anomalies_alone_are_all_found(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    maps = torch.rand(3, 1, 8, 8) + 1
    validate(post_processor, maps, [1, 1, 1])
    assert "holds no good images (3 anomalous ones)" in caplog.text
    assert post_processor(InferenceBatch(anomaly_map=maps)).pred_label.all()


def test_without_masks_pixels_take_the_image_threshold_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    maps = torch.rand(4, 1, 8, 8)
    maps[2:] += 2
    batch = ImageBatch(image=torch.zeros(4, 3, 8, 8), anomaly_map=maps, gt_label=torch.tensor([0, 0, 1, 1]))
    with caplog.at_level(logging.INFO):
        post_processor.on_validation_epoch_start(None, None)
        post_processor.on_validation_batch_end(None, None, batch)
        post_processor.on_validation_epoch_end(SimpleNamespace(sanity_checking=False), None)
    assert float(post_processor.pixel_threshold) == float(post_processor.image_threshold)
    assert "no masks" in caplog.text


@pytest.mark.parametrize(
    "setting", [{"sigma": -1.0}, {"sigma": np.nan}, {"top_k": 0}, {"top_k": 1.5}, {"normal_quantile": 0.0}]
)
def test_bad_settings(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="sigma must be at least 0, top_k a whole number from 1"):
        DistillationPostProcessor(**setting)


@pytest.mark.parametrize(("setting", "message"), [({"sigma": 40.0}, "sigma=40.0"), ({"top_k": 5000}, "top_k=5000")])
def test_settings_that_do_not_fit_the_map(setting: dict[str, float], message: str) -> None:
    post_processor = DistillationPostProcessor(**setting)
    post_processor.check_size((256, 256))
    with pytest.raises(ValueError, match=message):
        post_processor.check_size((64, 64))


def test_the_largest_sigma_that_is_named_works() -> None:
    post_processor = DistillationPostProcessor(sigma=64 / 4 - 0.126)
    post_processor.check_size((64, 64))
    assert post_processor.smooth(torch.rand(1, 1, 64, 64)).shape == (1, 1, 64, 64)


def test_metrics_of_a_validation_rank_scores_above_one() -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    metric = AUROC(["pred_score", "gt_label"])
    for scores in ([0.2, 0.9], [0.3, 1.8]):  # torchmetrics alone has an AUROC of 0.75 here
        batch = ImageBatch(
            image=torch.zeros(2, 3, 4, 4),
            anomaly_map=torch.tensor(scores)[:, None, None, None].expand(2, 1, 4, 4).clone(),
            gt_label=torch.tensor([0, 1]),
        )
        post_processor.on_validation_batch_end(None, None, batch)
        metric.update(batch)
    assert metric.compute() == 1
    post_processor.on_validation_epoch_end(SimpleNamespace(sanity_checking=False), None)
    assert post_processor.image_threshold == pytest.approx(0.6), "thresholds are raw"


@pytest.mark.parametrize("name", ["image_sensitivity", "pixel_sensitivity"])
@pytest.mark.parametrize("value", [60, -0.1])
def test_sensitivities_are_shares(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 1, got {value}"):
        DistillationPostProcessor(**{name: value})

"""Smoothing, score and thresholds, against SciPy and NumPy."""

import logging

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
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
    post_processor.on_validation_epoch_end(None, None)


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
    maps = torch.randperm(1024).reshape(4, 1, 16, 16) / 10_000
    maps[2:, :, :, :8] += 2  # a threshold near the top: Anomalib's own normalisation makes the background 0 everywhere
    validate(post_processor, maps, [0, 0, 1, 1])
    threshold = float(post_processor.pixel_threshold)
    maps[0, 0, 0, :4] = threshold * torch.tensor([0.5, 1.0, 2.0, 100.0])
    normalised = post_processor(InferenceBatch(anomaly_map=maps)).anomaly_map
    assert normalised[0, 0, 0, :4].tolist() == pytest.approx([0.2, 0.5, 0.8, 0.9999], abs=1e-5)
    assert torch.equal(normalised.flatten().argsort(), maps.flatten().argsort())
    assert len(normalised.unique()) == len(maps.unique())
    assert 0 <= normalised.min() < normalised.max() <= 1


def test_scores_that_are_not_validated_stay_raw() -> None:
    maps = 3 * torch.rand(2, 1, 16, 16)
    assert torch.equal(DistillationPostProcessor(sigma=0)(InferenceBatch(anomaly_map=maps)).anomaly_map, maps)


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
    with caplog.at_level(logging.WARNING):
        validate(post_processor, maps, [0] * 40)
    pixels = np.sort(maps.numpy().reshape(40, -1), axis=1)
    assert float(post_processor.image_threshold) == pytest.approx(np.quantile(pixels[:, -3:].mean(1), 0.75), abs=1e-5)
    assert float(post_processor.pixel_threshold) == pytest.approx(np.quantile(pixels[:, -1], 0.75), abs=1e-5)
    assert [record for record in caplog.records if "no anomalies (40 normal images)" in record.getMessage()]
    assert len(caplog.records) == 1  # Anomalib's own warning speaks of another threshold
    predictions = post_processor(InferenceBatch(anomaly_map=maps))
    assert int(predictions.pred_label.sum()) == 10


def test_thresholds_from_anomalies_are_anomalibs(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = DistillationPostProcessor(sigma=0)
    maps = torch.rand(4, 1, 16, 16)
    maps[2:, :, :, :8] += 2
    with caplog.at_level(logging.WARNING):
        validate(post_processor, maps, [0, 0, 1, 1])
    assert not caplog.records
    scores = maps.flatten(1).amax(1)
    assert float(post_processor.image_threshold) == float(scores[2:].min())  # the best F1 of separable scores
    assert not post_processor(InferenceBatch(anomaly_map=maps)).pred_label[:2].any()


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

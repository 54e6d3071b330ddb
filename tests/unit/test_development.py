"""The protocol by which variants are chosen: paired differences, and the rule."""

import development
import numpy as np
import pandas as pd
import pytest
import torch
import variants

import anomalib_dmdd
from anomalib_dmdd.models.components import BottleneckEmbedding, DecoderStudent

METRICS = development.METRICS


def table(gains: dict[str, list[float]], lost: float = 0.0) -> pd.DataFrame:
    """Rows of a default and a variant; the gain in image AUROC of each set and seed is given, pixel AUROC loses."""
    rows = []
    for category, values in gains.items():
        for seed, gain in enumerate(values):
            base = np.random.default_rng(seed).uniform(0.4, 0.6)
            same = {"category": category, "seed": seed, "pixel_AUPRO": 0.8}
            rows.append(same | {"model": "Dmdd", "image_AUROC": base, "pixel_AUROC": 0.9})
            rows.append(same | {"model": "Dmdd new", "image_AUROC": base + gain, "pixel_AUROC": 0.9 - lost})
    return pd.DataFrame(rows)


def test_differences_are_paired_by_set_and_seed() -> None:
    gains = {"a": [0.01, 0.03, 0.02], "b": [0.1, 0.1, 0.1]}
    found = development.differences(table(gains), "Dmdd new")
    assert found.loc["a", "image_AUROC"] == pytest.approx(2.0)
    assert found.loc["mean", "image_AUROC"] == pytest.approx(6.0)
    error = 100 * np.std(gains["a"], ddof=1) / np.sqrt(3)
    assert found.loc["a", "image_AUROC error"] == pytest.approx(error, abs=0.01)
    assert found.loc["mean", "image_AUROC error"] == pytest.approx(error / 2, abs=0.01)


@pytest.mark.parametrize(
    ("gains", "lost", "taken"),
    [
        ({"a": [0.02, 0.03, 0.02], "b": [0.02, 0.02, 0.03]}, 0.0, True),
        ({"a": [0.00, 0.01, -0.01], "b": [0.0, 0.0, 0.01]}, 0.0, False),  # within the error
        ({"a": [0.02, 0.03, 0.02], "b": [0.02, 0.02, 0.03]}, 0.05, False),  # another metric loses
        ({"a": [0.2, 0.2, 0.21], "b": [-0.05, -0.05, -0.051]}, 0.0, False),  # one set loses
    ],
)
def test_the_rule(gains: dict[str, list[float]], lost: float, taken: bool) -> None:
    assert development.is_taken(development.differences(table(gains, lost), "Dmdd new")) is taken


def test_a_model_that_counts_epochs_trains_as_long_as_the_others() -> None:
    by_steps, by_epochs = development.models(["Padim", "Supersimplenet"], [], steps=400, good_images=300)
    assert by_steps["trainer"]["max_steps"] == 400
    assert "max_steps" not in by_epochs["trainer"]
    assert by_epochs["trainer"]["max_epochs"] * 19 == pytest.approx(400, abs=19 / 2)  # 300 images are 19 batches of 16


def test_a_variant_is_run_beside_its_default_once() -> None:
    entries = development.models(["Padim"], ["Dmdd without dropout", "Dmdd with flat loss"], 400, 300)
    assert [entry["label"] for entry in entries] == ["Dmdd", "Dmdd without dropout", "Dmdd with flat loss"]


def test_a_variant_may_change_the_precision() -> None:
    default, single = development.models([], ["Bikd in single precision"], 400, 300)
    assert (default["trainer"]["precision"], single["trainer"]["precision"]) == ("bf16-mixed", "32-true")
    assert single["trainer"]["max_steps"] == 400


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_a_variant_differs_from_its_default_in_what_its_name_says(name: str) -> None:
    cls = getattr(variants, variants.VARIANTS[name]["class_path"].rpartition(".")[2])
    settings = variants.VARIANTS[name].get("init_args", {})
    model = cls(pre_trained=False, **settings)
    (embedding,) = (module for module in model.modules() if isinstance(module, BottleneckEmbedding))
    default = 0.2 if name.startswith("Dmdd") else 0.0
    assert (embedding.dropout.p != default) == ("dropout" in name)
    assert (model.augmentation is None) == ("without augmentation" in name)
    if model.augmentation is not None:
        assert (model.augmentation.degrees == 10) == ("stronger" in name)
        more = "stronger augmentation" in name or "more light" in name
        light = 0.2 if more else 0.05 if "less light" in name else 0.1
        assert model.augmentation.brightness == light
        assert (model.augmentation.padding_mode == "reflection") == ("reflected" in name)
        assert (model.augmentation.interpolation == "bicubic") == ("bicubic" in name)
        transforms = model.augmentation._transforms(torch.zeros(64, 3, 8, 8))
        still = (transforms == torch.eye(2, 3)).all(dim=(1, 2)).sum()
        assert 16 < still < 48 if "half of the images" in name else still == 0
    usual = 1 if name.startswith("Bikd") else 2
    small = "small student" in name
    assert (len(embedding.compress) != usual) == ("compressing block" in name or (small and usual > 1))
    (decoder,) = (module for module in model.modules() if isinstance(module, DecoderStudent))
    assert len(decoder.stages[0]) == (1 if small or "shallow" in name or name.startswith("Dskd") else 2)
    assert ("mobilenetv2" in model.hparams["backbone"]) == ("MobileNetV2" in name)
    assert isinstance(model, getattr(anomalib_dmdd, name.split(maxsplit=1)[0]))
    assert hasattr(model, "_change") == isinstance(model, variants._Changed), "else nothing changes"
    own_class = isinstance(model, variants._Augmented | variants._Rated) or not (settings or "precision" in name)
    assert (type(model).__module__ == "variants") == own_class
    assert ("configure_optimizers" in vars(type(model)) and own_class) == ("weight decay" in name)
    assert getattr(model, "factor", 1) == (2 if "twice the rate" in name else 0.4 if "0.4 of the rate" in name else 1)

"""The protocol by which variants are chosen: paired differences, and the rule."""

import development
import numpy as np
import pandas as pd
import pytest
import torch
import variants
from anomalib.models import AnomalibModule

import anomalib_dmdd

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


def described(model: AnomalibModule) -> dict[str, object]:
    """Everything by which a variant can differ from its default."""
    network = model.model
    parts = {name: type(part) for name, part in model.named_modules() if name}
    weights = {name: (tuple(value.shape), value.double().sum().item()) for name, value in network.state_dict().items()}
    hooks = sum(len(part._forward_pre_hooks) for part in network.modules())
    numbers = [{key: n for key, n in vars(part).items() if isinstance(n, float)} for part in model.modules()]
    methods = [getattr(type(model), name) for name in ("training_step", "configure_optimizers")]
    return {
        "parts": parts,
        "weights": weights,
        "hooks": hooks,
        "numbers": numbers,
        "methods": methods,
    }


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_a_variant_differs_from_its_default(name: str) -> None:
    models = []
    for entry in development.models([], [name], 400, 300):
        cls = getattr(variants, entry["class_path"].rpartition(".")[2])
        torch.manual_seed(0)
        models.append((entry["trainer"], described(cls(pre_trained=False, **entry["init_args"]))))
        assert issubclass(cls, getattr(anomalib_dmdd, name.split(maxsplit=1)[0]))
    default, variant = models
    assert default != variant


def test_a_change_that_changes_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "without_dropout", lambda _: None)
    with pytest.raises(AssertionError):
        test_a_variant_differs_from_its_default("Dmdd without dropout")

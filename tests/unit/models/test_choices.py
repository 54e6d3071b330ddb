"""Modes are checked when a model is built, also from Python."""

from typing import Any

import pytest

from anomalib_dmdd import Dmdd, Dskd


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (Dmdd, {"anomaly_map_mode": "bogus"}),
        (Dskd, {"anomaly_map_mode": "bogus"}),
        (Dskd, {"embedding_input": "bogus"}),
    ],
)
def test_an_unknown_mode_is_refused(model: type, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(settings))}: 'bogus' is not one of"):
        model(backbone="resnet18", pre_trained=False, **settings)

r"""End to end on tiny models of every backend: families of each kind are fitted, saved, loaded and updated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapts import Adapter, load_foundation_model
from adapts.foundation import FoundationModel
from adapts.foundation.backends import backend_module, missing_packages
from adapts.registry import FOUNDATION_MODELS

H, L = 8, 48
#: A family with a closed form, one whose encoder is trained through the model, and one trained behind it.
FAMILIES = ("residual", "linear", "attention")


def of(backend: str, tiny: str, **options: Any) -> FoundationModel:
    r"""The tiny model of a backend, at the sizes of the tests."""
    from adapts.testing import tiny_models

    class_name = next(name for name in backend_module(backend).__all__ if name[0].isupper())
    return getattr(backend_module(backend), class_name)(getattr(tiny_models, tiny)(), name=backend, **options)


def core(function: str, *arguments: Any) -> FoundationModel:
    r"""The tiny model of a package that adapts installs, or that comes with its own weights."""
    from adapts.testing import tiny

    return load_foundation_model(getattr(tiny, function)(*arguments))


def live(function: str) -> FoundationModel:
    r"""The tiny model of a package with an environment of its own, as a user would pass it."""
    from adapts.testing import tiny_separate

    return load_foundation_model(getattr(tiny_separate, function)())


def seasonal_naive() -> FoundationModel:
    r"""A predictor of gluonts, whose forecast is a point."""
    from gluonts.model.seasonal_naive import SeasonalNaivePredictor

    return load_foundation_model(SeasonalNaivePredictor(prediction_length=H, season_length=12))


def theta() -> FoundationModel:
    r"""Theta of statsforecast, for the length of the tests only."""
    model = load_foundation_model("theta")
    model.prediction_length = H
    return model


#: The tiny model of each backend.
MODELS: dict[str, Callable[[], FoundationModel]] = {
    "chronos-2": lambda: core("tiny_chronos_2"),
    "chronos-t5": lambda: core("tiny_chronos_t5"),
    "flowstate": lambda: live("tiny_flowstate"),
    "fracast": lambda: core("tiny_fracast"),
    "gluonts": seasonal_naive,
    "moirai-1": lambda: live("tiny_moirai1"),
    "moirai-2": lambda: live("tiny_moirai2"),
    "moment": lambda: live("tiny_moment"),
    "nanoforecast": lambda: of("nanoforecast", "tiny_nanoforecast"),
    "patchtsmixer": lambda: core("tiny_patchtsmixer"),
    "patchtst-fm": lambda: live("tiny_patchtst_fm"),
    "statsforecast": theta,
    "t0": lambda: of("t0", "tiny_t0", context_length=64, prediction_length=16),
    "timesfm": lambda: core("tiny_timesfm"),
    "timesfm-2.0": lambda: core("tiny_timesfm", "2.0"),
    "timesfm-3": lambda: of("timesfm-3", "tiny_timesfm3", context_length=64, prediction_length=16),
    "tirex": lambda: live("tiny_tirex"),
    "tirex-2": lambda: of("tirex-2", "tiny_tirex2"),
    "toto-2": lambda: of("toto-2", "tiny_toto2", context_length=64, prediction_length=16),
    "ttm": lambda: live("tiny_ttm"),
    "yug": lambda: of("yug", "tiny_yug", context_length=64),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> FoundationModel:
    backend = FOUNDATION_MODELS[request.param.removesuffix("-2.0")]  # of which timesfm has two architectures
    if missing := missing_packages(backend):
        pytest.skip(f"{request.param} needs {', '.join(missing)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")  # TiRex-2 compiles two blocks where it is imported
        return MODELS[request.param]()


def series(rows: int) -> pd.DataFrame:
    r"""Two channels with a season of 12 steps and noise."""
    noise = np.random.default_rng(0).standard_normal((1000, 2))
    values = np.sin(2 * np.pi * np.arange(1000)[:, None] / 12 + np.array([0.0, 1.0])) + 0.3 * noise
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=1000, freq="h"), ["a", "b"])[:rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_fit_predict_save_load_update(model: FoundationModel, tmp_path: Path, family: str) -> None:
    adapter = Adapter(
        family, foundation_model=model, prediction_length=H, context_length=L, max_windows=30, gate=False,
        trainer_options={"max_epochs": 2, "enable_progress_bar": False},
    )  # fmt: skip
    if family == "linear" and not model.differentiable:
        with pytest.raises(ValueError, match=f"'linear' trains an encoder, .* {model.name} has none: choose one of"):
            adapter.fit(series(980))
        return
    weights = model.fingerprint()
    adapter.fit(series(980))
    if family == "linear":  # the gradient reached the encoder
        assert not torch.allclose(adapter.fitted_.module.encoder, torch.eye(2), atol=1e-4)
    forecast = adapter.predict()
    assert np.isfinite(forecast.samples).all()
    assert forecast.index[0] == series(1000).index[980]
    assert model.fingerprint() == weights

    adapter.save(tmp_path / "run")
    loaded = Adapter.load(tmp_path / "run", foundation_model=model)
    assert np.array_equal(loaded.predict().samples, forecast.samples)

    loaded.update(series(1000)[980:])
    later = loaded.predict()
    assert later.index[0] == series(1000).index[-1] + pd.Timedelta(hours=1)
    assert np.isfinite(later.samples).all()

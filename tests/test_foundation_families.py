r"""End to end on tiny models of every backend: families of each kind are fitted, saved, loaded and updated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adapts import Adapter
from adapts.foundation import FoundationModel, load_foundation_model
from adapts.foundation.backends import missing_packages
from adapts.registry import FOUNDATION_MODELS
from adapts.testing import tiny

H, L = 8, 48
#: A family with a closed form, one whose encoder is trained through the model, and one trained behind it.
FAMILIES = ("residual", "linear", "attention")


#: The tiny model of each backend.
MODELS: dict[str, Callable[[], FoundationModel]] = {
    "chronos-2": lambda: load_foundation_model(tiny.tiny_chronos_2()),
    "chronos-t5": lambda: load_foundation_model(tiny.tiny_chronos_t5()),
    "fracast": lambda: load_foundation_model(tiny.tiny_fracast()),
    "patchtsmixer": lambda: load_foundation_model(tiny.tiny_patchtsmixer()),
    "timesfm": lambda: load_foundation_model(tiny.tiny_timesfm()),
    "timesfm-2.0": lambda: load_foundation_model(tiny.tiny_timesfm("2.0")),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> FoundationModel:
    backend = FOUNDATION_MODELS.get(request.param)
    if backend is not None and (missing := missing_packages(backend)):
        pytest.skip(f"{request.param} needs {', '.join(missing)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")  # TiRex-2 compiles two blocks where it is imported
        return MODELS[request.param]()


def series(rows: int) -> pd.DataFrame:
    r"""Two channels with a season of 12 steps and noise."""
    noise = np.random.default_rng(0).standard_normal((500, 2))
    values = np.sin(2 * np.pi * np.arange(500)[:, None] / 12 + np.array([0.0, 1.0])) + 0.3 * noise
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=500, freq="h"), ["a", "b"])[:rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_fit_predict_save_load_update(model: FoundationModel, tmp_path: Path, family: str) -> None:
    adapter = Adapter(
        family, foundation_model=model, prediction_length=H, context_length=L, max_windows=20, gate=False,
        trainer_options={"max_epochs": 1, "enable_progress_bar": False},
    )  # fmt: skip
    if family == "linear" and not model.differentiable:
        with pytest.raises(ValueError, match=f"'linear' trains an encoder, .* {model.name} has none: choose one of"):
            adapter.fit(series(480))
        return
    weights = model.fingerprint()
    forecast = adapter.fit(series(480)).predict()
    assert np.isfinite(forecast.samples).all()
    assert forecast.index[0] == series(500).index[480]
    assert model.fingerprint() == weights
    if family == "linear":  # the gradient reached the encoder
        assert not torch.allclose(adapter.fitted_.module.encoder, torch.eye(2), atol=1e-4)

    adapter.save(tmp_path / "run")
    loaded = Adapter.load(tmp_path / "run", foundation_model=model)
    assert np.array_equal(loaded.predict().samples, forecast.samples)

    loaded.update(series(500)[480:])
    later = loaded.predict()
    assert later.index[0] == series(500).index[-1] + pd.Timedelta(hours=1)
    assert np.isfinite(later.samples).all()

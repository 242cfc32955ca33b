r"""Each backend end to end: fit, predict, save, load and update, with a closed form and with trained families."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapts import Adapter, load_foundation_model
from adapts.foundation import FoundationModel

H, CONTEXT, ROWS = 6, 32, 420
FAMILIES: dict[str, dict[str, Any]] = {
    "residual": {},
    "linear": {"trainer_options": {"max_epochs": 2}},
    "attention": {"trainer_options": {"max_epochs": 2}},
}
#: The package that each backend needs, and its tiny model: what `load_foundation_model` takes, or "module:function".
MODELS = {
    "flowstate": ("tsfm_public", "adapts.testing.tiny_separate:tiny_flowstate"),
    "moirai-2": ("uni2ts", "adapts.testing.tiny_separate:tiny_moirai2"),
    "moment": ("momentfm", "adapts.testing.tiny_separate:tiny_moment"),
    "patchtst-fm": ("tsfm_public", "adapts.testing.tiny_separate:tiny_patchtst_fm"),
    "tirex": ("tirex", "adapts.testing.tiny_separate:tiny_tirex"),
    "ttm": ("tsfm_public", "adapts.testing.tiny_separate:tiny_ttm"),
}
#: Models without gradients, which cannot train an encoder.
FORWARD_ONLY = {"tirex"}


def frozen(name: str) -> FoundationModel:
    r"""The tiny model of a backend; the test is skipped where its package is absent."""
    package, source = MODELS[name]
    pytest.importorskip(package, reason=f"{package} is not installed: make test-models")
    module, _, function = source.partition(":")
    make: Callable[[], Any] = getattr(import_module(module), function)
    return load_foundation_model(make())


def series(rows: int = ROWS + H) -> pd.DataFrame:
    r"""Two seasons with a common disturbance, hourly."""
    generator = np.random.default_rng(0)
    season = np.sin(2 * np.pi * np.arange(rows)[:, None] / 12 + np.arange(2))
    common = generator.standard_normal((rows, 1))
    values = season + 0.3 * common + 0.1 * generator.standard_normal((rows, 2))
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"), ["a", "b"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", MODELS)
def test_fit_predict_save_load_and_update(name: str, family: str, tmp_path: Path) -> None:
    model = frozen(name)
    adapter = Adapter(
        family, foundation_model=model, prediction_length=H, context_length=CONTEXT, max_windows=40, gate=False,
        **FAMILIES[family],
    )  # fmt: skip
    if name in FORWARD_ONLY and family == "linear":
        with pytest.raises(ValueError, match="gradient"):
            adapter.fit(series()[:ROWS])
        return
    adapter.fit(series()[:ROWS])
    forecast = adapter.predict(num_samples=20)
    assert forecast.samples.shape == (20, H, 2)
    assert np.isfinite(forecast.samples).all()

    adapter.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved", foundation_model=frozen(name))
    again = loaded.predict(num_samples=20)
    np.testing.assert_array_equal(again.samples, forecast.samples)
    np.testing.assert_array_equal(again.quantile(0.9), forecast.quantile(0.9))

    updated = loaded.update(series()[ROWS:]).predict(num_samples=20)
    assert updated.index[0] == series(ROWS + H + 1).index[-1]
    assert np.isfinite(updated.samples).all()

r"""Theta and AutoETS of statsforecast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from adapts import Adapter, load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance

pytest.importorskip("statsforecast", reason="the extra statsforecast is not installed")

LEVELS = [20, 40, 60, 80]


class TestTheta(FoundationModelConformance):
    #: A seasonal decomposition may be multiplicative, and the optimiser's tolerance is absolute.
    affine_equivariant = False
    #: The optimum of a series of size 1e6 differs by as much from that of the same series in other units.
    tolerance = 2e-2

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        model = load_foundation_model("theta")
        model.context_length, model.prediction_length = 48, 6
        return model


class TestAutoETS(FoundationModelConformance):
    #: Multiplicative components are selected by the location of a series.
    affine_equivariant = False

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        model = load_foundation_model("auto-ets")
        model.context_length, model.prediction_length = 48, 6
        return model


@pytest.mark.parametrize("name", ["Theta", "AutoETS"])
def test_deciles_are_the_ends_of_the_intervals(name: str) -> None:
    import statsforecast.models

    package = getattr(statsforecast.models, name)(season_length=4)
    model, context = load_foundation_model(package), torch.randn(2, 60).cumsum(1)
    quantiles = model(context, 12)
    for row, forecast in zip(context, quantiles, strict=True):
        expected = package.forecast(y=row.double().numpy(), h=256, level=LEVELS)
        for level, key in ((0.1, "lo-80"), (0.4, "lo-20"), (0.5, "mean"), (0.6, "hi-20"), (0.9, "hi-80")):
            actual = forecast[model.quantile_levels.index(level)].double()
            assert_close(actual, torch.from_numpy(np.array(expected[key][:12], float)), rtol=1e-4, atol=1e-4)


def test_a_random_walk_has_the_deciles_of_its_steps() -> None:
    context = torch.randn(20, 512, generator=torch.Generator().manual_seed(0)).cumsum(1)
    quantiles = load_foundation_model("auto-ets")(context, 4)
    widths = (quantiles[:, 8] - quantiles[:, 0]).mean(0)
    expected = 2 * 1.2816 * torch.arange(1.0, 5.0).sqrt()
    assert_close(widths, expected, rtol=0.05, atol=0)


def test_the_season_is_that_of_the_data() -> None:
    season = torch.tensor([0.0, 5.0, 1.0, -4.0])
    context = season.repeat(30)[None] + 0.1 * torch.randn(1, 120) + 20.0
    plain = load_foundation_model("theta")
    seasonal = plain.with_frequency("QS", 4)
    error = (seasonal(context, 8)[0, 4] - season.repeat(2) - 20.0).abs().mean()
    assert error < 0.5
    assert (plain(context, 8)[0, 4] - season.repeat(2) - 20.0).abs().mean() > 2.0
    assert seasonal.fingerprint() == plain.fingerprint()
    import statsforecast.models

    made = load_foundation_model(statsforecast.models.Theta(season_length=7))
    assert made.with_frequency("QS", 4) is made


def test_what_has_no_intervals_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    import statsforecast.models

    with pytest.raises(ValueError, match=r"ADIDA gives no intervals .*AutoETS"):
        load_foundation_model(statsforecast.models.ADIDA())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "statsforecast"}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="statistical models have no checkpoints.*auto-ets, theta"):
        load_foundation_model(tmp_path)


def test_by_name_it_learns_the_season_of_the_data_and_is_found_when_loaded(tmp_path: Path) -> None:
    daily = np.random.default_rng(0).standard_normal(24)
    noise = 0.05 * np.random.default_rng(1).standard_normal((360, 2))
    values = np.tile(daily, 15)[:, None] + noise + np.array([10.0, 20.0])
    series = pd.DataFrame(values, pd.date_range("2024-01-01", periods=360, freq="h"), ["a", "b"])
    adapter = Adapter("identity", foundation_model="theta", prediction_length=6, context_length=96, max_windows=10)
    forecast = adapter.fit(series).predict()
    expected = daily[:6, None] + np.array([10.0, 20.0])
    # without the season the error is the deviation of the season, 1
    assert np.abs(forecast.quantile(0.5) - expected).mean() < 0.2
    adapter.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved").predict()
    np.testing.assert_array_equal(loaded.samples, forecast.samples)

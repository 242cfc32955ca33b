r"""Predictors of gluonts as frozen models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gluonts.model.forecast import SampleForecast
from gluonts.model.npts import NPTSPredictor
from gluonts.model.predictor import RepresentablePredictor
from gluonts.model.seasonal_naive import SeasonalNaivePredictor
from gluonts.torch.model.simple_feedforward import SimpleFeedForwardEstimator
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts._random import seeded
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance


class RandomWalk(RepresentablePredictor):
    r"""Draws paths from NumPy's global generator, with normal steps of the mean size of the series' steps."""

    def predict_item(self, item: Any) -> SampleForecast:
        past = item["target"].astype(float)
        size = np.sqrt(np.square(np.diff(past)).mean()) if len(past) > 1 else 1.0
        steps = size * np.random.normal(size=(4000, self.prediction_length))
        return SampleForecast(past[-1] + steps.cumsum(1), start_date=item["start"] + len(past))


class TestSamples(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        model = load_foundation_model(RandomWalk(prediction_length=6))
        model.context_length = 48
        return model


def test_a_network_is_copied_and_told_apart_by_its_weights() -> None:
    estimator = SimpleFeedForwardEstimator(prediction_length=6, context_length=24, hidden_dimensions=[8])
    with seeded(0):
        module = estimator.create_lightning_module()
    network = estimator.create_predictor(estimator.create_transformation(), module)
    model, context = load_foundation_model(network), torch.randn(2, 60)
    forecast, fingerprint = model(context, 6), model.fingerprint()
    assert forecast.shape == (2, 9, 6)
    with torch.no_grad():
        next(network.prediction_net.parameters()).add_(1.0)
    assert_close(model(context, 6), forecast, rtol=0, atol=0)
    assert model.fingerprint() == fingerprint
    assert load_foundation_model(network).fingerprint()["sha256"] != fingerprint["sha256"]


def test_samples_become_deciles() -> None:
    context = torch.tensor([[4.0, 5.0] * 15])  # steps of 1 and -1
    forecast = load_foundation_model(RandomWalk(prediction_length=6))(context, 6)[0]
    scores = torch.special.ndtri(torch.arange(0.1, 0.95, 0.1))[:, None]
    expected = 5.0 + scores * torch.arange(1.0, 7.0).sqrt()
    assert_close(forecast, expected, rtol=0, atol=0.15)


def test_a_point_forecast_gives_equal_deciles() -> None:
    model = load_foundation_model(SeasonalNaivePredictor(prediction_length=6, season_length=4))
    context = torch.arange(9.0)[None]
    context[0, 7] = torch.nan  # filled with the value before
    expected = torch.tensor([5.0, 6.0, 6.0, 8.0, 5.0, 6.0])
    assert_close(model(context, 6), expected.expand(1, 9, -1))


def test_global_generators_are_left_alone() -> None:
    model = load_foundation_model(NPTSPredictor(prediction_length=4, context_length=30))
    np.random.seed(3)
    expected = np.random.normal()
    np.random.seed(3)
    first = model(torch.randn(2, 40), 4)
    assert np.random.normal() == expected
    assert first.isfinite().all()


def test_the_frequency_is_that_of_the_data() -> None:
    class Months(RandomWalk):
        r"""Forecasts the month of the step after the series."""

        def predict_item(self, item: Any) -> SampleForecast:
            start = item["start"] + len(item["target"])
            return SampleForecast(np.full((2, self.prediction_length), float(start.month)), start_date=start)

    model = load_foundation_model(Months(prediction_length=2))
    context = torch.randn(1, 3)
    assert model(context, 1)[0, 4, 0] == 1.0  # daily from 1 January on
    assert model.with_frequency("M", 12)(context, 1)[0, 4, 0] == 4.0


def test_what_cannot_forecast_one_series_is_refused(tmp_path: Path) -> None:
    class Fails(RandomWalk):
        r"""Needs a feature."""

        def predict_item(self, item: Any) -> SampleForecast:
            return item["feat_static_cat"]

    with pytest.raises(ValueError, match=r"Fails cannot forecast a series .*feat_static_cat.*without features"):
        load_foundation_model(Fails(prediction_length=2))
    with pytest.raises(ValueError, match="has lead_time=3, expected 0"):
        load_foundation_model(RandomWalk(prediction_length=2, lead_time=3))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gluonts"}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"load it with gluonts' Predictor\.deserialize"):
        load_foundation_model(tmp_path)

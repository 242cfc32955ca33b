r"""MOMENT of momentfm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from saved_models import assert_config_is_checked, assert_damage_is_refused, assert_round_trip, standardised
from torch.testing import assert_close

from adapts import Adapter, load_foundation_model
from adapts.foundation import FoundationModel
from adapts.foundation.heads import LEVELS, QuantileHead
from adapts.testing import FoundationModelConformance
from adapts.testing.tiny_separate import tiny_moment

pytest.importorskip("momentfm", reason="momentfm has an environment of its own: make test-models")


class TestMoment(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        model = load_foundation_model(tiny_moment())
        head = model.untrained_head()
        assert isinstance(head, QuantileHead)
        torch.nn.init.normal_(head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        return model


def test_untrained_it_forecasts_a_normal_distribution() -> None:
    context = 3.0 * torch.randn(2, 64) + 5.0
    scores = torch.special.ndtri(torch.tensor(LEVELS))[:, None]
    expected = context.mean(1)[:, None, None] + context.std(1, correction=0)[:, None, None] * scores
    assert_close(load_foundation_model(tiny_moment())(context, 16), expected.expand(-1, -1, 16))


def test_with_the_head_of_the_package_it_has_its_forecasts() -> None:
    package = tiny_moment().eval()
    head, levels = package.head.linear, len(LEVELS)
    model = load_foundation_model(package).with_head(
        {"weight": head.weight.repeat(levels, 1), "bias": head.bias.repeat(levels)}
    )
    context = standardised(torch.randn(3, 64))
    with torch.no_grad():
        expected = package.forecast(x_enc=context.unsqueeze(1), input_mask=torch.ones(3, 64)).forecast
    # the package adds 1e-5 to the standard deviation
    assert_close(model(context, 16), expected.expand(-1, levels, -1), rtol=0, atol=1e-4)


def test_the_head_is_trained_first_and_saved_with_the_adapter(tmp_path: Path) -> None:
    time = np.arange(800.0)[:, None]
    noise = np.random.default_rng(0).standard_normal((800, 2))
    series = np.sin(2 * np.pi * time / 12 + np.arange(2.0)) + 0.1 * noise
    model = load_foundation_model(tiny_moment(prediction_length=8))
    adapter = Adapter("identity", foundation_model=model, prediction_length=8, context_length=64, max_windows=300)
    adapter.fit(series)
    forecast = adapter.predict()
    future = np.sin(2 * np.pi * np.arange(800.0, 808.0)[:, None] / 12 + np.arange(2.0))
    # the untrained head forecasts the mean of the window, whose error is the deviation of a sine, .7
    assert np.abs(forecast.quantile(0.5) - future).mean() < 0.3
    adapter.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved", foundation_model=load_foundation_model(tiny_moment(prediction_length=8)))
    np.testing.assert_array_equal(loaded.predict().samples, forecast.samples)


def test_checkpoints(tmp_path: Path) -> None:
    loaded = assert_round_trip(tiny_moment(), tmp_path / "moment", head="head.")
    assert loaded.prediction_length == 96
    assert loaded.untrained_head() is not None
    assert_damage_is_refused(tiny_moment(), tmp_path / "damaged", "patch_embedding.value_embedding.weight")
    assert_config_is_checked(tiny_moment(), tmp_path / "foreign", "transformer_type", "encoder_decoder")

r"""Nothing is forecast twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor

import adapts
from adapts import Adapter
from adapts.foundation import FoundationModel, load_foundation_model
from adapts.foundation.cache import LEAST, ForecastCache, cached_forecasts, current_cache
from adapts.testing.tiny import tiny_chronos_bolt


class Counting(SeasonalModel):
    r"""Counts in how many calls each series was forecast."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[bytes] = Counter()

    def _predict_any(self, context: Tensor, prediction_length: int) -> Tensor:
        self.calls.update({row.tobytes() + bytes([prediction_length]) for row in context.numpy()})
        return super()._predict_any(context, prediction_length)


def tiny(seed: int = 0) -> FoundationModel:
    return load_foundation_model(tiny_chronos_bolt(seed=seed))


@pytest.fixture
def model() -> Counting:
    return Counting()


def series(rows: int = 700) -> np.ndarray:
    time = np.arange(rows)[:, None]
    shared = np.random.default_rng(0).standard_normal((rows, 1)).cumsum(0)
    own = np.random.default_rng(1).standard_normal((rows, 3))
    return np.sin(2 * np.pi * time / 12 + np.arange(3)) + 0.1 * shared + 0.3 * own


def adapter(family: str, model: FoundationModel, **options: Any) -> Adapter:
    options = {"prediction_length": 6, "context_length": 48, "max_windows": 150, **options}
    return Adapter(family, foundation_model=model, **options)


def test_a_fit_forecasts_no_series_twice(model: Counting) -> None:
    frame = pd.DataFrame(series(), columns=list("abc")).assign(d=series()[:, 0] ** 2)
    adapter("residual", model).fit(frame, target=["a", "b"], past_covariates=["c"], known_covariates=["d"])
    assert len(model.calls) > 100
    assert set(model.calls.values()) == {1}


def test_a_backtest_of_several_families_forecasts_no_series_twice(model: Counting) -> None:
    one = adapter("residual", model)
    one.backtest(series(), models={"linear": adapter("pca", model), "alone": adapter("identity", model)}, windows=5)
    assert len(model.calls) > 100
    assert set(model.calls.values()) == {1}


def test_a_search_forecasts_no_series_twice(model: Counting) -> None:
    pytest.importorskip("optuna")
    adapts.tune(adapter("pca", model), series(), {"family__latent_channels": [2, 3]}, trials=2)
    assert len(model.calls) > 100
    assert set(model.calls.values()) == {1}


def test_forecasts_are_those_without_a_cache() -> None:
    model, context = tiny(), torch.randn(40, 64).cumsum(1)
    plain = model.predict(context, 8)
    with cached_forecasts() as cache:
        some = model.predict(context[:25], 8)
        whole, again, longer = model.predict(context, 8), model.predict(context[::3], 8), model.predict(context, 9)
        assert current_cache() is cache
    assert current_cache() is None
    torch.testing.assert_close(some, plain[:25], rtol=0, atol=1e-6)
    torch.testing.assert_close(whole, plain, rtol=0, atol=1e-6)
    assert torch.equal(whole[:25], some)
    assert torch.equal(again, whole[::3])
    assert longer.shape == (40, 9, 9)


def test_few_missing_series_are_forecast_as_many_as_a_batch_takes() -> None:
    sizes = []

    def compute(context: Tensor) -> Tensor:
        sizes.append(len(context))
        return context.unsqueeze(1)

    model, cache, context = tiny(), ForecastCache(), torch.randn(20, 4)
    cache.predict(model, context[:18], 4, compute)
    assert torch.equal(cache.predict(model, context, 4, compute), context.unsqueeze(1))
    assert torch.equal(cache.predict(model, context[:3], 4, compute), context[:3].unsqueeze(1))
    assert sizes == [18, LEAST]


def test_a_context_of_one_step() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 2)).cumsum(0)
    adapter = Adapter("identity", prediction_length=6, context_length=1, max_windows=50)
    assert np.isfinite(adapter.fit(rows).predict().samples).all()


def test_other_weights_are_another_model() -> None:
    context = torch.randn(12, 64)
    one, other = tiny(0), tiny(1)
    with cached_forecasts():
        assert not torch.equal(one.predict(context, 8), other.predict(context, 8))


def test_the_oldest_forecasts_go_first() -> None:
    calls = []

    def compute(context: Tensor) -> Tensor:
        calls.append(context[:, 0].tolist())
        return context.unsqueeze(1)

    model, context = tiny(), torch.arange(12.0).unsqueeze(1)
    cache = ForecastCache(budget=10 * 4)
    cache.predict(model, context, 1, compute)
    assert cache.bytes == 40
    cache.predict(model, context[2:], 1, compute)
    cache.predict(model, context[:2], 1, compute)
    assert calls[1:] == [[0.0, 1.0]]

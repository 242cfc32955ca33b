r"""Forecasts follow the unit of the data, and constant channels go on as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generated.fits import QUICK, small, tiny

MODEL = tiny()
EXPONENTS = st.integers(-120, 120)  # powers of ten
FAMILIES = st.sampled_from(QUICK)


def series(seed: int, channels: int = 2, rows: int = 60) -> np.ndarray:
    r"""Channels that share a season, with noise."""
    time, rng = np.arange(rows)[:, None], np.random.default_rng(seed)
    return 3 + np.sin(time / 3 + np.arange(channels)) + 0.3 * rng.normal(size=(rows, channels))


def quantiles(family: str, values: np.ndarray) -> np.ndarray:
    r"""The forecast's quantiles, with shape (H, D, Q)."""
    return small(MODEL, family).fit(values).predict(num_samples=10).quantile([0.05, 0.5, 0.95])


@settings(max_examples=max(1, settings.default.max_examples // 10))
@given(exponent=EXPONENTS, family=FAMILIES, seed=st.integers(0, 99))
def test_a_series_in_another_unit_has_the_forecast_in_that_unit(exponent: int, family: str, seed: int) -> None:
    values, unit = series(seed), 10.0**exponent
    one, other = quantiles(family, values), quantiles(family, values * unit) / unit
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * values.std(0).max())


@settings(max_examples=max(1, settings.default.max_examples // 10))
@given(exponents=st.lists(EXPONENTS, min_size=2, max_size=2), seed=st.integers(0, 99))
def test_channels_in_other_units_have_their_forecasts_in_these(exponents: list[int], seed: int) -> None:
    values, units = series(seed), 10.0 ** np.array(exponents)
    one, other = quantiles("residual", values), quantiles("residual", values * units) / units[:, None]
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * values.std(0).max())


@settings(max_examples=max(1, settings.default.max_examples // 10))
@given(exponent=EXPONENTS, digits=st.floats(-9.9, 9.9), family=FAMILIES, beside=st.booleans())
def test_a_constant_channel_goes_on_with_no_width(exponent: int, digits: float, family: str, beside: bool) -> None:
    level = (digits if abs(digits) > 1e-3 else 0.0) * 10.0**exponent
    constant = np.full((60, 1), level)
    values = np.hstack([constant, series(0)]) if beside else constant
    forecast = small(MODEL, family).fit(values).predict(num_samples=10)
    np.testing.assert_array_equal(forecast.quantile([0.01, 0.5, 0.99])[:, 0], np.full((3, 3), level))
    np.testing.assert_array_equal(forecast.mean[:, 0], level)
    np.testing.assert_array_equal(forecast.samples[..., 0], level)


@pytest.mark.parametrize("exponent", [-150, -130, 130, 150])
def test_sizes_at_the_edge_of_what_is_read_are_forecast_to_scale(exponent: int) -> None:
    values, unit = series(0), 10.0**exponent
    one, other = quantiles("residual", values), quantiles("residual", values * unit) / unit
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * values.std(0).max())

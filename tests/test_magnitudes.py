r"""Numbers of any size: forecasts move with the units, constants stay exact, and what is beyond is refused."""

import numpy as np
import pandas as pd
import pytest

from adapts import Adapter
from adapts.data.scaling import location_scale
from adapts.testing.tiny import tiny_chronos_bolt

FAMILIES = ("residual", "identity", "linear", "vae", "bayesian", "projection", "autoencoder")


def adapter(family: str = "residual", **options: object) -> Adapter:
    gradient = family in ("linear", "vae", "autoencoder")
    training = {"trainer_options": {"max_epochs": 1, "enable_progress_bar": False}} if gradient else {}
    return Adapter(
        family, foundation_model=tiny_chronos_bolt(), prediction_length=4, context_length=32, max_windows=40,
        **training, **options,
    )  # fmt: skip


def series(channels: int = 2, rows: int = 200) -> np.ndarray:
    time = np.arange(rows)[:, None]
    return np.sin(time / 4 + np.arange(channels)) + 0.3 * np.random.default_rng(0).standard_normal((rows, channels)) + 3


@pytest.mark.parametrize("size", [1e-150, 1e-12, 1e150])
@pytest.mark.parametrize("family", ["residual", "vae"])
def test_a_forecast_moves_with_the_units(family: str, size: float) -> None:
    expected = adapter(family).fit(series()).predict()
    found = adapter(family).fit(series() * size).predict()
    for level in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(found.quantile(level) / size, expected.quantile(level), rtol=1e-4)
    np.testing.assert_allclose(found.samples / size, expected.samples, rtol=1e-4)


def test_channels_of_very_different_sizes_are_each_forecast_as_if_alone() -> None:
    sizes = np.array([1e-150, 1.0, 1e150])
    expected = adapter("identity").fit(series(3)).predict().mean
    np.testing.assert_allclose(adapter("identity").fit(series(3) * sizes).predict().mean / sizes, expected, rtol=1e-5)


def test_units_hold_where_squares_would_vanish_or_overflow() -> None:
    rows = series()
    location, scale = location_scale(rows)
    for size in (2.0**-1000, 2.0**900):
        found = location_scale(rows * size)
        np.testing.assert_array_equal(found[0], location * size)
        np.testing.assert_array_equal(found[1], scale * size)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_constant_channel_is_forecast_as_exactly_its_constant(family: str) -> None:
    constants = np.array([0.0, 0.1, -5.0, 1e-9, 1e-140, 3e140])
    values = np.hstack([series(2), np.broadcast_to(constants, (200, 6))])
    values[::7, 3:] = np.nan
    forecast = adapter(family).fit(values).predict()
    for found in (forecast.mean, forecast.quantile(0.05), forecast.quantile(0.95), forecast.samples):
        assert (found[..., 2:] == constants).all()
    assert (np.var(forecast.samples, axis=0)[:, :2] > 0).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.7, 1e5, -1e-12])
def test_a_series_that_stands_still_is_forecast_as_its_value_whatever_was_fitted(constant: float) -> None:
    fitted = adapter("identity").fit(series())
    forecast = fitted.predict(np.full((100, 2), constant))
    assert (forecast.samples == constant).all() and (forecast.mean == constant).all()


def test_a_constant_channel_stays_exact_when_saved_and_follows_a_series_that_varies(tmp_path) -> None:
    values = series(2)
    values[:, 1] = 0.1
    fitted = adapter("linear").fit(values)
    fitted.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved", foundation_model=tiny_chronos_bolt())
    assert (loaded.predict().samples[..., 1] == 0.1).all()
    assert (loaded.predict(values * [1, 70]).mean[:, 1] == values[0, 1] * 70).all()
    assert (loaded.predict(np.where(np.isnan(values), np.nan, [[1.0, np.nan]] * values)).mean[:, 1] == 0.1).all()
    varied = loaded.predict(series(2))
    assert (varied.quantile(0.9) > varied.quantile(0.1)).all()


@pytest.mark.parametrize("size", [1e-40, 1e-20, 1e20, 1e100])
def test_a_channel_that_only_moves_after_the_train_rows_has_its_own_units(size: float) -> None:
    values = series(2, 400)
    values[:300, 0] = 0.0
    expected = adapter("identity").fit(values).predict()
    found = adapter("identity").fit(values * [size, 1]).predict()
    np.testing.assert_allclose(found.quantile(0.9)[:, 0] / size, expected.quantile(0.9)[:, 0], rtol=1e-4)


@pytest.mark.parametrize("value, remedy", [(1e160, "divide"), (-1e300, "divide"), (1.7e308, "divide")])
def test_values_that_squares_cannot_hold_are_refused_when_they_are_read(value: float, remedy: str) -> None:
    for values in (np.where(np.arange(400).reshape(200, 2) == 11, value, series()), series() * abs(value / 5)):
        with pytest.raises(ValueError, match=f"expected column 'b' to have a size of at most 1e.150.*{remedy}|'a'"):
            adapter().fit(pd.DataFrame(values, columns=["a", "b"]))


@pytest.mark.parametrize("size", [1e-152, 1e-200, 5e-324])
def test_channels_too_small_for_squares_are_refused_when_they_are_read(size: float) -> None:
    with pytest.raises(ValueError, match="expected column '0' to have a size of at least 1e-150.*multiply"):
        adapter().fit(series() * size)


def test_a_value_far_beyond_the_fitted_rows_is_named() -> None:
    fitted = adapter().fit(pd.DataFrame(series(), columns=["a", "b"]))
    later = pd.DataFrame(series(), columns=["a", "b"])
    later.loc[150, "b"] = 1e40
    with pytest.raises(ValueError, match="column 'b' holds 1e.40 in row 150.*standard deviations.*fit an adapter"):
        fitted.predict(later)

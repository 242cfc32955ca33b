r"""Covariates: on series whose true law with them is known."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from calendars import times
from killed import kill_before
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.covariate_effect import generalised_slopes, predictable, slopes, within_items
from adapts.data.panel import Panel
from adapts.data.roles import assign
from adapts.data.schema import Schema
from adapts.data.windows import last_windows
from adapts.prediction.standardise import Standardiser
from adapts.statistics.significance import choose

H = 12


def driven(rows: int = 1500, effect: float = 2.0, seed: int = 0) -> pd.DataFrame:
    r"""Two channels with a season of 12 steps, the first driven by what no past tells; and noise of both kinds."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((rows, 5))
    season = np.sin(2 * np.pi * np.arange(rows) / 12)
    values = {
        "a": season + effect * noise[:, 0] + 0.3 * noise[:, 1] + 5,
        "b": season + 0.3 * noise[:, 2],
        "driver": 10 + 3 * noise[:, 0],
        "noise": noise[:, 3],
        "walk": noise[:, 4].cumsum(),
    }
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"))


def adapter(family: str = "residual", **options: object) -> Adapter:
    options = {"prediction_length": H, "max_windows": 300, **options}
    return Adapter(family, foundation_model=SeasonalModel(), **options)


def crps(frame: pd.DataFrame, channel: str = "all", model: str = "adapter") -> float:
    found = frame.query("metric == 'crps' and lead_block == 'all' and model == @model and channel == @channel")
    return float(found["value"].iloc[0])


def score(series: pd.DataFrame, channel: str = "all", family: str = "residual", **roles: object) -> float:
    return crps(adapter(family).backtest(series, target=["a", "b"], baselines=False, **roles), channel)


@pytest.fixture(scope="module")
def fitted() -> Adapter:
    return adapter().fit(driven()[:1400], known_covariates="driver", past_covariates=["noise"], target=["a", "b"])


# ---------------------------------------------------------------------- what they are good for


def test_a_known_driver_lowers_the_crps_and_its_coefficient_is_found(fitted: Adapter) -> None:
    without, with_driver = score(driven()), score(driven(), known_covariates=["driver"])
    assert with_driver < 0.8 * without
    assert score(driven(), "a", known_covariates=["driver"]) < 0.25 * score(driven(), "a")
    effect = fitted.fitted_.effect
    found = effect.weights / effect.scale[:, None] * fitted.scale_  # in the columns' own units
    assert found[0, 0] == pytest.approx(2 / 3, rel=0.03) and abs(found[0, 1]) < 0.01
    assert "known driver: used for 1 of 2 channels; quantile loss lower by a " in str(fitted.summary())


def test_a_driver_is_found_beside_a_walk_of_the_target() -> None:
    series = driven(effect=1.0)
    series[["a", "b"]] += 0.5 * np.random.default_rng(5).standard_normal((len(series), 2)).cumsum(0)
    assert score(series, "a", known_covariates=["driver"]) < 0.9 * score(series, "a")


def test_a_driver_that_multiplies_divides_the_target() -> None:
    generator = np.random.default_rng(0)
    series = driven(effect=0.0)
    series["driver"] = generator.gamma(2, 50, len(series))
    series["a"] = series["driver"] * (2 + np.sin(2 * np.pi * np.arange(len(series)) / 12) + 0.3 * series["noise"])
    roles = {"target": ["a", "b"], "known_covariates": ["driver"]}
    one = adapter(support={"a": (0, math.inf)}).fit(series[:1400], **roles)
    assert "% (as a ratio to driver)" in one.summary().stages["covariates"]
    assert crps(one.backtest(series, baselines=False, **roles), "a") < 0.5 * score(series, "a")
    ahead = series[1400:1412]
    forecast, doubled = one.predict(future=ahead), one.predict(future=ahead.assign(driver=2 * ahead["driver"]))
    floor = 0.2 * one.fitted_.effect.location[0]
    ratio = ((2 * ahead["driver"] + floor) / (ahead["driver"] + floor)).to_numpy()
    np.testing.assert_allclose(doubled.quantile(0.7)[:, 0], ratio * forecast.quantile(0.7)[:, 0], rtol=1e-4)
    parts = forecast.variance_parts()
    np.testing.assert_allclose(parts[["posterior", "foundation_model", "noise", "correction"]].sum(axis=1),
                               parts["total"], rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_and_walks_do_no_harm(seed: int) -> None:
    series = driven(seed=seed)
    without = score(series)
    assert score(series, known_covariates=["noise"]) <= 1.005 * without
    assert score(series, past_covariates=["noise"]) <= 1.005 * without
    series[["a", "b"]] += 0.1 * np.random.default_rng(seed).standard_normal((len(series), 2)).cumsum(0)
    without = score(series)
    assert score(series, known_covariates=["walk"]) <= 1.01 * without
    assert score(series, past_covariates=["walk"]) <= 1.01 * without


def test_a_past_covariate_that_leads_the_target_lowers_the_crps() -> None:
    series = driven()
    series["ahead"] = series["driver"].shift(-H)
    assert score(series, "a", past_covariates=["ahead"]) < 0.7 * score(series, "a")
    stages = adapter().fit(series[:1300], target=["a", "b"], past_covariates="ahead").summary().stages
    assert stages["covariates"] == "past ahead: encoded with the targets"


def test_the_calendar_tells_a_day_of_the_week() -> None:
    series = driven(2400, effect=0.0)
    series["a"] += 3.0 * (series.index.dayofweek >= 5)
    assert score(series, "a", calendar=True) < 0.9 * score(series, "a")


def test_the_effect_of_a_binary_covariate_on_a_walk_is_found() -> None:
    generator = np.random.default_rng(3)
    action = generator.binomial(1, 0.2, 900).astype(float)
    values = {"y": 4 * action + 0.4 * generator.standard_normal(900).cumsum(), "action": action}
    series = pd.DataFrame(values, pd.date_range("2024-01-01", periods=900, freq="h"))
    fitted = Adapter(
        "residual", prediction_length=H, recalibration="none", copula="independent"
    )  # its medians of binaries are 0
    fitted.fit(series, target="y", known_covariates="action")
    ahead = pd.DataFrame({"action": np.ones(H)}, pd.date_range(series.index[-1], periods=H + 1, freq="h")[1:])
    effect = fitted.predict(future=ahead).mean - fitted.predict(future=0 * ahead).mean
    np.testing.assert_allclose(effect, 4, rtol=0.03)


def test_the_calendar_costs_no_gain() -> None:
    series = driven()
    roles = {"target": ["a", "b"], "known_covariates": ["driver"]}
    one, other = (adapter().fit(series, calendar=calendar, **roles) for calendar in (False, True))
    said = other.summary().stages["covariates"]
    assert "known driver, the calendar: used for 1 of 2 channels" in said
    assert said.endswith("; the calendar: not used beside them, no further significant gain")
    ahead = pd.DataFrame({"driver": 9.0}, pd.date_range(series.index[-1], periods=H + 1, freq="h")[1:])
    np.testing.assert_array_equal(other.predict(future=ahead).samples, one.predict(future=ahead).samples)


def test_a_driver_and_the_calendar_are_used_together() -> None:
    series = driven(2400)
    series["a"] += 3.0 * (series.index.dayofweek >= 5)
    roles = {"known_covariates": ["driver"]}
    assert score(series, "a", calendar=True, **roles) < 0.9 * score(series, "a", **roles)


def test_more_columns_cost_no_gain() -> None:
    series = driven()
    series["one value"] = 4.0
    series["month"] = np.arange(len(series)) // 700
    more = ["driver", "noise", "walk", "one value", "month"]
    assert score(series, "a", known_covariates=more) <= 1.01 * score(series, "a", known_covariates=["driver"])


# ---------------------------------------------------------------------- exact


def test_what_was_taken_off_is_added_back() -> None:
    series, driver = driven(), driven()[["driver"]]
    fitted = adapter().fit(series[:1400], target=["a", "b"], known_covariates=["driver"])
    one = fitted.predict(future=driver[1400:])
    moved = driver[1400:1412] + np.linspace(0, 9, H)[:, None]
    other = fitted.predict(future=moved)
    slope = (fitted.fitted_.effect.weights / fitted.fitted_.effect.scale[:, None] * fitted.scale_)[0]
    for level in (0.05, 0.5, 0.9):
        gap = other.quantile(level) - one.quantile(level)
        np.testing.assert_allclose(gap, np.linspace(0, 9, H)[:, None] * slope, atol=2e-5)
    np.testing.assert_allclose(other.mean - one.mean, np.linspace(0, 9, H)[:, None] * slope, atol=2e-5)
    # The same of a law by itself: windows of rows that hold the driver are forecast as `predict` does.
    again = fitted.predict(series[:1400], future=driver)
    np.testing.assert_array_equal(again.samples, one.samples)


def test_without_an_effect_all_numbers_are_those_without_covariates() -> None:
    series = driven()
    plain = adapter().fit(series[["a", "b"]])
    known = adapter().fit(series[["a", "b", "noise"]], known_covariates=["noise"])
    assert not known.fitted_.effect.weights.any()
    assert "known noise: not used, no significant gain" in str(known.summary())
    ahead = pd.DataFrame({"noise": 0.0}, pd.date_range(series.index[-1], periods=H + 1, freq="h")[1:])
    forecast = known.predict(future=ahead)
    np.testing.assert_array_equal(forecast.samples, plain.predict().samples)
    assert known.summary().windows == plain.summary().windows


def test_the_frozen_row_stands_on_the_raw_targets(fitted: Adapter) -> None:
    series = driven()
    with_both = fitted.backtest(series, baselines=True)  # the columns of the fit are remembered
    alone = adapter().backtest(series[["a", "b"]], baselines=True)
    assert set(with_both["channel"]) == {"a", "b", "all"}
    left_out = adapter().fit(series[["a", "b", "noise"]], past_covariates="noise")
    assert set(left_out.backtest(series, windows=2, baselines=False)["channel"]) == {"a", "b", "all"}
    for model in ("frozen model", "last value", "seasonal naive"):
        assert crps(with_both, model=model) == pytest.approx(crps(alone, model=model), rel=1e-12)


def test_bounds_hold_in_the_channels_own_units() -> None:
    series = driven()
    series["a"] = series["a"].clip(lower=4)
    bounded = adapter(support={"a": (4, math.inf)}).fit(series[:1400], target=["a", "b"], known_covariates="driver")
    forecast = bounded.predict(future=series[["driver"]])
    assert forecast.samples[..., 0].min() == 4 and forecast.quantile(0.01)[:, 0].min() == 4


# ---------------------------------------------------------------------- what leaves


@pytest.mark.parametrize("family", ["identity", "residual", "linear", "pca"])
def test_only_targets_leave(family: str) -> None:
    series = driven(700)
    options = {"trainer_options": {"max_epochs": 1}, "seed": 1} if family == "linear" else {}
    options["gate"] = False  # which would leave noise out
    one = adapter(family, **options).fit(series[:600], target="a", past_covariates=["b", "noise"], calendar=True)
    forecast = one.predict()
    assert one.channels == forecast.channels == ("a",) and forecast.samples.shape == (200, H, 1)
    assert forecast.band(0.8)[0].shape == (H, 1) and list(forecast.history) == ["a"]
    assert one.scale_.shape == one.location_.shape == (1,)
    assert set(forecast.variance_parts()["channel"]) == {"a"} and np.isfinite(forecast.samples).all()
    assert "past b, noise: encoded with the targets" in one.summary().stages["covariates"]
    gated = adapter(family, **{**options, "gate": True}).fit(series[:600], target="a", past_covariates=["b", "noise"])
    assert gated.summary().stages["covariates"] == "past b, noise: left out, no significant gain"
    alone = adapter(family, **{**options, "gate": True}).fit(series[["a"]][:600])
    np.testing.assert_array_equal(gated.predict(series[:650]).samples, alone.predict(series[:650]).samples)
    one.update(series[600:])
    assert one.predict().index[0] == series.index[-1] + pd.Timedelta("1h")


def same(one: Adapter, other: Adapter, **ahead: object) -> None:
    np.testing.assert_allclose(one.predict(**ahead).samples, other.predict(**ahead).samples, atol=1e-6, rtol=1e-5)


def test_round_trips(fitted: Adapter, tmp_path) -> None:
    series = driven()
    ahead = {"future": series[["driver"]]}
    fitted.save(tmp_path / "run")
    loaded = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    same(fitted, loaded, **ahead)
    same(fitted, pickle.loads(pickle.dumps(fitted)), **ahead)
    assert loaded.summary().stages == fitted.summary().stages
    series_on = driven()[1380:1450]
    live = adapter().fit(driven()[:1400], known_covariates="driver", past_covariates=["noise"], target=["a", "b"])
    same(loaded.update(series_on), live.update(series_on), **ahead)
    assert loaded.predict(**ahead).index[0] == series.index[1450]


def test_a_killed_fit_goes_on(fitted: Adapter, tmp_path, monkeypatch) -> None:
    roles = {"known_covariates": "driver", "past_covariates": ["noise"], "target": ["a", "b"]}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_before("gate", patch)
        adapter().fit(driven()[:1400], checkpoint_dir=tmp_path, **roles)
    again = adapter().fit(driven()[:1400], checkpoint_dir=tmp_path, **roles)
    np.testing.assert_array_equal(again.predict(future=driven()).samples, fitted.predict(future=driven()).samples)
    with pytest.raises(ValueError, match="covariates"):
        adapter().fit(driven()[:1400], checkpoint_dir=tmp_path, **{**roles, "known_covariates": "walk"})


def test_panels() -> None:
    frames = [driven(700, seed=seed).assign(item_id=name) for seed, name in ((0, "x"), (1, "y"))]
    long = pd.concat(frames).rename_axis("timestamp").reset_index()
    cut = long["timestamp"].unique()[650]
    past, ahead = long[long["timestamp"] < cut], long[long["timestamp"] >= cut]
    one = adapter().fit(past, target=["a", "b"], known_covariates=["driver"])
    x, y = one.predict(future=ahead[["item_id", "timestamp", "driver"]])
    assert (x.item_id, y.item_id) == ("x", "y")
    alone = one.predict(past[past["item_id"] == "y"], future=ahead[ahead["item_id"] == "y"])
    alone = alone if not isinstance(alone, list) else alone[0]
    np.testing.assert_allclose(alone.quantile(0.5), y.quantile(0.5), atol=1e-4)
    truth = ahead[ahead["item_id"] == "y"]["a"].to_numpy()[:H]
    assert np.abs(truth - y.quantile(0.5)[:, 0]).mean() < 0.6  # what the driver brings has a deviation of 2
    with pytest.raises(ValueError, match="future holds no rows of item 'y', only of x"):
        one.predict(future=ahead[ahead["item_id"] == "x"][["item_id", "timestamp", "driver"]])
    hole = ahead.copy()
    hole.loc[(hole["item_id"] == "y") & (hole["timestamp"] == cut + pd.Timedelta("3h")), "driver"] = math.nan
    with pytest.raises(ValueError, match="future lacks values of 'driver' of item 'y' at 2024-01-28 05:00:00"):
        one.predict(future=hole)
    twice = pd.concat([ahead, ahead[ahead["item_id"] == "y"].assign(driver=9.0)])
    with pytest.raises(
        ValueError, match=f"future: 'driver' of item 'y' is both .* and 9.0 at {cut}: pass one value per step"
    ):
        one.predict(future=twice)


def test_rows_without_dates_and_time_zones() -> None:
    series = driven(700)
    plain = series.reset_index(drop=True)
    undated = adapter().fit(plain[:600], target=["a", "b"], known_covariates=["driver"])
    dated = adapter().fit(series[:600], target=["a", "b"], known_covariates=["driver"])
    zoned = adapter().fit(series.tz_localize("Europe/Berlin")[:600], target=["a", "b"], known_covariates=["driver"])
    wanted = dated.predict(future=series[600:]).quantile(0.3)
    for future in (plain[600:], series["driver"].to_numpy()[600:612, None], plain[600:612]["driver"]):
        np.testing.assert_allclose(undated.predict(future=future).quantile(0.3), wanted, atol=1e-6)
    ahead = series.tz_localize("Europe/Berlin").tz_convert("UTC")
    np.testing.assert_allclose(zoned.predict(future=ahead).quantile(0.3), wanted, atol=1e-6)


def test_where_a_covariate_that_is_read_is_missing_the_target_is_too(fitted: Adapter) -> None:
    past, future = driven()[:1400], driven()[["driver"]].iloc[1400:1412]
    rows = np.random.default_rng(1).random(len(past)) < 0.2
    without_driver, without_both = past.copy(), past.copy()
    without_driver.loc[rows, "driver"] = np.nan
    without_both.loc[rows, ["driver", "a"]] = np.nan  # only `a` is driven
    one, other = (
        fitted.predict(some, future=future).quantile([0.1, 0.5, 0.9]) for some in (without_driver, without_both)
    )
    np.testing.assert_array_equal(one, other)
    far = past.copy()
    far.loc[far.index[600:700], "driver"] = np.nan  # of a long gap the target stays
    panel = Schema(fitted.fitted_.panel).read(far, frequency=None).panel
    windows = last_windows(panel, context_length=48, prediction_length=12)
    seen = Standardiser(fitted.fitted_).standardised(windows).panel
    assert not np.isnan(seen.items[0].values[600:700, 0]).any()


def test_missing_values_of_covariates_and_targets() -> None:
    series = driven()
    holes = np.random.default_rng(1).random(series.shape) < 0.1
    series = series.mask(holes)
    series.iloc[300:330] = math.nan
    series.iloc[1380:1400, 2:] = math.nan
    roles = {"target": ["a", "b"], "known_covariates": ["driver", "noise"], "past_covariates": ["walk"]}
    one = adapter().fit(series[:1400], **roles)
    assert one.fitted_.effect.weights.any()
    ahead = driven()[1400:]
    assert np.isfinite(one.predict(future=ahead).samples).all()
    frame = one.backtest(series, baselines=False)
    assert crps(frame, "a") < 0.8 * score(series, "a")


# ---------------------------------------------------------------------- parts


def test_slopes_are_those_of_ridge_without_each_fold() -> None:
    x = torch.randn(40, 3, 2)
    y = x @ torch.tensor([[1.0, 0.0], [-2.0, 0.0]]) + 0.01 * torch.randn(40, 3, 2)
    y[..., 1] = torch.randn(40, 3)
    y[0, 0, 0] = math.nan
    fold = torch.arange(40) // 10
    fold[9] = -1
    found = slopes(x, y, fold, 4)
    assert found.shape == (5, 2, 2)
    torch.testing.assert_close(found[..., 0], torch.tensor([1.0, -2.0]).double().expand(5, 2), atol=0.02, rtol=0)
    changed = y.clone()
    changed[fold == 2] += 0.01
    torch.testing.assert_close(slopes(x, changed, fold, 4)[2], found[2])
    assert not torch.allclose(slopes(x, changed, fold, 4)[-1], found[-1])
    assert bool((slopes(x, torch.randn(40, 3, 1) * 0, fold, 4) == 0).all())


def some_windows(generator: np.random.Generator, kind: str, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Covariates and errors of targets, 150 windows of 12 steps in three folds; what wanders spreads by so much."""
    shape = (150, 12, 1)
    draws = {
        "p=.05": lambda: generator.binomial(1, 0.05, shape),
        "p=.6": lambda: generator.binomial(1, 0.6, shape),
        "lognormal": lambda: generator.lognormal(0, 1, shape),
        "exponential": lambda: generator.exponential(2, shape),
        "normal": lambda: generator.normal(5, 1, shape),
    }
    wander = spread * generator.standard_normal(shape).cumsum(1)
    trend = 0.1 * np.arange(12)[:, None] - 3 + 2 * (np.arange(150) > 70)[:, None, None]
    x = torch.from_numpy(draws[kind]().astype(float))
    return x, 2 * x + torch.from_numpy(trend + wander + 0.1 * generator.standard_normal(shape))


@pytest.mark.parametrize("kind", ["p=.05", "p=.6", "lognormal", "exponential", "normal"])
def test_the_mean_slope_of_many_sets_is_the_true_one(kind: str) -> None:
    generator, fold = np.random.default_rng(0), torch.arange(150) // 50
    sets = [some_windows(generator, kind, 0.3) for _ in range(40)]
    plain, general = (
        np.array([float(way(x, y, fold, 3)[-1]) for x, y in sets]) for way in (slopes, generalised_slopes)
    )
    assert general.mean() == pytest.approx(2, rel=0.02)
    assert plain.mean() == pytest.approx(2, rel=0.02 if kind != "p=.05" else 0.04)
    assert general.std() < 0.8 * plain.std()  # what wanders counts once


@pytest.mark.parametrize("way", [slopes, generalised_slopes])
def test_levels_say_nothing_of_slopes(way: Callable[..., torch.Tensor]) -> None:
    x, y = some_windows(np.random.default_rng(1), "exponential", 0.2)
    y[3, 4], y[7] = math.nan, math.nan
    fold = torch.arange(150) // 50
    found = way(x, y, fold, 3)
    torch.testing.assert_close(way(x + 100, y - 30, fold, 3), found, rtol=1e-6, atol=0)
    # A column of one value, and one that is so within each window, neither break nor bend the others.
    flat = torch.cat([x, torch.full_like(x, 7.0), torch.zeros_like(x)], -1)
    torch.testing.assert_close(way(flat, y, fold, 3)[:, 0], found[:, 0], rtol=1e-2, atol=0)
    torch.testing.assert_close(way(flat, y, fold, 3)[:, 1:], torch.zeros(4, 2, 1).double(), rtol=0, atol=1e-6)
    steps = torch.arange(150).double().view(-1, 1, 1).expand(150, 12, 1) // 40
    assert float(way(torch.cat([x, steps], -1), y, fold, 3)[-1, 0]) == pytest.approx(2, rel=0.03)
    assert not way(flat[..., 1:], y, fold, 3).any()


def test_levels_of_items_say_nothing_of_slopes() -> None:
    generator = np.random.default_rng(2)
    item = np.arange(400) % 4
    share = np.array([0.05, 0.2, 0.5, 0.8])[item]
    x = generator.binomial(1, share[:, None, None], (400, 12, 1)).astype(float)
    y = 2 * (x - share[:, None, None]) + 0.2 * generator.standard_normal(x.shape)  # the frozen model knows the shares
    x, y = (within_items(torch.from_numpy(values), torch.from_numpy(item)) for values in (x, y))
    assert float(slopes(x, y, torch.arange(400) // 80, 5)[-1]) == pytest.approx(2, rel=0.02)


def test_means_of_items_are_drawn_to_that_of_all() -> None:
    values = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 7.0]).view(6, 1, 1).expand(6, 2, 1).clone()
    values[0, 0] = math.nan
    found = within_items(values, torch.tensor([3, 3, 3, 3, 3, 8]))
    mean = (9 * 1 + 2 * 7) / 11
    assert found[0].isnan().flatten().tolist() == [True, False]
    torch.testing.assert_close(found[1:5], torch.full((4, 2, 1), 1 - (9 + 10 * mean) / 19))
    torch.testing.assert_close(found[5], torch.full((2, 1), 7 - (14 + 10 * mean) / 12))


def test_covariates_that_the_frozen_model_predicts_are_found() -> None:
    above = torch.ones(5, H, 3)
    missed = above * torch.tensor([0.05, 0.2, 0.0])
    assert predictable(above, missed).tolist() == [True, False, True]


def test_a_candidate_is_chosen_where_its_gain_is_sure() -> None:
    time = times(np.arange(0, 2400, 12))
    losses = 1 + 0.1 * torch.rand(3, 200, 2)
    losses[1:, :, 1] += 0.01
    losses[2, :, 0] -= 0.2
    chosen, gains = choose(losses, H, time)
    assert chosen.tolist() == [2, 0] and gains[0] == pytest.approx(0.2 / 1.05, abs=0.01)
    few, _ = choose(losses[:, :3], H, time[:3])
    assert few.tolist() == [0, 0]


def test_candidates_that_say_the_same_count_once() -> None:
    generator = torch.Generator().manual_seed(1)
    time = times(np.arange(0, 2400, 12))
    noise = torch.randn(200, 1, generator=generator)
    gain = noise - noise.mean()

    def least_sure(others: torch.Tensor) -> float:
        r"""The smallest mean gain at which the first candidate is chosen beside others that gain less."""
        for mean in np.linspace(0, 0.6, 121):
            losses = torch.cat([torch.zeros(1, 200, 1), (-gain - mean).unsqueeze(0), others - mean + 1e-3]) + 10
            if choose(losses, H, time)[0].item() == 1:
                return float(mean)
        raise AssertionError

    alone = least_sure(torch.zeros(0, 200, 1))
    same = least_sure((-gain).expand(15, 200, 1))
    strangers = torch.randn(15, 200, 1, generator=generator)
    strangers = least_sure(strangers - strangers.mean(1, keepdim=True))
    assert same == pytest.approx(alone, abs=0.02)
    assert strangers > 1.2 * alone


def test_calendar_columns() -> None:
    def names(frequency: str) -> list[str]:
        index = pd.date_range("2024-01-01", periods=5, freq=frequency)
        panel = Panel.of(pd.DataFrame({"a": np.arange(5.0)}, index), frequency=frequency)
        made = assign(panel, target=None, past_covariates=(), known_covariates=(), calendar=True)
        assert made.targets == ("a",) and made.known_covariates == made.calendar
        assert not np.isnan(made.items[0].values).any()
        return sorted({name.split()[0] for name in made.calendar})

    assert names("h") == names("15min") == ["day", "week", "year"]
    assert names("D") == names("B") == ["week", "year"]
    assert names("W") == names("MS") == ["year"]
    index = pd.date_range("2024-01-01 06:00", periods=3, freq="h", tz="Europe/Berlin")
    made = assign(
        Panel.of(pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index)), target=None, past_covariates=(), known_covariates=(),
        calendar=True,
    )  # fmt: skip
    first = dict(zip(made.channels, made.items[0].values[0], strict=True))
    assert first["day sin 1"] == pytest.approx(1) and first["day cos 1"] == pytest.approx(0)  # a quarter of a day
    assert first["week cos 1"] == pytest.approx(math.cos(2 * math.pi / 28))
    assert first["year sin 1"] == pytest.approx(math.sin(2 * math.pi * 0.25 / 366))


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("roles", "error"),
    [
        ({"known_covariates": ["drivr"]}, "no column for known_covariates is called 'drivr'.*did you mean 'driver'"),
        ({"target": ["a"], "past_covariates": ["q"]}, "there is no column q; the columns are a, b, driver"),
        ({"target": ["a"], "known_covariates": ["a"]}, "'a' is named twice, in target and known_covariates"),
        ({"past_covariates": "walk", "known_covariates": "walk"}, "in past_covariates and known_covariates: a column"),
        ({"past_covariates": ["walk", "walk"]}, "named twice, in past_covariates: a column has one role"),
        ({"past_covariates": ["a", "b", "driver", "noise", "walk"]}, "all 5 columns are covariates, and none is left"),
        ({"past_covariates": 3}, "expected past_covariates to name columns, .*, got 3"),
    ],
)
def test_errors_of_fit(roles: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        adapter().fit(driven(200), **roles)


def test_errors_of_arrays_and_undated_series() -> None:
    values = driven(200).to_numpy()
    with pytest.raises(ValueError, match="covariates are columns with names, and ndarray has none: pass a frame"):
        adapter().fit(values, known_covariates=["1"])
    with pytest.raises(ValueError, match="calendar=True derives covariates from dates, and these series have none"):
        adapter().fit(values, calendar=True)
    yearly = driven(200)[["a"]].set_axis(pd.date_range("1700-01-01", periods=200, freq="YS"))
    with pytest.raises(ValueError, match="calendar=True has no cycle that is longer than steps of 'YS"):
        adapter().fit(yearly, calendar=True)


@pytest.mark.parametrize(
    ("future", "error"),
    [
        (None, r"fitted with known covariates \(driver\): predict\(future=...\) needs their values at the 12 steps"),
        (slice(1400, 1405), "lacks 7 of the 12 steps ahead, 2024-02-28 13:00:00 to 2024-02-28 19:00:00"),
        (slice(0, 12), "future lacks 12 of the 12 steps ahead.*it has rows of 2024-01-01 00:00:00 to"),
        ("gap", "lacks values of 'driver' at 2024-02-28 10:00:00: known covariates need a value"),
        ("other column", "future: there is no column driver; the columns are"),
        ("array", "future: expected a frame with the columns driver and the dates, got ndarray"),
        ("zone", "future: the adapter was fitted on dates without a time zone, and these are in UTC"),
    ],
)
def test_errors_of_the_future(fitted: Adapter, future: object, error: str) -> None:
    ahead = driven()[["driver"]]
    if isinstance(future, slice):
        future = ahead[future]
    elif future == "gap":
        future = ahead[1400:].drop(ahead.index[1402])
    elif future == "other column":
        future = ahead[1400:].rename(columns={"driver": "drive"})
    elif future == "array":
        future = ahead[1400:].to_numpy()
    elif future == "zone":
        future = ahead[1400:].tz_localize("UTC")
    with pytest.raises(ValueError, match=error):
        fitted.predict(future=future)


def test_a_date_of_the_future_has_one_value(fitted: Adapter, tmp_path: Path) -> None:
    ahead = driven()[["driver"]]
    wanted = fitted.predict(future=ahead).quantile(0.5)
    twice = pd.concat([ahead[::-1], ahead])
    np.testing.assert_array_equal(fitted.predict(future=twice).quantile(0.5), wanted)
    past = pd.concat([ahead, 1 + ahead[:1400]])  # dates that are not looked at may say what they like
    np.testing.assert_array_equal(fitted.predict(future=past).quantile(0.5), wanted)
    date = ahead.index[1403]
    filled = pd.concat([ahead, pd.DataFrame({"driver": [math.nan]}, index=[date])])
    np.testing.assert_array_equal(fitted.predict(future=filled).quantile(0.5), wanted)
    other = pd.concat([ahead, pd.DataFrame({"driver": [7.5]}, index=[date])])
    other.rename_axis("date").to_csv(tmp_path / "plan.csv")
    for future in (other, tmp_path / "plan.csv", other[1400:].rename_axis("date").reset_index()):
        with pytest.raises(
            ValueError, match=rf"future: 'driver' is both .* and 7\.5 at {date}: pass one value per step"
        ):
            fitted.predict(future=future)


def test_a_calendar_is_true_or_false() -> None:
    with pytest.raises(ValueError, match="expected calendar to be True or False, got 'no'"):
        adapter().fit(driven(), calendar="no")
    with pytest.raises(ValueError, match="expected calendar to be True or False, got 1"):
        adapter().backtest(driven(), calendar=1)


def test_a_future_without_known_covariates(fitted: Adapter) -> None:
    series = driven(300)[["a", "b"]]
    with pytest.raises(ValueError, match="future holds known covariates, and the adapter was fitted with none"):
        adapter().fit(series).predict(future=series)
    with pytest.raises(ValueError, match="missing: driver"):
        fitted.predict(driven()[["a", "b", "noise"]], future=driven())
    with pytest.raises(ValueError, match="missing: driver"):
        fitted.update(driven()[["a", "b", "noise"]])

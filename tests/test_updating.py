r"""Updates: rows that came after the fit, on series whose law is known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.adapters import RegressionData, Residual
from adapts.data.panel import Panel
from adapts.data.windows import Windows

H, D = 6, 2


def series(rows: int = 1500, seed: int = 0) -> pd.DataFrame:
    r"""A season of 12 steps and independent noise of standard deviation .3, five of which are missing."""
    generator = np.random.default_rng(seed)
    season = np.sin(2 * np.pi * np.arange(rows)[:, None] / 12 + np.arange(D))
    values = season + 0.3 * generator.standard_normal((rows, D))
    values[generator.integers(rows, size=5), 0] = math.nan
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"), ["a", "b"])


def adapter(**options: object) -> Adapter:
    return Adapter("identity", foundation_model=SeasonalModel(), prediction_length=H, max_windows=200, **options)


@pytest.fixture
def fitted() -> Adapter:
    return adapter().fit(series()[:1000])


def same(one: Adapter, other: Adapter) -> None:
    a, b = one.predict(), other.predict()
    assert a.index.equals(b.index)
    np.testing.assert_allclose(a.samples, b.samples, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(a.band(0.9), b.band(0.9), atol=1e-6, rtol=1e-5)


def test_forecasts_go_on_after_the_new_rows(fitted: Adapter) -> None:
    before = fitted.predict()
    assert fitted.update(series()[1000:1100]) is fitted
    after = fitted.predict()
    assert after.index[0] == series().index[1100] and before.index[0] == series().index[1000]
    assert "100 steps" in fitted.summary().stages["update"]
    # The law was right, so the levels stay near; and the frozen model's law of the same rows is not touched.
    np.testing.assert_allclose(after.quantile(0.9), adapter().fit(series()[:1100]).predict().quantile(0.9), atol=0.25)


def test_rows_may_come_one_by_one_or_with_all_that_was(fitted: Adapter, tmp_path) -> None:
    one, many, whole = (fitted.save(tmp_path / "run", overwrite=True) or Adapter.load(
        tmp_path / "run", foundation_model=SeasonalModel()) for _ in range(3))  # fmt: skip
    fitted.update(series()[1000:1020])
    one.update(series()[1000:1020])  # loaded: the rows that are saved are enough
    for row in range(1000, 1020):
        many.update(series()[row : row + 1])
    whole.update(series()[:1020])
    for other in (one, many, whole):
        same(fitted, other)
    fitted.save(tmp_path / "updated")
    loaded = Adapter.load(tmp_path / "updated", foundation_model=SeasonalModel())
    assert loaded.summary().stages == fitted.summary().stages
    same(fitted.update(series()[:1030]), loaded.update(series()[1020:1030]))


def test_values_that_come_late_are_taken_up_and_others_stay() -> None:
    rows = series().fillna(0.0)
    late = rows[:1000].copy()
    late.iloc[-4:, 1] = math.nan  # reported later
    one = adapter().fit(late).update(rows[990:1002])
    whole = adapter().fit(late).update(rows[1000:1002])
    assert not np.array_equal(one.predict().quantile(0.5), whole.predict().quantile(0.5))
    seen = one.predict().history
    assert seen is not None and np.array_equal(seen.to_numpy(), rows[1002 - len(seen) : 1002].to_numpy())
    np.testing.assert_allclose(one.predict().samples, one.predict(rows[:1002]).samples, rtol=1e-6)
    revised = adapter().fit(rows[:1000]).update(5 + rows[990:1002]).predict().history
    assert revised is not None and np.array_equal(revised[:-2].to_numpy(), rows[1002 - len(seen) : 1000].to_numpy())
    only = adapter().fit(late).update(rows[990:1000])  # nothing new but what was missing
    np.testing.assert_allclose(only.predict().samples, only.predict(rows[:1000]).samples, rtol=1e-6)


def test_values_that_were_revised_stay_and_a_warning_tells(caplog) -> None:
    one, other = (adapter().fit(series()[:1000]) for _ in range(2))
    one.update(series()[900:1010])
    assert "differ" not in caplog.text
    revised = series()[900:1010]
    revised.iloc[7:9, 1] += 1.0
    other.update(revised)
    assert f"2 values of '0' differ from the fitted ones, the first at {revised.index[7]}" in caplog.text
    same(one, other)


def test_intervals_cover_again_after_a_shift(fitted: Adapter) -> None:
    r"""The noise doubles, and the level moves by a standard deviation of what it was."""
    rows = series(2200, seed=3)
    season = np.sin(2 * np.pi * np.arange(2200)[:, None] / 12 + np.arange(D))
    rows.iloc[1000:] = season[1000:] + 0.3 + 2 * (rows - season).iloc[1000:]
    stale, live = (adapter(recalibration="none").fit(rows[:1000]) for _ in range(2))
    inside, bands = [], []
    for stop in range(1000, 2190, 6):
        live.update(rows[stop - 6 : stop] if stop > 1000 else rows[:1000])
        if stop < 1200:
            continue
        truth = rows[stop : stop + H].to_numpy()
        forecast = live.predict(num_samples=1)
        ends = [forecast.interval(0.8), stale.predict(rows[:stop], num_samples=1).interval(0.8)]
        inside.append([np.nanmean((low <= truth) & (truth <= high)) for low, high in ends])
        low, high = forecast.band(0.8)
        bands.append(bool(((low <= truth) & (truth <= high) | np.isnan(truth)).all()))
    adapted, left = np.mean(inside, axis=0)
    assert abs(adapted - 0.8) < 0.04 and left < 0.72
    assert abs(np.mean(bands) - 0.8) < 0.08


def test_a_panel_and_rows_without_dates(caplog) -> None:
    frames = [series(600, seed=seed).assign(item_id=name) for seed, name in ((0, "x"), (1, "y"))]
    long = pd.concat(frames).rename_axis("timestamp").reset_index()
    cut = long["timestamp"].unique()[500]
    one = (
        adapter().fit(long[long["timestamp"] < cut]).update(long[(long["timestamp"] >= cut) & (long["item_id"] == "y")])
    )
    assert "no new rows of 1 of 2 items (x): their forecasts stay" in caplog.text
    x, y = one.predict()
    assert x.index[0] == cut and y.index[0] == long["timestamp"].max() + pd.Timedelta("1h")
    with pytest.raises(ValueError, match="update expects rows of the fitted items, x, y; got rows of 'z'"):
        one.update(frames[0].rename_axis("timestamp").reset_index().assign(item_id="z"))
    values = series(600).to_numpy()
    plain = adapter().fit(values[:500]).update(values[500:])
    dated = adapter().fit(series(600)[:500]).update(series(600)[500:])
    np.testing.assert_allclose(plain.predict().quantile(0.9), dated.predict().quantile(0.9), atol=1e-6)
    assert list(plain.predict().index) == list(range(600, 600 + H))


def following(rows: int = 1500, noise: float = 0.1) -> pd.DataFrame:
    r"""The second channel tells now what the first one will be: the frozen model cannot know."""
    generator = np.random.default_rng(0)
    news = generator.standard_normal(rows + 1)
    values = np.stack([news[:-1], news[1:]], 1) + noise * generator.standard_normal((rows, 2))
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"), ["a", "b"])


def test_the_correction_learns_as_if_all_windows_had_been_there() -> None:
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(300, 40, 3, generator=generator)
    future = past[:, -1:].roll(1, -1) + 0.1 * torch.randn(300, H, 3, generator=generator)
    future[::17, 2, 1] = math.nan
    all_of_them = RegressionData(past, future, torch.zeros(300, H, 3), torch.arange(300) // 60)

    def some(which: slice) -> RegressionData:
        return RegressionData(*(getattr(all_of_them, name)[which] for name in ("past", "future", "forecast", "fold")))

    online, batch = (Residual().build(3) for _ in range(2))
    for module in (online, batch):
        module.prepare(past.flatten(0, 1))
        module.solve(some(slice(200)), choose=True)
    before = online.weights.clone()
    online.partial_fit(some(slice(200, 230)))
    online.partial_fit(some(slice(230, 300)))
    assert torch.equal(online.weights, before)
    online.refit()
    batch.solve(all_of_them, choose=False)
    assert not torch.allclose(online.weights, before, atol=1e-3)
    torch.testing.assert_close(online.weights, batch.weights, atol=1e-4, rtol=1e-3)


def test_an_update_teaches_the_correction_in_as_many_calls_as_one_likes(tmp_path) -> None:
    rows = following()
    fitted = Adapter("residual", foundation_model=SeasonalModel(), prediction_length=H, max_windows=200)
    fitted.fit(rows[:1200]).save(tmp_path / "run")
    one, many = (Adapter.load(tmp_path / "run", foundation_model=SeasonalModel()) for _ in range(2))
    one.update(rows[1200:1260])
    for start in range(1200, 1260, 4):
        many.update(rows[start : start + 4])
        if start == 1232:
            many.save(tmp_path / "between")
            many = Adapter.load(tmp_path / "between", foundation_model=SeasonalModel())
    same(one, many)
    assert "the correction was refit with" in one.summary().stages["update"]
    # At its own rows' end it forecasts otherwise than the one that learned nothing, and nothing else was trained.
    fresh = fitted.predict(rows[:1260])
    assert np.abs(one.predict().mean - fresh.mean).max() > 1e-4
    assert np.abs(fresh.mean[0, 0] - rows["b"].iloc[1259]) < 0.4


def test_what_cannot_be_taken_up_leaves_all_as_it_was(fitted: Adapter) -> None:
    before = fitted.predict()
    with pytest.raises(
        ValueError, match="continue at 2024-02-11 16:00:00, got 2024-02-11 17:00:00: pass all rows since"
    ):
        fitted.update(series()[1001:1010])
    with pytest.raises(ValueError, match="missing: b; not fitted: c"):
        fitted.update(series()[1000:1010].rename(columns={"b": "c"}))
    with pytest.raises(ValueError, match="call fit"):
        adapter().update(series())
    same(fitted, fitted.update(series()[900:1000]))  # nothing new
    np.testing.assert_array_equal(fitted.predict().samples, before.samples)
    assert "update" not in fitted.summary().stages


def test_a_fit_starts_afresh(fitted: Adapter) -> None:
    fitted.update(series()[1000:1200])
    same(fitted.fit(series()[:1000]), adapter().fit(series()[:1000]))


def test_conformal_levels_hold_on_the_calibration_rows() -> None:
    r"""A frozen model that is far too narrow: every cell is mended by itself, whatever the confirmation rows say."""
    narrow = adapter(recalibration="conformal").fit(3 * series(6000) - 2 * series(6000, seed=9))
    assert "recalibration" not in narrow.summary().stages["confirmation"]
    panel = Panel.of(3 * series(3000, seed=1) - 2 * series(3000, seed=8))
    origins = np.arange(200, 2990, 7)
    windows = Windows(panel, np.zeros_like(origins), origins, 96, H)
    for levels, low, high in ((narrow, 0.77, 0.83), (adapter(recalibration="none").fit(panel), 0.5, 0.72)):
        u = levels.joint_distribution(windows).marginals.pit(windows.future())
        assert low < float(((u > 0.1) & (u < 0.9))[~u.isnan()].float().mean()) < high

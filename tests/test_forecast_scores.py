r"""Forecast.score: one forecast against observed values, with the metrics of a backtest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel

from adapts.adapter import Adapter
from adapts.copulas.independent import Independent
from adapts.data.panel import Panel
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation.backtest import roll
from adapts.forecast.forecast import Forecast

H = 8
NORMAL = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
DATES = pd.date_range("2024-01-01", periods=48 + H, freq="h")


def forecast_of(frequency: str | None = "h", zone: str | None = None, width: float = 1.0, **options: Any) -> Forecast:
    r"""Two normal channels of means 0 and 10, after 48 rows of history of period 2: differences of 2 and 4."""
    index = pd.RangeIndex(48 + H) if frequency is None else DATES if zone is None else DATES.tz_localize(zone)
    mean = torch.tensor([0.0, 10.0], dtype=torch.float64).expand(1, H, 2)
    law = JointDistribution(QuantileFunction(LEVELS, mean[..., None] + width * NORMAL), Independent(H, 2))
    rows = np.array([[1.0, 12.0], [-1.0, 8.0]] * 24)
    history = pd.DataFrame(rows, index[:48], ["a", "b"])
    given = {"joint_distribution": law, "history": history, "frequency": frequency, **options}
    return Forecast(item_id="x", index=index[48:], channels=("a", "b"), **given)


def values_of(frame: pd.DataFrame) -> pd.Series:
    return frame.set_index(["metric", "channel", "lead_block"])["value"]


def actual(steps: int = H) -> np.ndarray:
    r"""Rows three above the mean of a, and five below that of b."""
    return np.tile([3.0, 5.0], (steps, 1))


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True)


class TestValues:
    def test_by_hand(self) -> None:
        found = values_of(forecast_of(width=1e-9).score(actual(), season_length=1))
        expected = {
            "mse": (9, 25), "mae": (3, 5), "crps": (3, 5), "wql": (3, 5), "coverage_80": (0, 0), "width_80": (0, 0),
            "interval_score_80": (30, 50), "mase": (3 / 2, 5 / 4), "wape": (1, 1), "pit_ece": (0.5, 0.5),
            "pit_ks": (1, 1),
        }  # fmt: skip
        for metric, (a, b) in expected.items():
            for block in ("all", "1-2", "3-4", "5-6", "7-8"):
                values = [found[metric, channel, block] for channel in ("a", "b", "all")]
                assert values == pytest.approx([a, b, (a + b) / 2], abs=1e-6), metric
        assert found["energy_score", "all", "all"] == pytest.approx(math.sqrt(H * (9 + 25)))
        # Less the means of the history, a lies at 3 and b at -5, where 0 and 0 were forecast: two ordered pairs.
        assert found["variogram_channels", "all", "all"] == pytest.approx(2 * 8, rel=1e-3)
        assert found["variogram_time", "all", "all"] == pytest.approx(0, abs=1e-3)
        assert found["crps_sum", "all", "all"] == pytest.approx(2)

    def test_of_a_normal_law_at_its_mean(self) -> None:
        forecast = forecast_of(num_samples=4000)
        found = values_of(forecast.score(np.tile([0.0, 10.0], (H, 1))))
        closed = math.sqrt(2 / math.pi) - 1 / math.sqrt(math.pi)
        assert found["crps", "all", "all"] == pytest.approx(closed, rel=0.05)
        assert found["coverage_80", "all", "all"] == 1
        assert found["width_80", "all", "all"] == pytest.approx(2 * 1.2815516, rel=1e-4)
        assert math.isnan(found["wape", "a", "all"])  # all values of a are zero
        assert found["wape", "b", "all"] == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(
        ("scale", "location"),
        [([2.0, 0.5], [1.0, 2.0]), (np.array([2.0, 0.5]), np.array([1.0, 2.0])),
         ({"b": 0.5, "a": 2.0}, {"b": 2, "a": 1}), (pd.Series({"a": 2.0, "b": 0.5}), (1, 2))],
    )  # fmt: skip
    def test_scale_and_location(self, scale: Any, location: Any) -> None:
        forecast = forecast_of(width=1e-9)
        found = values_of(forecast.score(actual(), scale=scale, location=location))
        assert [found["mae", channel, "all"] for channel in ("a", "b")] == pytest.approx([3 / 2, 5 / 0.5])
        assert found["mse", "b", "all"] == pytest.approx(25 / 0.25)
        assert found["energy_score", "all", "all"] == pytest.approx(math.sqrt(H * (1.5**2 + 10**2)))
        # In their scales, a is forecast at -.5 and b at 16; they are observed at 1 and 6.
        assert found["variogram_channels", "all", "all"] == pytest.approx(2 * (16.5**0.5 - 5**0.5) ** 2, rel=1e-3)
        plain = values_of(forecast.score(actual()))
        same_units = [metric in ("mase", "wape", "coverage_80") for metric in found.index.get_level_values(0)]
        pd.testing.assert_series_equal(found[same_units], plain[same_units])

    def test_the_same_as_a_backtest_of_one_window(self) -> None:
        hours = np.arange(420)
        rows = np.sin(2 * np.pi * hours / 12)[:, None] + np.random.default_rng(0).normal(0, 0.3, (420, 2))
        frame = pd.DataFrame(rows, pd.date_range("2024", periods=420, freq="h"), ["a", "b"])
        adapter = Adapter("residual", foundation_model=SeasonalModel(), prediction_length=H, context_length=36)
        rolled = roll(adapter, Panel.of(frame), windows=1, season_length=12, forecasts=True, num_samples=50)
        assert rolled.forecasts is not None
        fitted = rolled.adapter
        for model, forecasts in rolled.forecasts.items():
            found = forecasts[0].score(
                frame, scale=fitted.scale_, location=fitted.location_, history=frame, season_length=12
            )
            expected = rolled.frame[rolled.frame["model"] == model].drop(columns="model")
            left_out = ("pit_ece_floor", "pit_ks_floor", "coverage_80_calm", "coverage_80_volatile")
            expected = expected[~expected["metric"].isin(left_out)].reset_index(drop=True)
            same(found, expected)

    def test_a_seed_determines_the_scores(self) -> None:
        same(forecast_of().score(actual()), forecast_of().score(actual()))
        assert not forecast_of().score(actual()).equals(forecast_of(seed=1).score(actual()))

    def test_few_samples_are_enough(self) -> None:
        assert math.isfinite(values_of(forecast_of(num_samples=1).score(actual()))["crps", "all", "all"])


class TestHistory:
    def test_the_season_of_the_mase(self) -> None:
        forecast = forecast_of(width=1e-9)
        assert values_of(forecast.score(actual(), season_length=3))["mase", "a", "all"] == pytest.approx(3 / 2)
        # The history repeats itself every other row, also in the 24 hours of a day: there is no error to divide by.
        for found in (values_of(forecast.score(actual())), values_of(forecast.score(actual(), season_length=2))):
            assert found.loc["mase"].isna().all() and found.loc["mae"].notna().all()

    @pytest.mark.parametrize("dated", [True, False])
    def test_a_given_one(self, dated: bool) -> None:
        forecast = forecast_of(width=1e-9, history=None)
        assert values_of(forecast.score(actual())).loc["mase"].isna().all()
        rows = np.tile([[0.0, 0.0], [8.0, 16.0]], (28, 1))
        rows[48:] = 1e6  # observed later, which no denominator knows
        history = pd.DataFrame(rows, DATES, ["a", "b"]) if dated else rows[:48]
        found = values_of(forecast.score(actual(), history=history, season_length=1))
        assert [found["mase", channel, "all"] for channel in ("a", "b")] == pytest.approx([3 / 8, 5 / 16])

    def test_rows_of_an_undated_series(self) -> None:
        rows = np.concatenate([np.tile([[0.0, 0.0], [8.0, 16.0]], (24, 1)), actual() * 1e6])
        found = values_of(forecast_of(None, width=1e-9).score(actual(), history=rows))
        assert [found["mase", channel, "all"] for channel in ("a", "b")] == pytest.approx([3 / 8, 5 / 16])

    def test_a_constant_channel_has_no_calibration(self) -> None:
        forecast = forecast_of(history=pd.DataFrame({"a": 3.0, "b": np.arange(48.0)}, DATES[:48]))
        found = values_of(forecast.score(actual(), season_length=1))
        for metric in ("coverage_80", "pit_ece", "pit_ks", "mase"):
            assert math.isnan(found[metric, "a", "all"])
            assert found[metric, "all", "all"] == found[metric, "b", "all"]
        # A single observed row does not tell that a channel is constant.
        alone = values_of(forecast_of(history=None).score(actual(1)))
        assert alone["coverage_80", "a", "all"] == 0 and alone["pit_ks", "b", "all"] > 0.9


class TestRows:
    def frame(self, zone: str | None = None) -> pd.DataFrame:
        rows = np.random.default_rng(0).normal(size=(48 + H, 2)) + [0.0, 10.0]
        return pd.DataFrame(rows, DATES if zone is None else DATES.tz_localize(zone), ["a", "b"])

    def test_forms_of_the_same_rows(self) -> None:
        import polars

        frame = self.frame()
        ahead = frame[48:]
        expected = forecast_of().score(ahead)
        others = frame.assign(a=-5.0)
        items = pd.concat({"w": others, "x": frame}, names=["item_id", "timestamp"]).reset_index()
        for form in (
            frame, ahead[::-1], ahead[["b", "a"]], frame.assign(other=1.0), ahead.to_numpy(), ahead.to_numpy().tolist(),
            torch.from_numpy(ahead.to_numpy()), ahead.reset_index(names="date"), ahead.reset_index(drop=True),
            polars.from_pandas(frame.reset_index(names="date")), Panel.of(frame), Panel.of(items), items,
        ):  # fmt: skip
            same(forecast_of().score(form), expected)
        same(forecast_of(None).score(ahead.to_numpy(), season_length=24), expected)

    def test_a_series_for_a_single_channel(self) -> None:
        law = JointDistribution(QuantileFunction(LEVELS, NORMAL.expand(1, H, 1, -1)), Independent(H, 1))
        forecast = Forecast("x", DATES[48:], ("a",), "h", law)
        column = self.frame()["a"]
        expected = forecast.score(column.to_frame())
        same(forecast.score(column), expected)
        same(forecast.score(column.rename(None)), expected)
        same(forecast.score(column[48:].to_numpy()), expected)

    def test_another_time_zone(self) -> None:
        frame = self.frame("Europe/Berlin")
        forecast = forecast_of(zone="Europe/Berlin")
        same(forecast.score(frame), forecast_of().score(self.frame()))
        same(forecast.score(frame.tz_convert("UTC")), forecast.score(frame))

    def test_fewer_steps_are_missing_ones(self) -> None:
        frame = self.frame()
        gaps = frame[48:].copy()
        gaps.iloc[3:] = np.nan
        expected = forecast_of().score(gaps)
        for form in (frame[:51], frame[48:51], frame[48:51].to_numpy(), gaps.to_numpy()):
            same(forecast_of().score(form), expected)
        found = values_of(expected)
        assert found.xs("7-8", level="lead_block").isna().all()
        law, rows = forecast_of(), frame.to_numpy()[48:51]
        assert found["mse", "b", "all"] == pytest.approx(np.square(law.mean[:3, 1] - rows[:, 1]).mean(), rel=1e-5)

    def test_missing_cells_and_dates_are_not_scored(self) -> None:
        frame = self.frame()
        cells = frame.copy()
        cells.iloc[50] = np.nan
        cells.iloc[52, 1] = np.nan
        without = cells.drop(index=DATES[50])
        expected = forecast_of().score(cells)
        same(forecast_of().score(without), expected)
        error = np.abs(forecast_of().quantile(0.5) - cells.to_numpy()[48:])
        found = values_of(expected)
        assert [found["mae", c, "all"] for c in ("a", "b")] == pytest.approx(np.nanmean(error, axis=0), rel=1e-5)

    def test_numbered_rows_are_matched_by_number(self) -> None:
        frame = self.frame().reset_index(drop=True)
        numbered = frame.iloc[50:53].reset_index(names="time")
        gaps = frame.iloc[48:].to_numpy()
        gaps[[0, 1, 5, 6, 7]] = np.nan
        same(forecast_of(None).score(numbered, timestamp_column="time"), forecast_of(None).score(gaps))


class TestErrors:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (pd.DataFrame(actual(), DATES[48:], ["a", "c"]), r"actual: expected the 2 channels .*missing: b"),
            (actual()[:, :1], r"expected rows of the 2 channels of the forecast \(a, b\), .* got 1 columns"),
            (actual().T, "got 8 columns: transpose the array"),
            (np.zeros((3, H, 2)), "holds no rows of item 'x', only of 0, 1, 2"),
            (actual(H + 1), "actual has 9 rows without dates, expected the 8 steps of the forecast"),
            (pd.DataFrame(actual(), DATES[:8], ["a", "b"]), "rows of 2024-01-01 00:00:00 to 2024-01-01 07:00:00, none"),
            (actual() * np.nan, "no value at the steps of the forecast"),
            (pd.DataFrame(actual(), DATES[48:].tz_localize("UTC"), ["a", "b"]), "dates without a time zone"),
            (pd.DataFrame(actual(), DATES[48:].repeat(2)[:8], ["a", "b"]).assign(a=range(8)), "'a' is both 0.0 and 1"),
            (object(), "actual: expected a frame or series"),
        ],
    )  # fmt: skip
    def test_rows(self, given: Any, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            forecast_of().score(given)

    def test_dates_for_a_forecast_without(self) -> None:
        with pytest.raises(ValueError, match="has dates, and the steps of the forecast are numbered 48 to 55"):
            forecast_of(None).score(pd.DataFrame(actual(), DATES[48:], ["a", "b"]))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"season_length": 0}, "season_length to be a positive integer or None, got 0"),
            ({"scale": 0.0}, "scale to be a positive finite number, or one for each of the 2 channels, got 0.0"),
            ({"scale": [1.0, 2.0, 3.0]}, "one for each of the 2 channels"),
            ({"scale": {"a": 1.0}}, "scale to name each channel, got none for b"),
            ({"scale": "train"}, "scale to be a positive finite number"),
            ({"location": [math.nan, 0.0]}, "location to be a finite number"),
            ({"history": np.zeros((9, 3))}, "history: expected rows of the 2 channels"),
        ],
    )
    def test_options(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            forecast_of().score(actual(), **options)

    def test_a_channel_called_all(self) -> None:
        law = forecast_of().joint_distribution
        with pytest.raises(ValueError, match="scores name the mean over channels 'all'"):
            Forecast("x", DATES[48:], ("a", "all"), "h", law).score(actual())

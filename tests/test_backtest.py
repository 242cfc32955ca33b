r"""Backtests of a process whose law is known: what is held back, what leaks, and that every figure is right."""

import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from calendars import times
from safetensors.torch import load_file, save_file
from seasonal import SeasonalModel

from adapts.adapter import Adapter
from adapts.calibration.joint_bands import JointBands
from adapts.copulas.gaussian import GaussianCopula
from adapts.copulas.independent import Independent
from adapts.data.cards import Dataset
from adapts.data.panel import Panel
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation import scores
from adapts.evaluation.backtest import format_table, roll, score_table
from adapts.evaluation.differences import METRICS
from adapts.evaluation.rolling import rolling_windows

MEMORY = 0.8


def ar1(steps, channels=2, seed=0):
    shocks = np.random.default_rng(seed).standard_normal((steps, channels))
    values = np.zeros((steps, channels))
    for step in range(1, steps):
        values[step] = MEMORY * values[step - 1] + shocks[step]
    return values


class KnownLaw:
    r"""Stands where an adapter does, with the true law of `ar1`; its frozen model is twice as wide."""

    season_length_ = None
    context_length_ = 20

    def __init__(self, prediction_length=6):
        self.prediction_length = prediction_length
        self.fits = []  # shared by all clones: the rows that each was fitted on

    def clone(self):
        other = KnownLaw(self.prediction_length)
        other.fits = self.fits
        return other

    def fit(self, series):
        panel = series if isinstance(series, Panel) else series.panel
        self.fits.append(series)
        rows = np.concatenate([item.values for item in panel.items])
        self.location_, self.scale_ = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
        return self

    def joint_distribution(self, windows, width=1.0):
        lead = torch.arange(1, self.prediction_length + 1)
        deviation = ((1 - MEMORY ** (2 * lead)) / (1 - MEMORY**2)).sqrt() * width
        mean = windows.past()[:, -1:] * MEMORY ** lead[:, None]  # (n, H, D)
        normal = torch.special.ndtri(torch.tensor(LEVELS))
        values = mean[..., None] + deviation[:, None, None] * normal
        return JointDistribution(QuantileFunction(LEVELS, values), Independent(*mean.shape[1:]))

    def zero_shot_distribution(self, windows):
        return self.joint_distribution(windows, width=2.0)


def overall(frame, model, metric, channel="all", lead_block="all"):
    chosen = frame[
        (frame[["model", "channel", "lead_block", "metric"]] == [model, channel, lead_block, metric]).all(axis=1)
    ]
    assert len(chosen) == 1
    return chosen["value"].item()


def in_any_units(frame):
    r"""The scores that a shift of the values leaves as they are: the WAPE divides by the values themselves."""
    return frame[frame["metric"] != "wape"]


def normal_law(mean, deviation, copula=None):
    normal = torch.special.ndtri(torch.tensor(LEVELS))
    values = mean[..., None] + deviation * normal
    return JointDistribution(QuantileFunction(LEVELS, values), copula or Independent(*mean.shape[1:]))


def rescaled(law, location, scale):
    return JointDistribution(law.marginals.rescaled(location, scale), law.copula)


class TestScoreTable:
    def table(self, laws, future, **options):
        options = {"channels": ["a", "b"], "scale": np.ones(2), "time": times(np.arange(len(future)) * 8), **options}
        return score_table(laws, future, **options)

    def test_a_point_forecast_by_hand(self):
        # Every quantile is 0 and the truth is 2 and -1: the errors themselves.
        future = torch.tensor([2.0, -1.0]).expand(10, 8, 2)
        point = JointDistribution(QuantileFunction(LEVELS, torch.zeros(10, 8, 2, len(LEVELS))), Independent(8, 2))
        frame = self.table({"point": point}, future)
        assert set(frame["lead_block"]) == {"all", "1-2", "3-4", "5-6", "7-8"}
        for block in set(frame["lead_block"]):
            for metric, a, b in [("mse", 4, 1), ("mae", 2, 1), ("crps", 2, 1), ("wql", 2, 1), ("width_80", 0, 0),
                                 ("coverage_80", 0, 0), ("pit_ece", 0.5, 0.5), ("pit_ks", 1, 1),
                                 ("interval_score_80", 20, 10)]:  # fmt: skip
                values = [overall(frame, "point", metric, channel, block) for channel in ("a", "b", "all")]
                assert values == pytest.approx([a, b, (a + b) / 2], abs=1e-3), metric
        # The truth is (2, -1) at 8 leads: its norm. Between channels |y_i - y_j|^.5 is sqrt(3), two ordered pairs.
        location = {"location": np.zeros(2)}
        assert overall(frame, "point", "energy_score") == pytest.approx(math.sqrt(8 * 5), abs=1e-3)
        assert overall(
            self.table({"point": point}, future, **location), "point", "variogram_channels"
        ) == pytest.approx(6)
        assert overall(frame, "point", "variogram_time") == pytest.approx(0)
        assert overall(frame, "point", "crps_sum") == pytest.approx(1, abs=1e-3)  # totals of 1 where 0 was forecast

    def test_right_law_beats_wrong_ones(self):
        y = torch.randn(400, 8, 2)
        laws = {name: normal_law(torch.zeros(400, 8, 2), d) for name, d in (("narrow", 0.5), ("right", 1), ("wide", 2))}
        frame = self.table(laws, y)
        for metric in ("crps", "wql", "interval_score_80", "pit_ece", "pit_ks", "energy_score", "variogram_channels",
                       "variogram_time", "crps_sum"):  # fmt: skip
            values = {name: overall(frame, name, metric) for name in laws}
            assert min(values, key=values.get) == "right", metric
        assert overall(frame, "narrow", "coverage_80") < 0.55 < 0.78 < overall(frame, "right", "coverage_80") < 0.82
        assert overall(frame, "wide", "coverage_80") > 0.97
        assert overall(frame, "right", "width_80") == pytest.approx(2 * 1.2816, rel=1e-3)
        assert overall(frame, "right", "crps") == pytest.approx(1 / math.sqrt(math.pi), rel=0.03)
        assert overall(frame, "right", "pit_ece") < 2 * overall(frame, "right", "pit_ece_floor") < 0.02

    def test_dependence_is_seen_by_variograms(self):
        paths = torch.randn(300, 8, 2) * 0.5 + torch.randn(300, 8, 1) * math.sqrt(0.75)
        correlation = torch.tensor([[1.0, 0.75], [0.75, 1.0]])
        mean = torch.zeros(300, 8, 2)
        laws = {
            "joint": normal_law(mean, 1.0, GaussianCopula(correlation, torch.eye(8))),
            "alone": normal_law(mean, 1.0),
        }
        frame = self.table(laws, paths)
        assert overall(frame, "joint", "variogram_channels") < 0.9 * overall(frame, "alone", "variogram_channels")
        assert overall(frame, "joint", "crps") == pytest.approx(overall(frame, "alone", "crps"), rel=0.01)

    def test_units(self):
        y, scale = torch.randn(50, 8, 2), np.array([10.0, 0.1])
        by = torch.from_numpy(scale).float()
        plain = self.table({"m": normal_law(torch.zeros(50, 8, 2), 1.0)}, y)
        law = rescaled(normal_law(torch.zeros(50, 8, 2), 1.0), torch.tensor([1000.0, 0.0]), by)
        scaled = self.table({"m": law}, y * by + torch.tensor([1000.0, 0.0]), scale=scale)
        values = [in_any_units(frame)["value"].to_numpy() for frame in (scaled, plain)]
        assert values[0] == pytest.approx(values[1], rel=2e-3, abs=1e-3, nan_ok=True)

    @pytest.mark.parametrize(("shift", "factor"), [(1e8, 1.0), (0.0, 1000.0), (1e8, 1e-3)])
    def test_other_units_give_the_same_scores(self, shift, factor):
        y = torch.randn(50, 8, 2, dtype=torch.float64)
        law = normal_law(torch.zeros_like(y), 1.0)
        errors = np.full((50, 2), 0.7)
        plain = self.table({"m": law}, y, naive_error=errors)
        other = self.table(
            {"m": rescaled(law, shift, factor)}, y * factor + shift, scale=np.full(2, factor),
            naive_error=errors * factor,
        )  # fmt: skip
        if shift:  # the WAPE counts from zero
            plain, other = in_any_units(plain), in_any_units(other)
        # At 1e8 a double resolves 1e-8, a hundred-thousandth of the smallest scale.
        assert other["value"].to_numpy() == pytest.approx(plain["value"].to_numpy(), rel=1e-3, abs=1e-3)

    def test_no_channel_is_called_all(self):
        y = torch.randn(9, 8, 2)
        with pytest.raises(ValueError, match="which is the name of a channel too: give it another name"):
            self.table({"m": normal_law(torch.zeros_like(y), 1.0)}, y, channels=["a", "all"])

    def test_a_constant_channel_has_no_calibration(self):
        y = torch.randn(60, 8, 2)
        y[..., 1] = 5.0
        laws = {"m": normal_law(torch.tensor([0.0, 5.0]).expand(60, 8, 2), torch.tensor([[1.0], [1e-6]]))}
        frame = self.table(laws, y, varies=np.array([True, False]))
        for metric in ("coverage_80", "pit_ece", "pit_ece_floor", "pit_ks", "pit_ks_floor"):
            assert math.isnan(overall(frame, "m", metric, "b"))
            assert overall(frame, "m", metric) == overall(frame, "m", metric, "a")
        assert overall(frame, "m", "mse", "b") == pytest.approx(0, abs=1e-9)  # the other scores stay
        assert overall(frame, "m", "mse") == pytest.approx(overall(frame, "m", "mse", "a") / 2)

    def test_missing_cells_are_skipped(self):
        y = torch.randn(60, 8, 2)
        y[:30, :, 0] = math.nan
        laws = {"m": normal_law(torch.zeros(60, 8, 2), 1.0)}
        frame = self.table(laws, y)
        assert overall(frame, "m", "mse", "a") == pytest.approx(y[30:, :, 0].square().mean().item(), rel=1e-4)
        assert overall(frame, "m", "mse") == pytest.approx(
            (overall(frame, "m", "mse", "a") + overall(frame, "m", "mse", "b")) / 2
        )
        y[:, :, 0] = math.nan  # a channel of which nothing came: the mean is over the other
        frame = self.table(laws, y)
        assert math.isnan(overall(frame, "m", "crps", "a"))
        assert overall(frame, "m", "crps") == overall(frame, "m", "crps", "b")

    def test_one_channel_one_lead(self):
        frame = self.table(
            {"m": normal_law(torch.zeros(9, 1, 1), 1.0)}, torch.randn(9, 1, 1), channels=["a"], scale=np.ones(1)
        )
        assert math.isnan(overall(frame, "m", "variogram_time")) and math.isnan(
            overall(frame, "m", "variogram_channels")
        )
        assert set(frame["lead_block"]) == {"all"}

    def test_same_seed_same_numbers(self):
        laws, y = {"m": normal_law(torch.zeros(70, 8, 2), 1.0)}, torch.randn(70, 8, 2)
        pd.testing.assert_frame_equal(self.table(laws, y), self.table(laws, y))
        assert not self.table(laws, y).equals(self.table(laws, y, seed=1))


class TestRollingWindows:
    panel = Panel.of([np.arange(60.0)[:, None], np.arange(40.0)[:, None]])

    def test_origins(self):
        windows = rolling_windows(self.panel, [48, 25], None, 5, 10, 4)
        assert windows.item.tolist() == [0, 0, 1, 1, 1]
        assert windows.origin.tolist() == [48, 53, 25, 30, 35]
        assert windows.future()[1, :, 0].tolist() == [53, 54, 55, 56]

    def test_number_of_windows(self):
        assert rolling_windows(self.panel, 20, 2, 5, 10, 4).origin.tolist() == [20, 25, 20, 25]


class TestHeldBack:
    values = ar1(400)
    dates = pd.date_range("2024-01-01", periods=400, freq="h")

    def rolled(self, series, adapter=None, **options):
        return roll(adapter or KnownLaw(), series, **{"baselines": False, "num_samples": 10, **options})

    def test_the_last_fifth(self):
        adapter = KnownLaw()
        rolled = self.rolled(Panel.of(self.values), adapter)
        assert adapter.fits[0].lengths == (320,) and len(adapter.fits) == 1
        # Origins 6 apart would be 13 of them: closer, so that there are 20 or more.
        assert rolled.windows.origin[0] == 320 and rolled.stride == 3 and len(rolled.windows) == 25
        assert rolled.windows.origin[-1] + 6 <= 400

    def test_many_rows_are_thinned_out(self):
        rolled = self.rolled(Panel.of(ar1(10_000)))
        assert 180 < len(rolled.windows) <= 200 and rolled.stride == 10

    @pytest.mark.parametrize(
        ("frequency", "horizon", "rows", "options", "stride"),
        [
            ("h", 24, 3000, {}, 23),
            ("h", 24, 3000, {"windows": 10}, 23),
            ("h", 48, 6000, {}, 47),
            ("h", 24, 30_000, {}, 31),  # 30 would make 200 windows at most
            ("15min", 96, 12_000, {}, 95),
            ("D", 14, 2000, {}, 13),
            ("D", 30, 4000, {}, 30),
            ("MS", 12, 1500, {}, 11),
            ("h", 24, 3000, {"season_length": 23}, 24),
            ("h", 24, 3000, {"stride": 24}, 24),
            (None, 24, 3000, {}, 24),
        ],
    )
    def test_the_default_stride_goes_round_the_season(self, frequency, horizon, rows, options, stride):
        rows_of = np.sin(np.arange(rows))[:, None]
        if frequency is not None:
            rows_of = pd.DataFrame(rows_of, pd.date_range("1900-01-01", periods=rows, freq=frequency))
        adapter = KnownLaw()
        adapter.prediction_length = horizon
        assert self.rolled(Panel.of(rows_of), adapter, **options).stride == stride

    def test_windows_begin_at_every_hour(self):
        dates = pd.date_range("2024-01-01", periods=3200, freq="h")
        adapter = KnownLaw()
        adapter.prediction_length = 24
        windows = self.rolled(Panel.of(pd.DataFrame({"a": np.sin(np.arange(3200))}, dates)), adapter).windows
        hours = np.bincount(dates[windows.origin].hour, minlength=24)
        assert hours.max() - hours.min() <= 1 and (np.diff(windows.origin) < 24).all()

    def test_windows_and_stride(self):
        adapter = KnownLaw()
        rolled = self.rolled(Panel.of(self.values), adapter, windows=4, stride=10)
        assert rolled.windows.origin.tolist() == [364, 374, 384, 394]
        assert adapter.fits[0].lengths == (364,)

    def test_borders_of_a_card(self):
        adapter = KnownLaw()
        data = Dataset("card", Panel.of(self.values), borders=(200, 300), end=360)
        rolled = self.rolled(data, adapter, stride=6)
        assert adapter.fits[0].panel.lengths == (300,) and adapter.fits[0].borders == (200, 300)
        assert rolled.windows.origin.tolist() == list(range(300, 355, 6))
        # More windows than the test rows hold: the card's borders lie behind the first origin and mean nothing.
        self.rolled(data, adapter, windows=20, stride=6)
        assert adapter.fits[1].panel.lengths == (240,) and adapter.fits[1].borders is None

    def test_items_are_cut_at_one_date(self):
        late = pd.DataFrame(self.values[:150], self.dates[250:])
        early = pd.DataFrame(self.values[:300], self.dates[:300])
        adapter = KnownLaw()
        rolled = self.rolled(Panel.of([pd.DataFrame(self.values, self.dates), late, early]), adapter, stride=6)
        assert adapter.fits[0].lengths == (320, 70, 300)
        assert set(rolled.windows.item) == {0, 1}
        windows = rolled.windows
        dates = [windows.panel.items[i].index[o] for i, o in zip(windows.item, windows.origin, strict=True)]
        assert min(dates) == self.dates[320] and pd.Index(dates).is_monotonic_increasing

    def test_nothing_of_the_future_reaches_the_fit(self):
        poisoned = self.values.copy()
        poisoned[320:] = 1e9
        clean, dirty = KnownLaw(), KnownLaw()
        self.rolled(Panel.of(self.values), clean)
        self.rolled(Panel.of(poisoned), dirty)
        assert np.array_equal(clean.fits[0].items[0].values, dirty.fits[0].items[0].values)

    def test_refit_sees_no_row_of_an_item_that_begins_later_before_its_time(self):
        def ragged(values):
            cuts = slice(0, 400), slice(150, 400), slice(341, 400), slice(0, 200)
            return Panel.of([pd.DataFrame(values[cut], self.dates[cut]) for cut in cuts])

        adapter, poisoned = KnownLaw(), self.values.copy()
        rolled = self.rolled(ragged(self.values), adapter, windows=10, stride=8, refit=True)
        windows = rolled.windows
        firsts = 400 - 6 - 8 * np.arange(9, -1, -1)  # the rows of the origins
        ends = [max(item.index[-1] for item in fit.items) for fit in adapter.fits]
        assert ends == [self.dates[first - 1] for first in firsts]
        begun = [fit.lengths for fit in adapter.fits]
        assert begun[0] == (322, 172, 200) and begun[2:4] == [(338, 188, 200), (346, 196, 5, 200)]
        dates = [windows.panel.items[i].index[o] for i, o in zip(windows.item, windows.origin, strict=True)]
        assert set(dates) == {self.dates[first] for first in firsts}  # late items stand where the others do
        assert (np.diff(windows.time.step) >= 0).all() and set(windows.item) == {0, 1, 2}
        poisoned[360:] = 1e3
        again = KnownLaw()
        self.rolled(ragged(poisoned), again, windows=10, stride=8, refit=True)
        for fit, other, first in zip(adapter.fits, again.fits, firsts, strict=True):
            same = all(np.array_equal(a.values, b.values) for a, b in zip(fit.items, other.items, strict=True))
            assert same == (first <= 360)

    def test_borders_count_rows_of_the_calendar(self):
        early, late = (pd.DataFrame(self.values[cut], self.dates[cut]) for cut in (slice(0, 150), slice(140, 400)))
        adapter = KnownLaw()
        self.rolled(Dataset("card", Panel.of([early, late]), borders=(200, 300), end=None), adapter, stride=6)
        assert adapter.fits[0].panel.lengths == (150, 160) and adapter.fits[0].borders == (200, 300)

    @pytest.mark.parametrize("stagger", [0, 37])
    def test_floors_of_items_that_begin_at_different_dates(self, stagger):
        # Copies of one series know no more than the series, wherever each begins.
        copies = [pd.DataFrame(self.values[k * stagger :], self.dates[k * stagger :]) for k in range(4)]
        frames = [self.rolled(Panel.of(some), stride=6).frame for some in (copies, copies[:1])]
        for metric in ("pit_ece_floor", "pit_ks_floor"):
            many, one = (overall(frame, "adapter", metric) for frame in frames)
            assert many == pytest.approx(one, rel=0.1)

    def test_refit_before_every_origin(self):
        adapter = KnownLaw()
        data = Dataset("card", Panel.of(self.values), borders=(200, 300), end=400)
        once = self.rolled(data, KnownLaw(), stride=20)
        again = self.rolled(data, adapter, stride=20, refit=True)
        assert [fit.panel.lengths[0] for fit in adapter.fits] == [300, 320, 340, 360, 380]
        assert [fit.borders for fit in adapter.fits] == [(200, 300), None, None, None, None]
        for metric in ("mse", "mae", "wql", "coverage_80", "width_80"):  # KnownLaw learns nothing
            assert overall(once.frame, "adapter", metric) == pytest.approx(overall(again.frame, "adapter", metric))

    def test_the_adapter_stays_as_it_is(self):
        adapter = KnownLaw()
        self.rolled(Panel.of(self.values), adapter)
        assert not hasattr(adapter, "scale_")

    def test_scale(self):
        panel = Panel.of(self.values * [1, 100])
        plain, scaled = (self.rolled(panel, scale=scale).frame for scale in ("none", "train"))
        ratio = overall(plain, "adapter", "mae", "1") / overall(scaled, "adapter", "mae", "1")
        assert ratio == pytest.approx(np.std(self.values[:320, 1]) * 100)
        ratio = overall(plain, "adapter", "mse", "1") / overall(scaled, "adapter", "mse", "1")
        assert ratio == pytest.approx(np.var(self.values[:320, 1]) * 100**2)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"scale": "test"}, "scale to be 'train' or 'none', got 'test'"),
            ({"windows": 0}, "windows to be a positive integer or None, got 0"),
            ({"stride": -1}, "stride to be a positive integer or None, got -1"),
            ({"windows": 70}, "the series has 400 steps, at least 438 are needed for 70 windows of 6 steps held out"),
        ],
    )
    def test_errors(self, options, words):
        with pytest.raises(ValueError, match=words):
            self.rolled(Panel.of(self.values), **options)

    def test_too_short(self):
        with pytest.raises(ValueError, match="the series has 20 steps, at least 24 are needed"):
            self.rolled(Panel.of(self.values[:20]))

    def test_no_window_between_the_borders(self):
        with pytest.raises(ValueError, match="the 4 held-out rows contain no window of prediction_length=6"):
            self.rolled(Dataset("card", Panel.of(self.values), borders=(200, 396)))

    def test_nothing_came_true(self):
        values = self.values.copy()
        values[320:] = math.nan
        with pytest.raises(ValueError, match="no value to score"):
            self.rolled(Panel.of(values))


class TestBacktest:
    @pytest.mark.parametrize(("shift", "factor"), [(1e8, 1.0), (0.0, 1000.0)])
    def test_an_adapter_in_other_units(self, shift, factor):
        values = ar1(300)
        adapter = Adapter("identity", prediction_length=4, context_length=32)
        plain, other = (
            roll(adapter, Panel.of(each), windows=10, baselines=False).frame
            for each in (values, values * factor + shift)
        )
        joined = in_any_units(plain)["value"].to_numpy(), in_any_units(other)["value"].to_numpy()
        assert joined[1] == pytest.approx(joined[0], rel=1e-3, abs=1e-4)

    def test_no_channel_is_called_all(self):
        adapter = KnownLaw()
        with pytest.raises(ValueError, match="scores name the mean over channels 'all'"):
            roll(adapter, Panel.of(pd.DataFrame(ar1(400), columns=["all", "b"])))
        assert not adapter.fits  # refused before any work

    def test_a_constant_channel_has_no_calibration(self):
        values = ar1(600, channels=3)
        values[:, 1] = 101325.3  # ever the same
        values[480:, 2] = 0.0  # constant only while held back: a law may well be wrong about it
        rolled = roll(KnownLaw(), Panel.of(values))
        for model, pit in rolled.pits.items():
            assert pit[..., 1].isnan().all() and not pit[..., [0, 2]].isnan().any()
            for metric in ("coverage_80", "coverage_80_calm", "pit_ece", "pit_ece_floor", "pit_ks", "pit_ks_floor"):
                means = [overall(rolled.frame, model, metric, channel) for channel in ("0", "2")]
                assert overall(rolled.frame, model, metric) == pytest.approx(np.mean(means))
                assert math.isnan(overall(rolled.frame, model, metric, "1"))
        assert "nan" not in format_table(rolled.frame)

    @pytest.mark.parametrize(("shift", "factor"), [(1e8, 1.0), (0.0, 1000.0)])
    def test_other_units_give_the_same_scores(self, shift, factor):
        values = ar1(600)
        plain, other = (
            in_any_units(roll(KnownLaw(), Panel.of(each)).frame) for each in (values, values * factor + shift)
        )
        naive = plain["model"].isin(["last value", "seasonal naive"])  # the known law knows one unit only
        assert other["value"][naive].to_numpy() == pytest.approx(plain["value"][naive].to_numpy(), rel=1e-4, abs=1e-6)

    def test_the_true_law_wins_and_is_calibrated(self):
        told = []
        rolled = roll(KnownLaw(), Panel.of(ar1(6000)), on_progress=told.append)
        frame = rolled.frame
        models = ["adapter", "frozen model", "last value", "seasonal naive"]
        assert list(frame["model"].unique()) == models and list(rolled.pits) == models
        assert list(frame.columns) == ["model", "channel", "lead_block", "metric", "value"]
        assert set(frame["channel"]) == {"0", "1", "all"}
        crps = {model: overall(frame, model, "crps") for model in models}
        assert min(crps, key=crps.get) == "adapter"
        assert overall(frame, "adapter", "coverage_80") == pytest.approx(0.8, abs=0.03)
        assert overall(frame, "last value", "coverage_80") == pytest.approx(0.8, abs=0.05)
        assert overall(frame, "frozen model", "coverage_80") > 0.95
        assert overall(frame, "adapter", "pit_ece") < 2.5 * overall(frame, "adapter", "pit_ece_floor")
        assert overall(frame, "frozen model", "pit_ece") > 4 * overall(frame, "frozen model", "pit_ece_floor")
        assert overall(frame, "frozen model", "mse") == pytest.approx(overall(frame, "adapter", "mse"), rel=1e-4)
        assert told == ["fit", *(f"score {model}" for model in models)]

    def test_is_the_table_of_its_windows(self):
        adapter, panel = KnownLaw(), Panel.of(ar1(1000))
        rolled = roll(adapter, panel)
        laws = {"adapter": rolled.adapter.joint_distribution(rolled.windows)}
        naive = np.abs(np.diff(panel.items[0].values[:800], axis=0)).mean(0)  # on the rows before the first origin
        frame = score_table(
            laws, rolled.windows.future(), channels=panel.channels, scale=rolled.adapter.scale_,
            location=rolled.adapter.location_, time=rolled.windows.time, past=rolled.windows.past(),
            naive_error=np.tile(naive, (len(rolled.windows), 1)),
        )  # fmt: skip
        pd.testing.assert_frame_equal(frame, rolled.frame[rolled.frame["model"] == "adapter"].reset_index(drop=True))

    def test_season_of_the_naive(self):
        hours = np.arange(2000)
        season = np.sin(2 * np.pi * hours / 24)[:, None] + 0.01 * np.random.randn(2000, 1)
        index = pd.date_range("2024", periods=2000, freq="h")
        panel = Panel.of(pd.DataFrame(season, index, columns=["x"]))
        options = {"windows": 10, "num_samples": 10}
        # The context of 20 is shorter than the day, which the naive forecast sees all the same.
        assert overall(roll(KnownLaw(), panel, **options).frame, "seasonal naive", "mae") < 0.05
        assert overall(roll(KnownLaw(), panel, season_length=7, **options).frame, "seasonal naive", "mae") > 0.3
        card = replace(Dataset("card", panel), season_length=24)
        assert overall(roll(KnownLaw(), card, **options).frame, "seasonal naive", "mae") < 0.05


class TestRatios:
    r"""MASE and WAPE: scores that divide errors by something else than a scale."""

    def medians(self, rolled):
        return rolled.adapter.joint_distribution(rolled.windows).marginals.at([0.5])[..., 0].double().numpy()

    def test_a_table_by_hand(self):
        future = torch.tensor([[2.0, -1.0], [4.0, -3.0]]).repeat_interleave(8, 0).view(2, 8, 2).double()
        future[1, :4, 0] = math.nan
        point = JointDistribution(QuantileFunction(LEVELS, torch.zeros(2, 8, 2, len(LEVELS))), Independent(8, 2))
        frame = score_table(
            {"m": point}, future, channels=["a", "b"], scale=np.array([100.0, 7.0]), time=times(np.arange(2) * 8),
            naive_error=np.array([[1.0, 2.0], [4.0, math.nan]]),
        )  # fmt: skip
        # Errors are 2 (eight cells) over 1, and 4 (four cells) over 4; those of b are 1 over 2, and 3 over nothing.
        assert overall(frame, "m", "mase", "a") == pytest.approx((8 * 2 + 4 * 1) / 12)
        assert overall(frame, "m", "mase", "a", "1-2") == pytest.approx(2)
        assert overall(frame, "m", "mase", "b") == pytest.approx(0.5)
        assert overall(frame, "m", "mase") == pytest.approx((20 / 12 + 0.5) / 2)
        assert overall(frame, "m", "wape", "a") == overall(frame, "m", "wape", "b") == pytest.approx(1)  # of zero
        assert overall(frame, "m", "wape") == pytest.approx(1)

    def test_a_ratio_of_sums_is_no_mean_of_ratios(self):
        future = torch.tensor([1.0, 9.0]).view(2, 1, 1)
        values = torch.tensor([3.0, 9.0]).view(2, 1, 1, 1).expand(2, 1, 1, len(LEVELS))  # wrong by 2, and right
        frame = score_table(
            {"m": JointDistribution(QuantileFunction(LEVELS, values), Independent(1, 1))}, future, channels=["a"],
            scale=np.ones(1), time=times(np.arange(2)),
        )  # fmt: skip
        assert overall(frame, "m", "wape") == pytest.approx(2 / 10)
        assert math.isnan(overall(frame, "m", "mase"))  # no rows before the windows are known

    @pytest.mark.parametrize("scale", ["train", "none"])
    def test_of_a_backtest(self, scale):
        values = ar1(400) * [1.0, 50.0] + [3.0, 0.0]
        rows = np.arange(400)
        values[(rows % 7 == 0) & (rows % 3 != 1), 0] = math.nan  # not the last rows of contexts, which the law needs
        rolled = roll(KnownLaw(), Panel.of(values), stride=3, season_length=5, num_samples=10, scale=scale)
        truth = rolled.windows.future(torch.float64).numpy()
        error = np.abs(truth - self.medians(rolled))
        naive = np.nanmean(np.abs(values[5:320] - values[:315]), axis=0)
        for number, channel in enumerate("01"):
            mase = np.nanmean(error[..., number]) / naive[number]
            wape = np.nansum(error[..., number]) / np.nansum(np.abs(truth[..., number]))
            assert overall(rolled.frame, "adapter", "mase", channel) == pytest.approx(mase, rel=1e-5)
            assert overall(rolled.frame, "adapter", "wape", channel) == pytest.approx(wape, rel=1e-5)
        by_lead = np.nansum(error, axis=0) / np.nansum(np.abs(truth), axis=0)
        np.testing.assert_allclose(rolled.by_lead("wape")["adapter"], by_lead.mean(1), rtol=1e-5)

    def test_each_item_has_its_own_naive_error(self):
        index = pd.date_range("2024", periods=400, freq="h")
        values, late = ar1(400), ar1(79, seed=1)
        items = [pd.DataFrame(values, index), pd.DataFrame(1e3 * values, index), pd.DataFrame(late, index[321:])]
        panel = Panel.of(items)
        rolled = roll(KnownLaw(), panel, season_length=1, num_samples=10, baselines=False)
        mase, mae = (rolled.scores["adapter"][name] for name in ("mase", "mae"))
        scale = torch.from_numpy(rolled.adapter.scale_)
        item = torch.from_numpy(rolled.windows.item)
        for number, factor in ((0, 1.0), (1, 1e3)):
            naive = torch.from_numpy(np.abs(np.diff(values[:320], axis=0)).mean(0)) * factor
            torch.testing.assert_close(mase[item == number], mae[item == number] * scale / naive)
        assert (item == 2).any() and mase[item == 2].isnan().all()  # it begins after the first origin
        assert not mae[item == 2].isnan().any()

    def test_channels_without_a_denominator(self):
        values = ar1(400, channels=3)
        values[:320, 1] = 5.0  # nothing to divide by, though it varies later
        values[:, 2] = 0.0
        rolled = roll(KnownLaw(), Panel.of(values), num_samples=10)
        for model in rolled.scores:
            mase, wape = (
                [overall(rolled.frame, model, m, c) for c in ("0", "1", "2", "all")] for m in ("mase", "wape")
            )
            assert [math.isnan(value) for value in mase] == [False, True, True, False] and mase[3] == mase[0]
            assert [math.isnan(value) for value in wape] == [False, False, True, False]
            assert wape[3] == pytest.approx((wape[0] + wape[1]) / 2)
        table = rolled.differences(metrics=["mase", "wape"])
        undefined = table[table["difference"].isna()]
        assert set(zip(undefined["metric"], undefined["channel"], strict=True)) == {
            ("mase", "1"), ("mase", "2"), ("wape", "2"),
        }  # fmt: skip

    @pytest.mark.parametrize("windows", [1, 6])
    def test_gluonts_finds_the_same(self, windows):
        from gluonts.dataset.split import OffsetSplitter
        from gluonts.ev.metrics import MASE, ND
        from gluonts.model.evaluation import evaluate_forecasts
        from gluonts.model.forecast import QuantileForecast

        index = pd.date_range("2024", periods=400, freq="h")
        frame = pd.DataFrame(ar1(400) + [0.0, 20.0], index)
        rolled = roll(KnownLaw(), Panel.of(frame), windows=windows, stride=6, num_samples=10)
        for number in range(2):
            entry = {"start": index[0].to_period("h"), "target": frame[number].to_numpy()}
            _, template = OffsetSplitter(offset=-6 * windows).split([entry])
            test = template.generate_instances(6, windows=windows, distance=6)
            starts = [index[origin].to_period("h") for origin in rolled.windows.origin]
            medians = self.medians(rolled)[:, None, :, number]  # (n, 1, H)
            forecasts = [QuantileForecast(*each, ["0.5"]) for each in zip(medians, starts, strict=True)]
            found = evaluate_forecasts(forecasts, test_data=test, metrics=[MASE(), ND()], axis=None, seasonality=24)
            wape, mase = (overall(rolled.frame, "adapter", name, str(number)) for name in ("wape", "mase"))
            assert wape == pytest.approx(found["ND[0.5]"].item(), rel=1e-5)
            # gluonts divides by the error on all rows before each window, we by that before the first.
            assert mase == pytest.approx(found["MASE[0.5]"].item(), rel=1e-5 if windows == 1 else 0.02)


class TestRegimes:
    def rolled(self):
        # Shocks of one and of three, in turns of 60 rows; the law knows the mean of both only.
        shocks = np.random.default_rng(0).standard_normal((3000, 2)) * np.repeat([1, 3] * 25, 60)[:, None] / 5**0.5
        values = np.zeros((3000, 2))
        for step in range(1, 3000):
            values[step] = MEMORY * values[step - 1] + shocks[step]
        return roll(KnownLaw(), Panel.of(values), windows=300, baselines=["frozen model"])

    def test_a_law_of_one_width_is_found_out(self):
        rolled = self.rolled()
        calm, volatile, both = (
            overall(rolled.frame, "adapter", f"coverage_80{of}") for of in ("_calm", "_volatile", "")
        )
        assert both == pytest.approx(0.8, abs=0.05) and calm > 0.9 and volatile < 0.72
        assert (calm + volatile) / 2 == pytest.approx(both)  # half of the windows each
        for block in ("calm", "volatile"):
            cells = rolled.scores["adapter"][f"coverage_80_{block}"]
            assert cells.isnan().all(1).sum(0).tolist() == [150, 150]

    def test_all_that_are_means_have_differences(self):
        rolled = self.rolled()
        table = rolled.differences().query("channel == 'all'").set_index("metric")
        assert set(table.index) == set(METRICS) and table["low"].notna().all()
        for metric in METRICS:
            one, other = (overall(rolled.frame, model, metric) for model in ("adapter", "frozen model"))
            assert table.loc[metric, "difference"] == pytest.approx(one - other, abs=1e-6), metric
        assert table.loc["coverage_80_volatile", "high"] < 0  # the frozen model is twice as wide


class Faulty(SeasonalModel):
    r"""A frozen model that breaks down after some calls, all clones counted together."""

    left = math.inf

    def _forecast(self, context):
        if Faulty.left <= 0:
            raise RuntimeError("broke down")
        Faulty.left -= 1
        return super()._forecast(context)


def dated(steps=400, channels=2, seed=0):
    season = np.sin(2 * np.pi * np.arange(steps) / 12)[:, None]
    index = pd.date_range("2024-01-01", periods=steps, freq="h")
    return pd.DataFrame(season + 0.3 * ar1(steps, channels, seed), index, [f"c{n}" for n in range(channels)])


def small(family="identity", model=None, **options):
    options = {"prediction_length": 6, "context_length": 36, "max_windows": 60, **options}
    return Adapter(family, foundation_model=model or SeasonalModel(), **options)


class TestSeveralModels:
    def test_each_row_is_that_of_the_model_alone(self):
        panel = Panel.of(dated())
        models = {"a": small("residual"), "b": small(recalibration="none", gate=False)}
        told = []
        both = roll(models, panel, windows=8, on_progress=told.append)
        names = ["a", "b", "frozen model", "last value", "seasonal naive"]
        assert list(both.frame["model"].unique()) == names == list(both.pits) == list(both.scores)
        assert told == ["fit a", "fit b", *(f"score {name}" for name in names)]
        assert both.adapter is both.adapters["a"] and list(both.adapters) == ["a", "b"]
        for name, model in models.items():
            alone = roll(model, panel, windows=8).frame
            one = alone[alone["model"] == "adapter"].drop(columns="model").reset_index(drop=True)
            other = both.frame[both.frame["model"] == name].drop(columns="model").reset_index(drop=True)
            pd.testing.assert_frame_equal(one, other)

    def test_baselines_by_name(self):
        panel = Panel.of(dated())
        usual = roll(KnownLaw(), panel, windows=8).frame
        every = roll(KnownLaw(), panel, windows=8, baselines="all").frame
        names = ["adapter", "frozen model", "last value", "seasonal naive", "drift", "nlinear", "dlinear", "var"]
        assert list(every["model"].unique()) == names
        pd.testing.assert_frame_equal(every[every["model"].isin(usual["model"])].reset_index(drop=True), usual)
        assert not every.loc[every["channel"] != "all", "value"].isna().any()
        some = roll(KnownLaw(), panel, windows=8, baselines=["drift", "last value", "drift"]).frame
        assert list(some["model"].unique()) == ["adapter", "drift", "last value"]

    @pytest.mark.parametrize(
        ("models", "options", "words"),
        [
            (KnownLaw(), {"baselines": ["seasonal naiv"]}, r"no baseline .* \(did you mean 'seasonal naive'\?\)"),
            (KnownLaw(), {"baselines": "nlinaer"}, r"no baseline .* \(did you mean 'nlinear'\?\)"),
            ([KnownLaw()], {}, "expects an Adapter, or a mapping of names to Adapters, got list"),
            ({"a": "residual"}, {}, "expects an Adapter, or a mapping of names to Adapters, got str for 'a'"),
            (KnownLaw, {}, "mapping of names to Adapters, got KnownLaw, which is a class"),
            ({}, {}, "mapping of names to Adapters, got an empty mapping"),
            ({"a": KnownLaw(6), "b": KnownLaw(7)}, {}, "their prediction_length differs: 'a' 6, 'b' 7"),
            ({"last value": KnownLaw()}, {}, "a model has the name of the baseline 'last value'"),
            (KnownLaw(), {"num_samples": 1}, "num_samples to be an integer of at least 2, got 1"),
            (KnownLaw(), {"windows": 2.5}, "windows to be a positive integer or None, got 2.5"),
        ],
    )
    def test_errors(self, models, options, words):
        with pytest.raises(ValueError, match=words):
            roll(models, Panel.of(dated()), **options)

    def test_a_free_name_of_a_baseline_is_taken(self):
        frame = roll({"drift": KnownLaw()}, Panel.of(dated()), windows=4, baselines=False).frame
        assert set(frame["model"]) == {"drift"}


class TestForecasts:
    def test_are_those_that_were_scored(self):
        frame = dated()
        late = dated(300, seed=1).set_index(frame.index[100:])
        rolled = roll(small(), Panel.of([frame, late]), windows=5, forecasts=True)
        windows, truth = rolled.windows, rolled.windows.future().double()
        assert len(windows) == 10 and list(rolled.forecasts) == list(rolled.pits)
        for model, forecasts in rolled.forecasts.items():
            assert len(forecasts) == 10
            for number, forecast in enumerate(forecasts):
                item = windows.panel.items[windows.item[number]]
                rows = slice(windows.origin[number], windows.origin[number] + 6)
                assert forecast.item_id == item.item_id and forecast.index.equals(item.index[rows])
                assert forecast.history.index[-1] < forecast.index[0] and forecast.channels == ("c0", "c1")
                error = (torch.from_numpy(forecast.mean) - truth[number]) / torch.from_numpy(rolled.adapter.scale_)
                assert error.square().numpy() == pytest.approx(rolled.scores[model]["mse"][number].numpy(), abs=1e-6)
        first, second = rolled.forecasts["last value"][:2]
        assert not np.array_equal(first.samples - first.mean, second.samples - second.mean)

    def test_joint_bands_are_those_of_predict(self, tmp_path):
        frame = dated(1200)
        options = {"windows": 1, "baselines": ["frozen model"], "forecasts": True, "checkpoint_dir": tmp_path}
        rolled, again = (roll(small(), Panel.of(frame), **options) for _ in range(2))
        predicted = rolled.adapter.predict(frame[:-6])
        for joint in ("time", "channels", "all"):
            band = predicted.band(0.7, joint)
            for forecast in (rolled.forecasts["adapter"][0], again.forecasts["adapter"][0]):
                assert np.allclose(forecast.band(0.7, joint), band)
        plain = replace(predicted, bands=JointBands())
        assert not np.allclose(plain.band(0.7), predicted.band(0.7))  # made of the law's own draws
        assert not rolled.forecasts["frozen model"][0].bands.scores

    def test_joint_bands_are_the_same_in_any_units(self):
        frame = dated(1200)
        frame.iloc[::40] += 20.0  # far beyond the outer quantiles, where bands reach by the scale of the tails
        both = [small().fit(some[:1100]) for some in (frame, 1000 * frame + 5)]
        for later in (False, True):
            if later:
                both = [each.update(some) for each, some in zip(both, (frame, 1000 * frame + 5), strict=True)]
            for joint in ("time", "channels", "all"):
                own, other = (each.predict().band(0.9, joint) for each in both)
                assert np.allclose(1000 * np.array(own) + 5, other, rtol=1e-3)
                assert joint == "channels" or (own[1] - own[0]).max() > 15

    def test_none_unless_asked_for(self):
        assert roll(KnownLaw(), Panel.of(dated()), windows=3).forecasts is None

    def test_too_many_to_keep(self):
        panel = Panel.of(np.zeros((20_000, 300)))
        with pytest.raises(ValueError, match=r"would take .* GB, at most 4 GB are allowed: use fewer windows"):
            roll(KnownLaw(), panel, stride=1, forecasts=True)


class TestByLead:
    def test_means_over_windows_then_channels(self):
        rolled = roll(KnownLaw(12), Panel.of(ar1(900)))
        curves = rolled.by_lead("mae")
        assert list(curves) == list(rolled.pits) and curves["adapter"].shape == (12,)
        for model, curve in curves.items():
            assert curve.mean().item() == pytest.approx(overall(rolled.frame, model, "mae"))
            block = overall(rolled.frame, model, "mae", lead_block="4-6")
            assert curve[3:6].mean().item() == pytest.approx(block)
        with pytest.raises(ValueError, match="no score by lead is called 'energy_score'; known: coverage_80, coverage"):
            rolled.by_lead("energy_score")


class TestResume:
    def test_goes_on_after_any_breakdown(self, tmp_path):
        panel = Panel.of(dated(700))
        options = {"windows": 80, "stride": 1, "baselines": ["frozen model", "nlinear"], "num_samples": 20}
        models = {"a": small("residual", Faulty()), "b": small("identity", Faulty())}
        whole = roll(models, panel, **options).frame
        attempts, told = 0, []
        while attempts < 50:
            attempts, Faulty.left = attempts + 1, 5
            try:
                resumed = roll(models, panel, **options, checkpoint_dir=tmp_path, on_progress=told.append).frame
                break
            except RuntimeError:
                pass
            finally:
                Faulty.left = math.inf
        assert 3 < attempts < 50
        pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
        Faulty.left = 0  # what is finished asks the frozen model nothing
        again = roll(models, panel, **options, checkpoint_dir=tmp_path)
        Faulty.left = math.inf
        pd.testing.assert_frame_equal(again.frame, whole, check_exact=True)

    def test_with_refit_goes_on_at_the_origin(self, tmp_path):
        panel, options = Panel.of(dated()), {"windows": 4, "refit": True, "num_samples": 20}
        whole = roll(small("residual", Faulty()), panel, **options).frame
        for _ in range(50):
            Faulty.left = 5
            told = []
            try:
                resumed = roll(
                    small("residual", Faulty()), panel, **options, checkpoint_dir=tmp_path, on_progress=told.append
                ).frame
                break
            except RuntimeError:
                pass
            finally:
                Faulty.left = math.inf
        pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
        assert "fit adapter, origin 2" not in told  # long since finished

    def test_goes_on_after_sigkill(self, tmp_path):
        code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_backtest import *
tell = lambda stage: print(stage, flush=True)
roll(small("residual"), Panel.of(dated(700)), windows=60, stride=2, checkpoint_dir={str(tmp_path)!r}, on_progress=tell)
print("done", flush=True)
"""
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if line.strip() == "score frozen model":
                process.kill()
        assert process.wait() == -signal.SIGKILL
        kept = [path.name for path in tmp_path.iterdir()]
        assert "score adapter 0.safetensors" in kept
        told = []
        panel, options = Panel.of(dated(700)), {"windows": 60, "stride": 2}
        resumed = roll(small("residual"), panel, **options, checkpoint_dir=tmp_path, on_progress=told.append)
        pd.testing.assert_frame_equal(resumed.frame, roll(small("residual"), panel, **options).frame, check_exact=True)

    def test_forecasts_are_kept_too(self, tmp_path):
        panel, options = Panel.of(dated()), {"windows": 4, "checkpoint_dir": tmp_path}
        adapter = small(support=(-9.0, 9.0))
        plain = roll(adapter, panel, **options)
        asked = roll(adapter, panel, forecasts=True, **options)  # scored again, for their laws were not kept
        again = roll(adapter, panel, forecasts=True, **options)
        pd.testing.assert_frame_equal(plain.frame, asked.frame, check_exact=True)
        for model, forecasts in asked.forecasts.items():
            for one, other in zip(forecasts, again.forecasts[model], strict=True):
                assert np.array_equal(one.samples, other.samples) and one.index.equals(other.index)
                assert np.array_equal(one.quantile([0.01, 0.5, 0.99]), other.quantile([0.01, 0.5, 0.99]))

    def test_pieces_that_lack_a_score_are_scored_again(self, tmp_path):
        panel, options = Panel.of(dated()), {"windows": 4, "checkpoint_dir": tmp_path}
        whole = roll(small(), panel, **options).frame
        for path in tmp_path.glob("score *.safetensors"):
            tensors = load_file(path)
            del tensors["crps_sum"]
            save_file(tensors, path, {"about": "null"})
        pd.testing.assert_frame_equal(roll(small(), panel, **options).frame, whole, check_exact=True)

    def test_models_may_be_added(self, tmp_path):
        panel, options = Panel.of(dated()), {"windows": 4, "checkpoint_dir": tmp_path}
        roll({"a": small("residual")}, panel, baselines=["drift"], **options)
        both = roll({"a": small("residual"), "b/c": small()}, panel, **options).frame
        fresh = roll({"a": small("residual"), "b/c": small()}, panel, windows=4).frame
        pd.testing.assert_frame_equal(both, fresh, check_exact=True)

    @pytest.mark.parametrize(
        ("adapter", "change", "words"),
        [
            ({}, {"windows": 5}, r"differs in option windows \(4 there, 5 here\)"),
            ({}, {"seed": 1}, r"option seed \(0 there, 1 here\)"),
            ({}, {"series": Panel.of(dated(seed=1))}, r"differs in data sha256"),
            ({"seed": 3}, {}, r"differs in option seed \(0 there, 3 here\)"),
            ({"family": "residual"}, {}, r"family name \(identity there, residual here\)"),
            ({"model": SeasonalModel(season=6)}, {}, r"differs in foundation model name"),
        ],
    )
    def test_a_folder_of_another_backtest_is_refused(self, tmp_path, adapter, change, words):
        options = {"series": Panel.of(dated()), "windows": 4, "checkpoint_dir": tmp_path}
        roll(small(), **options)
        with pytest.raises(ValueError, match=words):
            roll(small(**adapter), **{**options, **change})

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(ValueError, match=r"holds 'thesis.tex', which is no checkpoint"):
            roll(small(), Panel.of(dated()), windows=4, checkpoint_dir=tmp_path)


class TestItemsWithoutAWindow:
    def test_are_told_and_change_no_figure(self, caplog):
        whole = dated()
        panel = Panel.of([whole, whole[:60], whole * 2, whole[:-100]])
        with caplog.at_level("WARNING", "adapts"):
            rolled = roll(KnownLaw(), panel, windows=4, num_samples=10)
        assert caplog.messages == ["2 of 4 items are not scored, as they have no held-out window: 1, 3"]
        assert sorted(set(rolled.windows.item.tolist())) == [0, 2]

    def test_nothing_is_told_where_all_are_scored(self, caplog):
        with caplog.at_level("WARNING", "adapts"):
            roll(KnownLaw(), Panel.of([dated(), dated()]), windows=4, num_samples=10)
        assert caplog.messages == []


class TestAdapterBacktest:
    def test_frame_and_forecasts(self):
        frame = dated()
        scores, forecasts = small().backtest(
            frame, windows=3, models={"other": small(gate=False)}, baselines=["drift"], return_forecasts=True
        )
        assert list(scores["model"].unique()) == ["adapter", "other", "drift"] == list(forecasts)
        assert forecasts["other"][-1].index.equals(frame.index[-6:])
        plain = small().backtest(frame, windows=3, baselines=["drift"])
        pd.testing.assert_frame_equal(
            plain[plain["model"] == "drift"].reset_index(drop=True),
            scores[scores["model"] == "drift"].reset_index(drop=True),
        )

    @pytest.mark.parametrize(
        ("models", "words"),
        [
            ({"adapter": KnownLaw()}, r"names other than 'adapter' to Adapters, got \['adapter'\]"),
            ([KnownLaw()], "expects models to map names other than .adapter. to Adapters, got list"),
        ],
    )
    def test_models_have_names_of_their_own(self, models, words):
        with pytest.raises(ValueError, match=words):
            small().backtest(dated(), models=models)

    @pytest.mark.parametrize("refit", [False, True])
    def test_progress_goes_to_the_standard_error(self, capsys, monkeypatch, refit):
        small().backtest(dated(), windows=2, progress=True)
        assert capsys.readouterr().err == ""  # no terminal
        monkeypatch.setenv("FORCE_COLOR", "1")
        small().backtest(dated(), windows=2, progress=True, refit=refit)
        said = capsys.readouterr()
        assert said.out == "" and "score seasonal naive" in said.err
        small().backtest(dated(), windows=2)
        assert capsys.readouterr().err == ""


class TestFormatTable:
    def test_rows_and_columns(self):
        frame = roll(KnownLaw(), Panel.of(ar1(500)), num_samples=10).frame
        header, *rows = format_table(frame).splitlines()
        assert header.split("  ")[-1].strip() == "PIT-ECE (floor)"
        assert [row[:14].strip() for row in rows] == ["adapter", "frozen model", "last value", "seasonal naive"]
        assert len({len(line) for line in (header, *rows)}) == 1
        assert f"{overall(frame, 'last value', 'crps'):.3f}" in rows[2]

    def test_floor_beside_the_error(self):
        y = torch.randn(40, 8, 2)
        law = {"m": normal_law(torch.zeros(40, 8, 2), 1.0)}
        frame = score_table(law, y, channels=["a", "b"], scale=np.ones(2), time=times(np.arange(40) * 8))
        pit = law["m"].marginals.pit(y, torch.Generator().manual_seed(0))
        error, floor = (
            scores.pit_ece(pit.flatten(0, 1)).mean(),
            scores.pit_ece_floor(pit, times(np.arange(40) * 8)).mean(),
        )
        assert format_table(frame).endswith(f"{error:.3f} ({floor:.3f})")

    def test_differences_beside_the_scores(self):
        rolled = roll(KnownLaw(), Panel.of(ar1(500)), num_samples=10)
        differences = rolled.differences()
        header, first, frozen, *_ = format_table(rolled.frame, differences).splitlines()
        assert header.endswith("CRPS v. frozen model")
        row = differences.query("model == 'adapter' and metric == 'crps' and channel == 'all'").iloc[0]
        assert first.endswith(f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]")
        assert frozen.rstrip().endswith(")")  # no difference to itself
        assert len({len(line) for line in (header, first, frozen)}) == 1


def test_sample_scores_do_not_depend_on_the_number_of_samples() -> None:
    r"""The CRPS of a standard normal law that is right is :math:`1 / \sqrt \pi`, with few samples too."""
    levels = torch.arange(1, 400, dtype=torch.float64) / 400
    marginals = QuantileFunction(levels, torch.special.ndtri(levels).expand(4000, 4, 4, -1))
    truth = torch.randn(4000, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frame = score_table(
        {"right": JointDistribution(marginals, Independent(4, 4))}, truth, channels=list("abcd"), scale=np.ones(4),
        time=times(np.arange(4000)), num_samples=20,
    )  # fmt: skip
    overall = frame.query("channel == 'all' and lead_block == 'all'").set_index("metric")["value"]
    assert overall["crps"] == pytest.approx(math.pi**-0.5, abs=0.006)  # stratified samples would give .027 less


def test_a_model_beside_another_is_scored_with_its_own_context() -> None:
    rows = dated(260)
    options = {"foundation_model": SeasonalModel(), "prediction_length": 6, "max_windows": 60}
    long = Adapter("identity", context_length=64, **options)
    alone = long.backtest(rows, windows=4, baselines=False)
    beside = Adapter("identity", context_length=24, **options).backtest(
        rows, windows=4, baselines=False, models={"long": long}
    )
    assert isinstance(alone, pd.DataFrame) and isinstance(beside, pd.DataFrame)
    pd.testing.assert_series_equal(
        beside.loc[beside["model"] == "long", "value"].reset_index(drop=True), alone["value"], check_exact=True
    )

r"""Forecast: what a user reads off the law, writes to a frame, hands to gluonts and draws."""

import math
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from adapts.calibration.joint_bands import JointBands
from adapts.copulas.gaussian import GaussianCopula
from adapts.copulas.independent import Independent
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.distribution.variance import VarianceParts
from adapts.forecast.forecast import Forecast

NORMAL = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
CHANNELS = ("load", "wind", "price")


def make(horizon=6, channels=CHANNELS, frequency="h", zone=None, support=None, copula=None, **options):
    r"""A forecast of mean 10 d + h and standard deviation 1, and 12 rows of history."""
    if frequency is None:
        index = pd.RangeIndex(12 + horizon)
    else:
        index = pd.date_range("2024-01-01", periods=12 + horizon, freq=frequency, tz=zone)
    width = len(channels)
    mean = 10.0 * torch.arange(width) + torch.arange(float(horizon)).unsqueeze(-1)
    marginals = QuantileFunction(LEVELS, (mean.unsqueeze(-1) + NORMAL).unsqueeze(0), support)
    rows = 10.0 * np.arange(width) + np.random.randn(12, width)
    return Forecast(
        **{
            "item_id": "a",
            "index": index[12:],
            "channels": tuple(channels),
            "frequency": frequency,
            "joint_distribution": JointDistribution(marginals, copula or Independent(horizon, width)),
            "history": pd.DataFrame(rows, index[:12], list(channels)),
        }
        | options
    )


class TestReadings:
    def test_mean_and_quantiles_are_those_of_the_law(self):
        forecast = make()
        expected = 10.0 * np.arange(3) + np.arange(6.0)[:, None]
        np.testing.assert_allclose(forecast.mean, expected, atol=1e-5)
        np.testing.assert_allclose(forecast.quantile(0.5), expected, atol=1e-5)
        np.testing.assert_allclose(forecast.quantile(0.9), expected + 1.2816, atol=1e-3)
        both = forecast.quantile([0.1, 0.9])
        assert both.shape == (6, 3, 2) and np.array_equal(both[..., 1], forecast.quantile(0.9))

    def test_interval_of_80_percent_ends_at_the_outer_deciles(self):
        forecast = make()
        lower, upper = forecast.interval(0.8)
        assert np.array_equal(lower, forecast.quantile(0.1)) and np.array_equal(upper, forecast.quantile(0.9))

    def test_parts_of_the_variance_add_up(self):
        forecast = make(support=(torch.tensor([-math.inf, -math.inf, 20.0]), math.inf))
        free = QuantileFunction(LEVELS, forecast.joint_distribution.marginals.values)
        cells = torch.ones(1, 6, 3)
        parts = VarianceParts.of(free, 0.3 * cells, 0.2 * cells)
        table = make(
            joint_distribution=JointDistribution(forecast.joint_distribution.marginals, Independent(6, 3), parts)
        ).variance_parts()
        assert list(table) == [
            "item_id", "timestamp", "channel", "posterior", "foundation_model", "noise", "correction", "total",
        ]  # fmt: skip
        assert table[["timestamp", "channel"]].equals(forecast.to_pandas()[["timestamp", "channel"]])
        np.testing.assert_allclose(table.iloc[:, 3:7].sum(axis=1), table["total"], rtol=1e-12)
        np.testing.assert_allclose(table["foundation_model"], 0.5, atol=0.01)
        clipped = (table["channel"] == "price") & (table["timestamp"] == forecast.index[0])  # half of it
        np.testing.assert_allclose(table["correction"][table["channel"] != "price"], 0, atol=1e-5)
        np.testing.assert_allclose(table["total"][clipped], 0.5 - 0.5 / math.pi, atol=0.01)

    def test_parts_keep_up_with_units_and_windows(self):
        variances = torch.rand(3, 2, 6, 4)
        law = JointDistribution(
            QuantileFunction((0.1, 0.9), torch.randn(2, 6, 4, 2)), Independent(6, 4), VarianceParts(*variances)
        )
        assert torch.equal(law[1].parts.noise, variances[2, 1:])
        scale = torch.arange(1.0, 5.0)
        assert torch.equal(law.parts.scaled(scale).posterior, variances[0] * scale.square())

    def test_parts_of_a_baseline_are_not_known(self):
        with pytest.raises(ValueError, match="expects the forecast of an Adapter"):
            make().variance_parts()

    def test_all_are_numpy_arrays_free_of_nan(self):
        forecast = make(support=(torch.tensor([0.0, -math.inf, 5.0]), math.inf))
        for x in (forecast.mean, forecast.quantile(0.01), *forecast.interval(0.99), forecast.samples):
            assert isinstance(x, np.ndarray) and np.isfinite(x).all()
        assert forecast.samples[..., 0].min() >= 0

    @pytest.mark.parametrize("name", ["mean", "samples"])
    def test_what_is_kept_cannot_be_overwritten(self, name):
        forecast = make(support=(torch.tensor(0.0), torch.tensor(40.0)))
        before = getattr(forecast, name).copy()
        with pytest.raises(ValueError, match="read-only"):
            getattr(forecast, name)[..., 0] = 99
        mine = getattr(forecast, name).copy()
        mine[:] = 99
        assert np.array_equal(getattr(forecast, name), before)

    def test_what_is_handed_out_is_the_callers(self):
        forecast, other = make(), make()
        for values in (forecast.quantile(0.3), forecast.quantile(list(LEVELS)), *forecast.interval(0.8),
                       *forecast.band(), forecast.aggregate([1, 1, 1]), forecast.scenarios(2).paths,
                       forecast.to_gluonts().samples, forecast.to_pandas()["mean"].to_numpy(copy=True)):  # fmt: skip
            values[:] = 99
        forecast.to_pandas().loc[:, "mean"] = 99
        assert np.array_equal(forecast.mean, other.mean) and np.array_equal(forecast.samples, other.samples)
        assert np.array_equal(forecast.quantile(list(LEVELS)), other.quantile(list(LEVELS)))

    def test_samples_match_the_margins_and_the_copula(self):
        copula = GaussianCopula(torch.eye(3), torch.ones(6, 6) * 0.9 + 0.1 * torch.eye(6))
        forecast = make(copula=copula, num_samples=2000)
        assert forecast.samples.shape == (2000, 6, 3)
        np.testing.assert_allclose(forecast.samples.mean(0), forecast.mean, atol=0.01)
        np.testing.assert_allclose(
            np.quantile(forecast.samples, 0.9, axis=0, method="hazen"), forecast.quantile(0.9), atol=0.01
        )
        assert np.corrcoef(forecast.samples[:, 0, 0], forecast.samples[:, 5, 0])[0, 1] == pytest.approx(0.9, abs=0.02)
        assert abs(np.corrcoef(forecast.samples[:, 0, 0], forecast.samples[:, 0, 1])[0, 1]) < 0.08

    def test_samples_are_drawn_once_by_the_seed(self):
        forecast = make()
        assert forecast.samples is forecast.samples and forecast.samples.shape[0] == 200
        assert np.array_equal(make().samples, forecast.samples)
        assert not np.array_equal(make(seed=1).samples, forecast.samples)
        assert not np.array_equal(make(item_id="b").samples, forecast.samples)  # items are independent

    @pytest.mark.parametrize("level", [0.0, 1.0, 90])
    def test_error_on_levels_outside(self, level):
        for read in (make().quantile, make().interval):
            with pytest.raises(ValueError, match=r"levels lie within \(0, 1\)"):
                read(level)
        with pytest.raises(ValueError, match=r"levels lie within \(0, 1\)"):
            make().to_pandas([level])

    def test_says_what_it_is(self):
        assert repr(make()) == (
            "Forecast('a': 6 steps from 2024-01-01 12:00:00 to 2024-01-01 17:00:00; load, wind, price)"
        )
        assert repr(make(channels=[f"c{i}" for i in range(300)])).endswith("c6, c7 and 292 more)")


@pytest.mark.parametrize("level", ["x", None, [0.5, "x"], 1.0, -0.1, float("nan")])
def test_levels_that_are_none(level):
    for read in (make().quantile, make().interval, make().band):
        with pytest.raises(ValueError, match=r"levels lie within \(0, 1\), as 0.9 does; got"):
            read(level)


class TestBand:
    @pytest.mark.parametrize(("joint", "cells"), [("time", 6), ("channels", 3), ("all", 18)])
    def test_cells_that_are_independent_share_the_level(self, joint, cells):
        low, high = make().band(0.9, joint)
        half = -math.sqrt(2) * torch.erfinv(torch.tensor(-(0.9 ** (1 / cells)))).item()  # of a standard normal
        np.testing.assert_allclose(high - low, 2 * half, rtol=0.1)  # 1,000 draws tell the level
        np.testing.assert_allclose((low + high) / 2, make().quantile(0.5), atol=1e-3)

    def test_past_outcomes_decide_where_there_are_any(self):
        scores = torch.linspace(0.0, 0.8, 99).view(-1, 1, 1).expand(-1, 6, 3)
        low, high = make(bands=JointBands.fit(scores)).band(0.9, "all")
        inner = 0.8 * 89 / 98  # the 90th of 99
        lower, upper = make().interval(inner)
        np.testing.assert_allclose(low, lower, atol=1e-3)
        np.testing.assert_allclose(high, upper, atol=1e-3)

    def test_errors(self):
        with pytest.raises(ValueError, match="joint to be 'time', 'channels' or 'all', got 'leads'"):
            make().band(joint="leads")
        with pytest.raises(ValueError, match="levels lie within"):
            make().band(90)


class TestEvents:
    def paths(self):
        r"""Two paths of three steps and two channels, in the place of draws."""
        forecast = make(horizon=3, channels=("x", "y"), num_samples=2)
        vars(forecast)["samples"] = np.arange(12.0).reshape(2, 3, 2)
        return forecast

    def test_weights_of_channels_and_of_cells(self):
        forecast = self.paths()
        assert forecast.aggregate([1, -2]).tolist() == [[-2.0, -4.0, -6.0], [-8.0, -10.0, -12.0]]
        assert forecast.aggregate(np.ones((3, 2))).tolist() == [15.0, 51.0]

    def test_functions_of_a_path(self):
        forecast = self.paths()
        assert forecast.aggregate(lambda path: path.sum(1).max()).tolist() == [9.0, 21.0]
        assert forecast.aggregate(lambda path: path.max(0)).tolist() == [[4.0, 5.0], [10.0, 11.0]]

    def test_probability_is_the_share_of_paths(self):
        forecast = self.paths()
        assert forecast.probability(lambda path: path.max() > 5) == 0.5
        assert forecast.probability(lambda path: path[-1] > 4).tolist() == [0.5, 1.0]

    def test_the_chance_that_two_fall_together_needs_their_dependence(self):
        near = GaussianCopula(torch.tensor([[1.0, 0.99], [0.99, 1.0]]), torch.eye(1))
        chances = []
        for copula in (near, Independent(1, 2)):
            forecast = make(horizon=1, channels=("x", "y"), copula=copula, num_samples=4000)
            low = forecast.quantile(0.1)
            chances.append(forecast.probability(lambda path, low=low: bool((path < low).all())))
        # .1 and .01 for correlations of 1 and 0; for .99 the orthant beyond the decile has .090
        assert chances[0] == pytest.approx(0.090, abs=0.006) and chances[1] == pytest.approx(0.01, abs=0.006)

    def test_scenarios_are_paths_with_the_weights_of_what_is_near(self):
        forecast = make(horizon=2, channels=("x",), num_samples=5)
        vars(forecast)["samples"] = np.array([0.0, 0.1, -0.1, 9.0, 9.2]).reshape(5, 1, 1) * np.ones((1, 2, 1))
        two = forecast.scenarios(2)
        assert two.paths[0, :, 0].tolist() == [0.0, 0.0] and two.weights.tolist() == [0.6, 0.4]
        assert float(two.paths[1, 0, 0]) in (9.0, 9.2)

    def test_errors(self):
        forecast = make()
        with pytest.raises(ValueError, match=r"weights have shape \(3,\), one per channel, or \(6, 3\)"):
            forecast.aggregate([1, 2])
        with pytest.raises(ValueError, match="expects a function that returns numbers, got <U1: return floats"):
            forecast.aggregate(lambda path: "x")
        with pytest.raises(ValueError, match="the event must return true or false for a path, got float32"):
            forecast.probability(lambda path: path.max())
        with pytest.raises(ValueError, match="k from 1 to 200, the number of samples, got k=0"):
            forecast.scenarios(0)


class TestFrame:
    def test_is_long(self):
        frame = make().to_pandas()
        assert list(frame.columns[:4]) == ["item_id", "timestamp", "channel", "mean"]
        assert list(frame.columns[4:]) == ["0.05", *(f"0.{i}" for i in range(1, 10)), "0.95"]
        assert len(frame) == 18 and set(frame["item_id"]) == {"a"}
        assert frame["timestamp"].dtype.kind == "M" and frame["timestamp"].iloc[3] == pd.Timestamp("2024-01-01 13:00")

    def test_cells_are_in_their_rows(self):
        forecast = make()
        frame = forecast.to_pandas([0.25, 0.975]).set_index(["timestamp", "channel"])
        row = frame.loc[(forecast.index[4], "wind")]
        assert row["mean"] == forecast.mean[4, 1] and row["0.975"] == forecast.quantile(0.975)[4, 1]

    def test_undated_steps_are_numbers(self):
        assert make(frequency=None).to_pandas()["timestamp"].unique().tolist() == [12, 13, 14, 15, 16, 17]

    def test_zone_is_kept(self):
        assert str(make(zone="Europe/Berlin").to_pandas()["timestamp"].dt.tz) == "Europe/Berlin"

    def test_levels_can_be_set_for_good(self):
        assert list(make(quantile_levels=(0.5,)).to_pandas().columns[4:]) == ["0.5"]

    @pytest.mark.parametrize(
        ("levels", "names"),
        [
            ([0.05, (1 - 0.9) / 2, 0.95], ["0.05", "0.04999999999999999", "0.95"]),
            ([(1 - 0.9) / 2, 1 - 0.05], ["0.05", "0.95"]),
            ([0.9999998, 0.9999999], ["0.9999998", "0.9999999"]),
            ([1e-7, 1.0000001e-7, 0.5], ["1e-07", "1.0000001e-07", "0.5"]),
            ([0.1234567, 0.12345671], ["0.1234567", "0.12345671"]),
            ([1 / 3, np.float32(0.1)], ["0.3333333333333333", "0.10000000149011612"]),
            ([0.5, 0.1, 0.5], ["0.5", "0.1"]),
        ],
    )
    def test_a_column_a_level(self, levels, names):
        frame = make().to_pandas(levels)
        assert frame.columns[4:].tolist() == names
        for level, name in zip(dict.fromkeys(levels), names, strict=True):
            assert np.array_equal(frame[name], make().quantile(float(level)).reshape(-1))


class TestGluonts:
    def test_is_a_sample_forecast(self):
        forecast = make()
        other = forecast.to_gluonts()
        assert other.item_id == "a" and other.start_date == pd.Period("2024-01-01 12:00", "h")
        assert np.array_equal(other.samples, forecast.samples) and other.prediction_length == 6
        np.testing.assert_allclose(other.quantile(0.5), forecast.quantile(0.5), atol=0.05)

    @pytest.mark.parametrize(
        "frequency", ["15min", "D", "W-TUE", "MS", "ME", "QS", "YS", "2h", "QS-FEB", "BQE-NOV", "BYS-APR"]
    )
    def test_frequencies(self, frequency):
        forecast = make(frequency=frequency)
        start = forecast.to_gluonts().start_date
        assert start.start_time <= forecast.index[0] <= start.end_time

    def test_years_begin_in_their_month(self):
        assert make(frequency="YS-APR").to_gluonts().start_date.freqstr == "Y-MAR"

    def test_dates_with_a_zone_keep_their_wall_time(self):
        assert make(zone="Europe/Berlin").to_gluonts().start_date == pd.Period("2024-01-01 12:00", "h")

    def test_evaluated_by_gluonts(self):
        from gluonts.evaluation import MultivariateEvaluator

        forecast = make(num_samples=400)
        index = pd.period_range("2024-01-01", periods=18, freq="h")
        truth = np.concatenate([np.zeros((12, 3)), forecast.mean + 0.5])
        aggregate, _ = MultivariateEvaluator(quantiles=[0.5, 0.9])(
            [pd.DataFrame(truth, index)], [forecast.to_gluonts()], num_series=1
        )
        assert aggregate["MSE"] == pytest.approx(0.25, abs=0.02)
        # 2 * sum of pinball losses at .9: the truth lies 1.2816 - .5 below the quantile
        assert aggregate["QuantileLoss[0.9]"] == pytest.approx(18 * 2 * 0.1 * 0.7816, rel=0.05)
        assert aggregate["Coverage[0.9]"] == 1

    def test_a_single_channel_is_univariate(self):
        from gluonts.evaluation import Evaluator

        forecast = make(channels=("load",), num_samples=400)
        assert forecast.to_gluonts().samples.shape == (400, 6)
        truth = np.concatenate([np.zeros(12), forecast.mean[:, 0] + np.arange(6)])
        series = pd.Series(truth, pd.period_range("2024-01-01", periods=18, freq="h"))
        aggregate, _ = Evaluator(quantiles=[0.5], num_workers=None)([series], [forecast.to_gluonts()], num_series=1)
        assert aggregate["MSE"] == pytest.approx(55 / 6, rel=0.02)  # the mean of 0, 1, 4, 9, 16, 25

    def test_errors(self):
        with pytest.raises(ValueError, match="expects a dated series, the steps of 'a' are numbered 12 to 17"):
            make(frequency=None).to_gluonts()
        with pytest.raises(ValueError, match="pandas has none of 'SME'"):
            make(frequency="SME").to_gluonts()


class TestPlot:
    @pytest.fixture(autouse=True)
    def _headless(self):
        matplotlib.use("Agg")
        yield
        from matplotlib import pyplot as plt

        plt.close("all")

    def test_one_axes_a_channel(self):
        axes = make().plot()
        assert [cell.get_title(loc="left") for cell in axes] == list(CHANNELS)
        assert all(len(cell.collections) == 3 and len(cell.lines) == 2 for cell in axes)  # three fans, two lines
        axes[0].figure.canvas.draw()
        assert [text.get_text() for text in axes[0].figure.legends[0].get_texts()] == [
            "observed", "95 %", "80 %", "50 %", "median"
        ]  # fmt: skip

    @pytest.mark.parametrize("name", ["Rev $ 50% of $", "price_$^2_$", "US$ & AU$", r"a\$b$c$", "$\\frac{$"])
    def test_names_are_drawn_as_they_stand(self, name):
        axes = make(channels=(name, "b")).plot()
        axes[0].figure.canvas.draw()
        assert axes[0].get_title(loc="left") == name

    def test_median_begins_at_the_last_value_seen(self):
        forecast = make()
        line = forecast.plot(["wind"])[0].lines[1].get_ydata()
        assert line[0] == forecast.history["wind"].iloc[-1] and np.array_equal(line[1:], forecast.quantile(0.5)[:, 1])
        forecast.history.iloc[-1] = math.nan
        assert len(forecast.plot(["wind"])[0].lines[1].get_ydata()) == 6

    def test_scenarios_are_drawn_over_the_fans(self):
        forecast = make(copula=GaussianCopula(torch.eye(3), torch.full((6, 6), 0.9).fill_diagonal_(1.0)))
        axes, picked = forecast.plot(scenarios=4), forecast.scenarios(4)
        for channel, cell in enumerate(axes):
            lines = cell.lines[2:]  # after what was observed and the median
            assert len(lines) == 4
            for line, path, weight in zip(lines, picked.paths, picked.weights, strict=True):
                assert line.get_ydata()[0] == forecast.history.iloc[-1, channel]
                assert np.array_equal(line.get_ydata()[1:], path[:, channel])
                assert line.get_linewidth() == pytest.approx(0.4 + 1.2 * weight / picked.weights[0])
                assert 1 < line.get_zorder() < cell.lines[0].get_zorder()  # over the fans, under what was observed
        texts = [text.get_text() for text in axes[0].figure.legends[0].get_texts()]
        assert texts[-2:] == ["median", "4 scenarios"]

    def test_many_channels_are_cut_and_it_says_so(self):
        forecast = make(channels=[f"c{i}" for i in range(300)])
        axes = forecast.plot()
        assert len(axes) == 12 and "12 of 300 channels, evenly spaced" in axes[0].figure.get_suptitle()
        assert len(axes[0].figure.axes) == 12
        titles = [cell.get_title(loc="left") for cell in axes]
        assert titles[:2] == ["c0", "c27"] and titles[-1] == "c299"
        assert len(forecast.plot(channels=[f"c{i}" for i in range(5, 33)])) == 28

    @pytest.mark.parametrize("width", [1, 3, 8, 21])
    def test_few_channels_are_all_drawn(self, width):
        axes = make(channels=[f"c{i}" for i in range(width)]).plot()
        assert [cell.get_title(loc="left") for cell in axes] == [f"c{i}" for i in range(width)]
        assert not axes[0].figure.get_suptitle()
        again = make(channels=[f"c{i}" for i in range(width)]).plot(axes=axes)
        assert [one is other for one, other in zip(axes, again, strict=True)] == [True] * width

    def test_on_given_axes_without_history_and_with_a_truth(self):
        from matplotlib import pyplot as plt

        forecast = make(history=None)
        _, cell = plt.subplots()
        assert forecast.plot(["load"], axes=cell)[0] is cell and len(cell.lines) == 1
        truth = pd.DataFrame(forecast.mean, forecast.index, list(CHANNELS))
        assert len(forecast.plot(["load"], history=truth)[0].lines[0].get_xdata()) == 6

    @pytest.mark.parametrize("options", [{"frequency": None}, {"zone": "Europe/Berlin"}, {"horizon": 1}])
    def test_draws(self, options):
        make(**options).plot(scenarios=2)[0].figure.canvas.draw()

    @pytest.mark.parametrize("frequency", ["h", "D", "W", "MS", "QS", "YS"])
    @pytest.mark.parametrize("rows", [24, 71, 140])
    def test_dates_are_few_and_draw_no_warning(self, frequency, rows):
        forecast = make(horizon=12, frequency=frequency)
        index = pd.date_range(end=forecast.index[0], periods=rows + 1, freq=frequency)[:-1]
        (cell,) = forecast.plot(["load"], history=pd.DataFrame({"load": np.zeros(rows)}, index))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cell.figure.canvas.draw()
        low, high = cell.get_xlim()
        assert 2 <= sum(low <= tick <= high for tick in cell.get_xticks()) <= 9

    def test_errors(self):
        from matplotlib import pyplot as plt

        with pytest.raises(ValueError, match=r"channels among \['load', 'wind', 'price'\], got \['sun'\]"):
            make().plot(["sun"])
        with pytest.raises(ValueError, match="expects 3 axes, one per channel, got 1"):
            make().plot(axes=plt.subplots()[1])
        before = plt.get_fignums()
        with pytest.raises(ValueError, match="scenarios expects k from 1 to 200, the number of samples, got k=201"):
            make().plot(scenarios=201)
        assert plt.get_fignums() == before  # no empty figure is left behind


def test_a_law_with_nan_is_no_forecast():
    with pytest.raises(ValueError, match="missing or infinite quantiles"):
        make(
            joint_distribution=JointDistribution(
                QuantileFunction(LEVELS, torch.full((1, 6, 3, 23), math.nan)), Independent(6, 3)
            )
        )

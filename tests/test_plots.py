r"""Pictures hold the numbers that they are made of; how they look was judged by eye."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from calendars import times
from matplotlib.patches import Rectangle, StepPatch

from adapts.copulas.gaussian import GaussianCopula
from adapts.copulas.independent import Independent
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation.plots import Fan, fan_chart, pit_histogram, reliability, sample_pairs, scores_by_lead
from adapts.evaluation.scores import coverage, pit_ece
from adapts.forecast.forecast import Forecast


def make_chart(channels, index, horizon=5, **options):
    values = torch.randn(1, horizon, channels, len(LEVELS)).sort(dim=-1).values
    law = JointDistribution(QuantileFunction(LEVELS, values), Independent(horizon, channels))
    observed = pd.DataFrame(np.random.randn(len(index), channels), index, [f"c{n}" for n in range(channels)])
    return fan_chart(observed, [Fan("forecast", index[-horizon:], law)], **options), observed, law


class TestFanChart:
    @pytest.mark.parametrize("channels", [1, 3, 8, 13])
    def test_one_panel_a_channel_and_one_legend(self, channels):
        figure, observed, law = make_chart(channels, pd.date_range("2024", periods=40, freq="h"), title="a title")
        panels = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title(loc="left") for axes in panels] == list(observed.columns)
        assert len(figure.legends) == 1 and not any(axes.get_legend() for axes in panels)
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert texts == ["observed", "forecast", "50% interval", "90% interval"]
        figure.canvas.draw()

    def test_names_are_drawn_as_they_stand(self):
        name = "cost $^_$ of $ 50%"
        figure, observed, law = make_chart(1, pd.RangeIndex(30), title=name, notes=[f"{name!r} is never below 0"])
        again = fan_chart(observed.set_axis([name], axis=1), [Fan(name, observed.index[-5:], law)], title=name)
        for each in (figure, again):
            each.canvas.draw()
            assert each.get_suptitle() == name
        assert again.axes[0].get_title(loc="left") == name == again.legends[0].get_texts()[1].get_text()
        pits = {name: torch.rand(30, 4, 2), "other": torch.rand(30, 4, 2)}
        lines = {model: torch.rand(4) for model in pits}
        for chart in (reliability(pits, times(np.arange(30))), pit_histogram(pits, times(np.arange(30))),
                      scores_by_lead(lines, name, title=name)):  # fmt: skip
            chart.canvas.draw()
        values = torch.randn(1, 5, 2, len(LEVELS)).sort(dim=-1).values
        two = JointDistribution(QuantileFunction(LEVELS, values), Independent(5, 2))
        sample_pairs(Forecast("a", pd.RangeIndex(5), (name, "$$ $"), None, two)).canvas.draw()
        sample_pairs(Forecast("a", pd.RangeIndex(5), (name, "$$ $"), None, two), channels=[name]).canvas.draw()

    def test_notes_stand_between_the_axes_and_the_legend(self):
        figure, *_ = make_chart(2, pd.RangeIndex(30), notes=["one " * 80, "is it two?"])
        figure.canvas.draw()
        (text,) = figure.texts
        below = text.get_window_extent()
        assert text.get_text().endswith("Note: is it two?") and text.get_text().count("Note: ") == 2
        assert figure.legends[0].get_window_extent().y1 <= below.y0 and below.x1 <= figure.bbox.x1
        assert all(axes.get_tightbbox().y0 >= below.y1 for axes in figure.axes)

    def test_draws_the_numbers(self):
        figure, observed, law = make_chart(2, pd.RangeIndex(30))
        axes = figure.axes[1]
        lines = {tuple(line.get_ydata()) for line in axes.lines}
        assert tuple(observed["c1"]) in lines
        assert tuple(law.marginals(0.5)[0, :, 1].numpy()) in lines
        band = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert band.min() == pytest.approx(law.marginals(0.05)[0, :, 1].min().item())
        assert band.max() == pytest.approx(law.marginals(0.95)[0, :, 1].max().item())

    def test_zoned_dates_stand_at_their_own_clock(self):
        figure, _, _ = make_chart(1, pd.date_range("2024-06-01", periods=30, freq="h", tz="Asia/Tokyo"))
        assert figure.axes[0].lines[-1].get_xdata()[0] == np.datetime64("2024-06-01T00")

    @pytest.mark.parametrize(("shift", "factor"), [(0, 1e6), (0, 1e-6), (5, 1e-6), (1e8, 2), (-3e7, 1)])
    def test_no_offset_stands_in_the_place_of_the_title(self, shift, factor):
        values = torch.randn(1, 5, 1, len(LEVELS), dtype=torch.float64).sort(dim=-1).values * factor + shift
        law = JointDistribution(QuantileFunction(LEVELS, values), Independent(5, 1))
        index = pd.RangeIndex(40)
        observed = pd.DataFrame(np.random.randn(40, 1) * factor + shift, index, ["a"])
        axes = fan_chart(observed, [Fan("forecast", index[-5:], law)]).axes[0]
        axes.figure.canvas.draw()
        assert axes.yaxis.get_offset_text().get_text() == ""
        ticks, labels = axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()]
        read = [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels]
        assert read == pytest.approx(ticks, rel=1e-9, abs=1e-9 * factor)

    def test_too_many_channels_are_said(self):
        figure, _, _ = make_chart(30, pd.RangeIndex(12))
        assert len(figure.axes) == 24 and figure.get_suptitle() == "first 24 of 30 channels"

    def test_opens_no_window(self):
        pyplot = sys.modules.get("matplotlib.pyplot")
        before = pyplot.get_fignums() if pyplot else []
        make_chart(1, pd.RangeIndex(12))
        assert (pyplot.get_fignums() if pyplot else []) == before


class TestReliability:
    def setup_method(self):
        torch.manual_seed(0)
        shocks = torch.randn(60, 12, 3)
        self.time = times(np.arange(60) * 12)
        self.pits = {"adapter": torch.special.ndtr(shocks), "frozen model": torch.special.ndtr(2 * shocks)}

    def test_a_diagram_a_model_and_the_coverage(self):
        figure = reliability(self.pits, self.time)
        assert [axes.get_title(loc="left") for axes in figure.axes] == [*self.pits, "coverage of the 80% interval"]
        error = pit_ece(self.pits["frozen model"].flatten(0, 1)).mean()
        assert f"PIT-ECE {error:.3f}" in figure.axes[1].texts[0].get_text()
        curves = [line.get_ydata() for line in figure.axes[2].lines[1:]]
        for curve, pit in zip(curves, self.pits.values(), strict=True):
            assert curve == pytest.approx(coverage(pit).mean((0, 2)).numpy())

    def test_band_holds_the_right_law_and_not_the_narrow_one(self):
        figure = reliability(self.pits, self.time)
        for axes, low, high in zip(figure.axes, (0.7, 0), (1, 0.3), strict=False):
            band = axes.collections[0].get_paths()[0]
            curve = axes.lines[-1]  # the mean of the channels
            inside = band.contains_points(np.column_stack([curve.get_xdata(), curve.get_ydata()])).mean()
            assert low <= inside <= high

    def test_missing_values(self):
        self.pits["adapter"][:, :, 0] = math.nan
        self.pits["adapter"][::2, 3] = math.nan
        figure = reliability({"adapter": self.pits["adapter"]}, self.time)
        assert not np.isnan(figure.axes[0].lines[-1].get_ydata()).any()
        figure.canvas.draw()

    def test_a_constant_channel_is_left_out(self):
        plain = reliability(self.pits, self.time)
        constant = torch.full((60, 12, 1), math.nan)
        pits = {model: torch.cat([pit, constant], -1) for model, pit in self.pits.items()}
        figure = reliability(pits, self.time)
        for axes, other in zip(figure.axes, plain.axes, strict=True):
            assert axes.lines[-1].get_ydata() == pytest.approx(other.lines[-1].get_ydata())
        assert figure.axes[0].texts[0].get_text() == plain.axes[0].texts[0].get_text()
        nothing = reliability({model: torch.full((60, 12, 2), math.nan) for model in pits}, self.time)
        nothing.canvas.draw()

    def test_more_models_than_colours(self):
        pits = {f"model {n}": self.pits["adapter"] for n in range(6)}
        figure = reliability(pits, self.time)
        assert [axes.get_title(loc="left") for axes in figure.axes[:-1]] == list(pits)
        assert all(axes.lines for axes in figure.axes) and len(figure.axes[-1].lines) == 1 + len(pits)

    @pytest.mark.parametrize("level", [0.5, 0.9])
    def test_band_of_the_coverage_is_that_of_its_level(self, level):
        figure = reliability({"adapter": self.pits["adapter"]}, self.time, level=level)
        band = figure.axes[-1].collections[0].get_paths()[0].vertices[:, 1]
        # A lead has 60 windows and 3 channels: a share of 180 independent ones.
        spread = 1.645 * math.sqrt(level * (1 - level) / 180)
        assert np.median(band[band > level]) == pytest.approx(level + spread, abs=0.4 * spread)
        assert np.median(band[band < level]) == pytest.approx(level - spread, abs=0.4 * spread)

    def test_a_single_window_has_no_band(self):
        figure = reliability({"adapter": self.pits["adapter"][:1]}, self.time[:1])
        figure.canvas.draw()
        assert "by chance" not in figure.axes[0].texts[0].get_text()


class TestPitHistogram:
    def setup_method(self):
        torch.manual_seed(0)
        shocks = torch.randn(60, 12, 3)
        self.time = times(np.arange(60) * 12)
        self.pits = {"adapter": torch.special.ndtr(shocks), "frozen model": torch.special.ndtr(2 * shocks)}

    @staticmethod
    def bars(axes):
        return [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]

    @staticmethod
    def band(axes):
        (patch,) = [patch for patch in axes.patches if isinstance(patch, StepPatch) and patch.get_fill()]
        values, _, baseline = patch.get_data()
        return baseline, values

    def test_bars_are_the_shares_of_each_block(self):
        figure = pit_histogram(self.pits, self.time, bins=7)
        grid = np.array(figure.axes).reshape(2, 4)
        titles = [axes.get_title(loc="left") for axes in grid[0]]
        assert titles == ["leads 1 to 3", "leads 4 to 6", "leads 7 to 9", "leads 10 to 12"]
        assert [row[0].get_ylabel() for row in grid] == list(self.pits)
        for row, pit in zip(grid, self.pits.values(), strict=True):
            for number, axes in enumerate(row):
                cells = pit[:, 3 * number : 3 * number + 3]
                counts = np.histogram(cells, bins=7, range=(0, 1))[0]
                assert self.bars(axes) == pytest.approx(7 * counts / cells.numel(), abs=1e-6)

    def test_band_holds_the_right_law_and_not_the_narrow_one(self):
        figure = pit_histogram(self.pits, self.time)
        right, narrow = np.array(figure.axes).reshape(2, 4)
        inside = [(low <= bar) & (bar <= high) for axes in right
                  for bar, low, high in zip(self.bars(axes), *self.band(axes), strict=True)]  # fmt: skip
        assert np.mean(inside) > 0.75
        for axes in narrow:
            bars, (low, high) = self.bars(axes), self.band(axes)
            assert bars[0] > high[0] and bars[-1] > high[-1] and bars[5] < low[5]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["calibrated, 90%"]

    def test_few_leads_are_one_block(self):
        (axes,) = pit_histogram({"adapter": self.pits["adapter"][:, :5]}, self.time).axes
        assert axes.get_title(loc="left") == "all leads"

    def test_missing_values(self):
        plain = pit_histogram(self.pits, self.time)
        constant = torch.full((60, 12, 1), math.nan)
        pits = {model: torch.cat([constant, pit], -1) for model, pit in self.pits.items()}
        for axes, other in zip(pit_histogram(pits, self.time).axes, plain.axes, strict=True):
            assert self.bars(axes) == pytest.approx(self.bars(other))
        nothing = pit_histogram({"adapter": torch.full((60, 12, 2), math.nan)}, self.time)
        nothing.canvas.draw()
        assert not nothing.legends  # no band of chance

    def test_a_single_window_has_no_band(self):
        figure = pit_histogram({"adapter": self.pits["adapter"][:1]}, self.time[:1])
        assert not figure.legends
        assert [patch.get_fill() for patch in figure.axes[0].patches if isinstance(patch, StepPatch)] == [False]


def make_forecast(channels=3, horizon=8, frequency="h", correlation=0.9):
    index = pd.RangeIndex(50, 50 + horizon) if frequency is None else pd.date_range("2024", periods=horizon, freq="h")
    normal = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
    values = normal + 10 * torch.arange(channels)[:, None] + torch.arange(horizon)[:, None, None]
    between, over = (torch.full((n, n), correlation).fill_diagonal_(1.0).double() for n in (channels, horizon))
    law = JointDistribution(QuantileFunction(LEVELS, values[None]), GaussianCopula(between, over))
    return Forecast("a", index, tuple(f"c{n}" for n in range(channels)), frequency, law)


class TestSamplePairs:
    def test_scatters_of_channels_at_the_last_lead(self):
        forecast = make_forecast()
        truth = pd.DataFrame(forecast.mean + 0.5, forecast.index, list(forecast.channels))
        figure = sample_pairs(forecast, truth)
        assert len(figure.axes) == 6 and figure.get_suptitle() == "lead 8, 2024-01-01 07:00:00"
        scatter = figure.axes[3]  # third row, first column
        assert (scatter.get_xlabel(), scatter.get_ylabel()) == ("c0", "c2")
        assert np.array_equal(scatter.collections[0].get_offsets(), forecast.samples[:, -1, [0, 2]])
        (point,) = scatter.lines
        assert [point.get_xdata()[0], point.get_ydata()[0]] == pytest.approx(truth.iloc[-1, [0, 2]].tolist())
        r = np.corrcoef(forecast.samples[:, -1, 0], forecast.samples[:, -1, 2])[0, 1]
        assert scatter.texts[0].get_text() == f"r = {r:.2f}" and r > 0.8
        histogram = figure.axes[2]  # second row, second column
        assert sum(patch.get_height() for patch in histogram.patches) == len(forecast.samples)
        assert histogram.lines[0].get_xdata()[0] == truth["c1"].iloc[-1]

    def test_leads_of_one_channel(self):
        forecast = make_forecast(frequency=None)
        figure = sample_pairs(forecast, channels="c1")
        assert figure.get_suptitle() == "c1"
        names = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
        assert names == [f"lead {lead}" for lead in (1, 2, 4, 5, 7, 8)]
        assert sample_pairs(forecast, leads=3).get_suptitle() == "lead 3, row 52"
        some = sample_pairs(forecast, channels=["c0", "c1"], leads=[1, 3])
        assert [axes.get_xlabel() for axes in some.axes if axes.get_xlabel()] == ["c0, 1", "c0, 3", "c1, 1", "c1, 3"]
        assert np.array_equal(some.axes[1].collections[0].get_offsets(), forecast.samples[:, [0, 2], 0])

    def test_many_channels_are_cut_evenly(self):
        figure = sample_pairs(make_forecast(channels=21))
        names = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
        assert names == ["c0", "c4", "c8", "c12", "c16", "c20"]

    def test_missing_truth_is_not_marked(self):
        forecast = make_forecast()
        truth = pd.DataFrame(forecast.mean.copy(), forecast.index, list(forecast.channels))
        truth.iloc[-1] = math.nan
        figure = sample_pairs(forecast, truth)
        figure.canvas.draw()
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["joint samples"]
        assert all(np.isnan(line.get_xdata()).all() for axes in figure.axes for line in axes.lines)

    def test_errors(self):
        forecast = make_forecast()
        truth = pd.DataFrame(forecast.mean, forecast.index, list(forecast.channels))
        for options, words in (
            ({"channels": ["c0", "d1"]}, "no channel of the forecast is called 'd1'"),
            ({"leads": [0, 1]}, "leads are horizon steps from 1 to 8, got 0"),
            ({"channels": "c0", "leads": 3}, "draws 2 to 8 cells, got 1: c0 at lead 3; select others"),
            ({"leads": [1, 2, 3, 4], "channels": ["c0", "c1", "c2"]}, "got 12: c0, c1, c2 at lead 1, 2, 3, 4"),
            ({"truth": truth[["c0", "c1"]]}, "no column of the truth is called 'c2'"),
            ({"truth": truth.set_axis(forecast.index + pd.Timedelta("9d"))}, "the truth must share rows with"),
        ):
            with pytest.raises(ValueError, match=words):
                sample_pairs(forecast, **options)


class TestScoresByLead:
    curves = {f"model {n}": torch.linspace(0.1 * n, 0.2 * n, 12) for n in range(1, 7)}

    def test_one_line_a_model_against_lead(self):
        (axes,) = scores_by_lead(self.curves, title="a title").axes
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(self.curves)
        for line, curve in zip(axes.lines, self.curves.values(), strict=True):
            assert line.get_xdata().tolist() == list(range(1, 13)) and np.array_equal(line.get_ydata(), curve)
        assert axes.get_ylabel() == "CRPS" and axes.get_title(loc="left") == "a title"
        looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(looks) == len(self.curves)

    def test_blocks_of_a_frame_are_steps(self):
        rows = [("m", c, b, "mae", v) for c in ("all", "x") for b, v in (("all", 2.0), ("1-3", 1.0), ("4-6", 3.0))]
        frame = pd.DataFrame(rows, columns=["model", "channel", "lead_block", "metric", "value"])
        (axes,) = scores_by_lead(frame, "mae").axes
        assert axes.lines[0].get_xdata().tolist() == [0.5, 3.5, 3.5, 6.5]
        assert axes.lines[0].get_ydata().tolist() == [1.0, 1.0, 3.0, 3.0]
        (axes,) = scores_by_lead(frame[frame["lead_block"] == "all"], "mae").axes
        assert axes.get_xlabel() == "all leads" and axes.lines[0].get_ydata().tolist() == [2.0, 2.0]
        with pytest.raises(ValueError, match="no score by lead is called 'maee'; known: mae .did you mean 'mae'"):
            scores_by_lead(frame, "maee")

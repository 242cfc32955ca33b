r"""Pictures hold the numbers that they are made of; how they look was judged by eye."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from adapts.distribution.copula import Independent
from adapts.distribution.law import Law
from adapts.distribution.quantiles import LEVELS, QuantileFunction
from adapts.evaluation.plots import Fan, fan_chart, reliability, scores_by_lead
from adapts.evaluation.scores import coverage, pit_ece


def make_chart(channels, index, horizon=5, **options):
    values = torch.randn(1, horizon, channels, len(LEVELS)).sort(dim=-1).values
    law = Law(QuantileFunction(LEVELS, values), Independent(horizon, channels))
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
        law = Law(QuantileFunction(LEVELS, values), Independent(5, 1))
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
        self.origin = np.arange(60) * 12
        self.pits = {"adapter": torch.special.ndtr(shocks), "frozen model": torch.special.ndtr(2 * shocks)}

    def test_a_diagram_a_model_and_the_coverage(self):
        figure = reliability(self.pits, self.origin)
        assert [axes.get_title(loc="left") for axes in figure.axes] == [*self.pits, "coverage of the 80% interval"]
        error = pit_ece(self.pits["frozen model"].flatten(0, 1)).mean()
        assert f"PIT-ECE {error:.3f}" in figure.axes[1].texts[0].get_text()
        curves = [line.get_ydata() for line in figure.axes[2].lines[1:]]
        for curve, pit in zip(curves, self.pits.values(), strict=True):
            assert curve == pytest.approx(coverage(pit).mean((0, 2)).numpy())

    def test_band_holds_the_right_law_and_not_the_narrow_one(self):
        figure = reliability(self.pits, self.origin)
        for axes, low, high in zip(figure.axes, (0.7, 0), (1, 0.3), strict=False):
            band = axes.collections[0].get_paths()[0]
            curve = axes.lines[-1]  # the mean of the channels
            inside = band.contains_points(np.column_stack([curve.get_xdata(), curve.get_ydata()])).mean()
            assert low <= inside <= high

    def test_missing_values(self):
        self.pits["adapter"][:, :, 0] = math.nan
        self.pits["adapter"][::2, 3] = math.nan
        figure = reliability({"adapter": self.pits["adapter"]}, self.origin)
        assert not np.isnan(figure.axes[0].lines[-1].get_ydata()).any()
        figure.canvas.draw()

    def test_a_constant_channel_is_left_out(self):
        plain = reliability(self.pits, self.origin)
        constant = torch.full((60, 12, 1), math.nan)
        pits = {model: torch.cat([pit, constant], -1) for model, pit in self.pits.items()}
        figure = reliability(pits, self.origin)
        for axes, other in zip(figure.axes, plain.axes, strict=True):
            assert axes.lines[-1].get_ydata() == pytest.approx(other.lines[-1].get_ydata())
        assert figure.axes[0].texts[0].get_text() == plain.axes[0].texts[0].get_text()
        nothing = reliability({model: torch.full((60, 12, 2), math.nan) for model in pits}, self.origin)
        nothing.canvas.draw()

    def test_a_single_window_has_no_band(self):
        figure = reliability({"adapter": self.pits["adapter"][:1]}, self.origin[:1])
        figure.canvas.draw()
        assert "by chance" not in figure.axes[0].texts[0].get_text()


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

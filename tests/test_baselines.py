r"""Naive forecasts by hand, and that their laws are as wide as their errors were."""

import math

import numpy as np
import pytest
import torch

from adapts.evaluation.baselines import LastValue, SeasonalNaive
from adapts.evaluation.scores import coverage
from adapts.panel import Panel
from adapts.windows import Windows

NAN = math.nan


def make_windows(values, origin, context_length, prediction_length):
    origin = np.asarray(origin)
    return Windows(Panel.of(values), np.zeros(len(origin), int), origin, context_length, prediction_length)


class TestPoint:
    past = torch.tensor([[[1.0, NAN], [2.0, 8.0], [3.0, 9.0], [4.0, NAN], [NAN, NAN]]])  # (1, 5, 2)

    def test_last_value(self):
        assert LastValue().point(self.past, 3)[0].tolist() == [[4.0, 9.0]] * 3

    def test_last_season(self):
        # Phases of a season of three, the next step first: rows 2 (and none before), 3 and 0, 4 and 1.
        point = SeasonalNaive(3).point(self.past, 4)[0]
        assert point[:, 0].tolist() == [3.0, 4.0, 2.0, 3.0]
        assert point[:, 1].tolist() == [9.0, 9.0, 8.0, 9.0]  # the second phase was never seen: the last value

    def test_context_shorter_than_a_season(self):
        point = SeasonalNaive(7).point(self.past, 4)[0]
        assert point[:, 0].tolist() == [4.0, 4.0, 1.0, 2.0]  # two phases unseen, then the context from its start

    def test_a_season_of_one_is_the_last_value(self):
        past = torch.randn(4, 9, 3)
        assert torch.equal(SeasonalNaive(1).point(past, 5), LastValue().point(past, 5))

    def test_repeats_a_periodic_series(self):
        series = torch.arange(24.0).repeat(4)[:, None]  # (96, 1)
        assert torch.equal(SeasonalNaive(24).point(series[None, :60], 36)[0], series[60:])

    def test_no_season(self):
        with pytest.raises(ValueError, match="season_length of 1 or more steps, got 0"):
            SeasonalNaive(0)


class TestLaw:
    def test_residual_quantiles_of_each_lead(self):
        # A random walk: after h steps the error of the last value is N(0, h).
        values = torch.randn(40_000, 2, dtype=torch.float64).cumsum(0).numpy()
        baseline = LastValue().fit(make_windows(values, np.arange(100, 30_000), 10, 4))
        law = baseline.law(make_windows(values, np.arange(31_000, 39_000), 10, 4))
        width = (law.marginals(0.9) - law.marginals(0.1))[0]  # (H, D)
        expected = 2 * 1.2816 * torch.arange(1, 5).sqrt()
        assert width.numpy() == pytest.approx(expected[:, None].expand(-1, 2).numpy(), rel=0.06)

    def test_is_calibrated_out_of_sample(self):
        season = np.sin(np.arange(9000) * 2 * np.pi / 12)[:, None]
        values = season + np.random.default_rng(0).standard_normal((9000, 3)) * [0.1, 1, 5]
        baseline = SeasonalNaive(12).fit(make_windows(values, np.arange(50, 6000), 24, 6))
        test = make_windows(values, np.arange(6000, 8990), 24, 6)
        pit = baseline.law(test).marginals.pit(test.future(), torch.Generator().manual_seed(0))
        assert coverage(pit).mean((0, 1)).numpy() == pytest.approx(0.8, abs=0.02)

    def test_missing_values_leave_none(self):
        values = np.random.default_rng(0).standard_normal((200, 3)) + [0, 50, 100]
        values[::3, 0] = NAN
        values[150:, 1] = NAN  # nothing of the channel in the last contexts: the median of the fit part
        values[:, 2] = NAN
        for baseline in (LastValue(), SeasonalNaive(4)):
            law = baseline.fit(make_windows(values, np.arange(10, 140), 8, 5)).law(make_windows(values, [190], 8, 5))
            assert not law.marginals.values.isnan().any()
            assert law.marginals(0.5)[0, :, 1].numpy() == pytest.approx(50, abs=1)

    def test_nothing_to_fit_on(self):
        with pytest.raises(ValueError, match="from windows of the fit part, got none"):
            LastValue().fit(make_windows(np.zeros((20, 1)), [], 4, 2))

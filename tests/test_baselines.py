r"""Baselines by hand and against closed forms, and that their laws are as wide as their errors were."""

import math

import numpy as np
import pytest
import torch

from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.evaluation.baselines import BASELINES, VAR, DLinear, Drift, LastValue, NLinear, SeasonalNaive
from adapts.evaluation.baselines.dlinear import moving_average
from adapts.evaluation.scores import coverage

NAN = math.nan


def make_windows(values, origin, context_length, prediction_length):
    origin = np.asarray(origin)
    return Windows(Panel.of(values), np.zeros(len(origin), int), origin, context_length, prediction_length)


def autoregression(*coefficients, steps=4000, channels=1, noise=1.0, seed=0):
    shocks = noise * np.random.default_rng(seed).standard_normal((steps, channels))
    values = np.zeros((steps, channels))
    for step in range(len(coefficients), steps):
        values[step] = shocks[step] + sum(c * values[step - 1 - lag] for lag, c in enumerate(coefficients))
    return values


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

    def test_drift_goes_on_with_a_line(self):
        line = torch.arange(30.0, dtype=torch.float64)[:, None] * torch.tensor([0.5, -3.0]) + 7
        assert Drift().point(line[None, :20], 10)[0].numpy() == pytest.approx(line[20:].numpy())
        seen = line[:20].clone()
        seen[[0, 5, 18, 19]] = NAN  # the steps since the last value seen count
        assert Drift().point(seen[None], 10)[0].numpy() == pytest.approx(line[20:].numpy())

    def test_drift_of_the_ends_alone(self):
        assert Drift().point(self.past, 2)[0].tolist() == [[6.0, 12.0], [7.0, 13.0]]  # slopes 1 and 1, last 2 and 3 ago
        single = torch.tensor([NAN, 5.0, NAN])[None, :, None]
        assert Drift().point(single, 2).flatten().tolist() == [5.0, 5.0]
        assert Drift().point(single * NAN, 2).isnan().all()

    def test_no_season(self):
        with pytest.raises(ValueError, match="season_length of 1 or more steps, got 0"):
            SeasonalNaive(0)


class TestLaw:
    def test_residual_quantiles_of_each_lead(self):
        # A random walk: after h steps the error of the last value is N(0, h).
        values = torch.randn(40_000, 2, dtype=torch.float64).cumsum(0).numpy()
        baseline = LastValue().fit(make_windows(values, np.arange(100, 30_000), 10, 4))
        law = baseline.joint_distribution(make_windows(values, np.arange(31_000, 39_000), 10, 4))
        width = (law.marginals(0.9) - law.marginals(0.1))[0]  # (H, D)
        expected = 2 * 1.2816 * torch.arange(1, 5).sqrt()
        assert width.numpy() == pytest.approx(expected[:, None].expand(-1, 2).numpy(), rel=0.06)

    @pytest.mark.parametrize("name", BASELINES)
    def test_every_baseline_is_calibrated_out_of_sample(self, name):
        values = autoregression(0.7, steps=9000, channels=2) * [1, 100]
        baseline = BASELINES[name](6).fit(make_windows(values, np.arange(40, 6000, 3), 8, 6))
        test = make_windows(values, np.arange(6000, 8990), 8, 6)
        pit = baseline.joint_distribution(test).marginals.pit(test.future(), torch.Generator().manual_seed(0))
        assert coverage(pit).mean((0, 1)).numpy() == pytest.approx(0.8, abs=0.03)

    @pytest.mark.parametrize("name", BASELINES)
    def test_other_units_give_the_same_law(self, name):
        values = autoregression(0.7, steps=600, channels=2)
        one, other = (
            BASELINES[name](6)
            .fit(make_windows(x, np.arange(40, 480), 20, 6))
            .joint_distribution(make_windows(x, [500, 560], 20, 6))
            for x in (values, values * [1000, 1e-3] + 1e6)
        )
        back = (other.marginals.values - 1e6) / torch.tensor([1000.0, 1e-3]).view(2, 1)
        assert back.numpy() == pytest.approx(one.marginals.values.numpy(), rel=1e-4, abs=1e-4)

    def test_is_calibrated_out_of_sample(self):
        season = np.sin(np.arange(9000) * 2 * np.pi / 12)[:, None]
        values = season + np.random.default_rng(0).standard_normal((9000, 3)) * [0.1, 1, 5]
        baseline = SeasonalNaive(12).fit(make_windows(values, np.arange(50, 6000), 24, 6))
        test = make_windows(values, np.arange(6000, 8990), 24, 6)
        pit = baseline.joint_distribution(test).marginals.pit(test.future(), torch.Generator().manual_seed(0))
        assert coverage(pit).mean((0, 1)).numpy() == pytest.approx(0.8, abs=0.02)

    def test_missing_values_leave_none(self):
        values = np.random.default_rng(0).standard_normal((200, 3)) + [0, 50, 100]
        values[::3, 0] = NAN
        values[150:, 1] = NAN  # nothing of the channel in the last contexts: the median of the fit part
        values[:, 2] = NAN
        for name, make in BASELINES.items():
            baseline = make(4)
            law = baseline.fit(make_windows(values, np.arange(10, 140), 8, 5)).joint_distribution(
                make_windows(values, [190], 8, 5)
            )
            assert law.marginals.values.isfinite().all(), name
            assert law.marginals(0.5)[0, :, 1].numpy() == pytest.approx(50, abs=1)

    def test_nothing_to_fit_on(self):
        with pytest.raises(ValueError, match="expects one window or more to fit on, got none"):
            LastValue().fit(make_windows(np.zeros((20, 1)), [], 4, 2))


class TestNLinear:
    def test_recovers_a_linear_recursion(self):
        # x_t = 1.5 x_{t-1} - .5 x_{t-2}: the weights sum to one, as shifts ask for, and leads unroll it.
        values = autoregression(1.5, -0.5, steps=20_000, noise=0.1)
        fitted = NLinear().fit(make_windows(values, np.arange(50, 19_990), 8, 3))
        step = np.array([[1.5, -0.5], [1.0, 0.0]])
        for lead in range(3):
            newest, before = np.linalg.matrix_power(step, lead + 1)[0]
            weights = fitted.weights[:, lead].numpy()
            assert weights[-2] == pytest.approx(before, abs=0.05)  # that of the last value itself multiplies zero
            assert weights[:-2] == pytest.approx(0, abs=0.08)
            assert newest + before == pytest.approx(1)

    def test_approaches_the_best_weights_of_an_autoregression(self):
        # The best forecast that moves with the series: m + phi^h (x_L - m), m the generalised least squares mean.
        phi, length = 0.6, 6
        values = autoregression(phi, steps=40_000)
        fitted = NLinear().fit(make_windows(values, np.arange(50, 39_990), length, 4))
        mean = np.full(length, 1 - phi)
        mean[[0, -1]] = 1
        mean /= length - (length - 2) * phi
        for lead in range(4):
            expected = (1 - phi ** (lead + 1)) * mean
            assert fitted.weights[:-1, lead].numpy() == pytest.approx(expected[:-1], abs=0.02)

    def test_a_random_walk_gives_a_strong_ridge(self):
        walk = np.random.default_rng(0).standard_normal((400, 1)).cumsum(0)
        fitted = NLinear().fit(make_windows(walk, np.arange(60, 390), 48, 4))
        last = LastValue().fit(make_windows(walk, np.arange(60, 390), 48, 4))
        test = make_windows(walk, [300, 350], 48, 4)
        assert (fitted.forecast(test) - last.forecast(test)).abs().max() < 0.5

    def test_too_short_to_learn_is_the_last_value(self):
        values = autoregression(0.5, steps=40)
        windows = make_windows(values, [20, 21], 10, 6)
        assert torch.equal(NLinear().fit(windows).forecast(windows), LastValue().fit(windows).forecast(windows))


class TestDLinear:
    def test_without_penalty_it_is_one_linear_map_with_an_offset(self):
        values = autoregression(0.7, steps=700, channels=1)
        windows = make_windows(values, np.arange(60, 600), 12, 3)
        fitted = DLinear().fit(windows)
        fitted.weights = fitted.solver(*fitted._moments(windows)[:2])(0.0)
        x = np.c_[windows.past().numpy()[..., 0], np.ones(540)]
        known = x @ np.linalg.lstsq(x, windows.future().numpy()[..., 0], rcond=None)[0]
        assert fitted.forecast(windows)[..., 0].numpy() == pytest.approx(known, abs=1e-5)

    def test_goes_on_with_trend_and_season(self):
        time = np.arange(900.0)[:, None]
        values = np.sin(2 * np.pi * time / 12) * [1, 20] + 0.01 * time * [1, 20] + [5, -300]
        fitted = DLinear().fit(make_windows(values, np.arange(60, 600), 48, 6))
        test = make_windows(values, [700, 890], 48, 6)
        error = (fitted.forecast(test) - test.future().double()) / torch.tensor([1.0, 20.0])
        assert error.abs().max() < 0.05

    def test_noise_is_forecast_by_its_mean(self):
        values = np.random.default_rng(0).standard_normal((3000, 2)) + [0, 40]
        fitted = DLinear().fit(make_windows(values, np.arange(60, 2900), 24, 4))
        point = fitted.forecast(make_windows(values, np.arange(100, 2900, 50), 24, 4))
        assert (point - torch.tensor([0.0, 40.0])).abs().max() < 0.2

    def test_too_short_to_learn_is_the_mean(self):
        values = autoregression(0.5, steps=40)
        windows = make_windows(values, [20, 21], 10, 6)
        point = DLinear().fit(windows).forecast(windows)
        assert torch.equal(point[0], point[1])
        assert point.mean().item() == pytest.approx(windows.future(torch.float64).mean().item())

    def test_the_moving_average_repeats_both_ends(self):
        values = np.random.default_rng(0).standard_normal(40)
        padded = np.r_[np.repeat(values[0], 12), values, np.repeat(values[-1], 12)]
        known = np.convolve(padded, np.ones(25) / 25, mode="valid")
        assert (moving_average(40) @ torch.tensor(values)).numpy() == pytest.approx(known)
        assert moving_average(5).sum(1).numpy() == pytest.approx(1.0)  # shorter than the average


class TestVAR:
    @staticmethod
    def coupled(steps=800, seed=0):
        shocks = np.random.default_rng(seed).standard_normal((steps, 3))
        matrix = np.array([[0.6, 0.3, 0.0], [0.0, 0.5, 0.3], [-0.3, 0.0, 0.5]])
        values = np.zeros((steps, 3))
        for step in range(1, steps):
            values[step] = matrix @ values[step - 1] + shocks[step]
        return values * [1, 50, 0.01] + [0, 1000, 3]

    def test_point_forecast_is_that_of_statsmodels(self):
        from statsmodels.tsa.api import VAR as Regression

        values = self.coupled()
        fitted = VAR().fit(make_windows(values, np.arange(30, 590), 24, 10))
        order = len(fitted.items["0"].lags)
        known = Regression(values[:599]).fit(order, trend="c")  # the rows up to the last target
        for origin in (600, 700, 790):
            point = fitted.forecast(make_windows(values, [origin], 24, 10))[0].numpy()
            assert point == pytest.approx(known.forecast(values[origin - order : origin], 10), rel=1e-6, abs=1e-6)

    def test_chooses_the_order(self):
        assert len(VAR().fit(make_windows(self.coupled(3000), np.arange(30, 2900), 24, 4)).items["0"].lags) == 1
        seasonal = autoregression(0, 0, 0, 0.8, channels=2)
        assert len(VAR().fit(make_windows(seasonal, np.arange(30, 3900), 24, 4)).items["0"].lags) == 4

    def test_each_item_by_itself(self):
        one, two = self.coupled(500), autoregression(-0.9, steps=400, channels=3)
        panel = Panel.of([one, two])
        windows = Windows(panel, np.repeat([0, 1], 200), np.r_[100:300, 100:300], 12, 4)
        fitted = VAR().fit(windows)
        test = Windows(panel, np.array([1, 0]), np.array([350, 450]), 12, 4)
        both = fitted.forecast(test)
        for number, (values, origin) in enumerate([(two, 350), (one, 450)]):
            alone = (
                VAR().fit(make_windows(values, np.r_[100:300], 12, 4)).forecast(make_windows(values, [origin], 12, 4))
            )
            assert both[number].numpy() == pytest.approx(alone[0].numpy(), rel=1e-8)

    def test_channels_that_tell_nothing_keep_their_last_value(self):
        values = np.column_stack([self.coupled(), np.full(800, 4.0)])
        values[:, 2] = values[:, 0] + values[:, 1]  # a sum: no criterion and no covariance that can be inverted
        fitted = VAR().fit(make_windows(values, np.arange(30, 590), 24, 6))
        test = make_windows(values, [700], 24, 6)
        assert fitted.forecast(test)[0, :, 3].tolist() == [4.0] * 6
        assert fitted.joint_distribution(test).marginals.values.isfinite().all()

    def test_too_short_is_the_last_value(self):
        windows = make_windows(self.coupled(30), [20, 22], 10, 4)
        assert torch.equal(VAR().fit(windows).forecast(windows), LastValue().fit(windows).forecast(windows))

    def test_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr("adapts.evaluation.baselines.var.find_spec", lambda name: None)
        with pytest.raises(ValueError, match=r"requires statsmodels: pip install 'adapts\[baselines\]'"):
            VAR()

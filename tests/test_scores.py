r"""Scores against values by hand, against scoringrules, and against laws that are known."""

import math

import numpy as np
import pandas as pd
import pytest
import scoringrules
import torch
from calendars import times

from adapts.calibration.joint_bands import JointBands
from adapts.copulas.gaussian import GaussianCopula
from adapts.data.panel import Panel
from adapts.data.times import Times
from adapts.data.windows import Windows
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation.differences import difference_table
from adapts.evaluation.scores import (
    DECILES,
    band_coverage,
    by_regime,
    coverage,
    crps_fair,
    crps_sum,
    dawid_sebastiani,
    energy_score,
    interval_score,
    pinball,
    pit_deviations,
    pit_ece,
    pit_ece_floor,
    pit_ks,
    pit_ks_floor,
    recent_volatility,
    variogram_score,
    wql,
)

NAN = math.nan


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def normal_pits(num_windows, leads, stride, memory, channels=1, seed=0):
    r"""PITs of the perfect law of an AR(1) process, forecast from each origin: e_h = memory e_(h-1) + w."""
    generator = torch.Generator().manual_seed(seed)
    origin = np.arange(num_windows) * stride
    shocks = torch.randn(int(origin[-1]) + leads, channels, generator=generator, dtype=torch.float64)
    error, variance, pits = torch.zeros(num_windows, channels, dtype=torch.float64), 0.0, []
    for lead in range(leads):
        error = memory * error + shocks[origin + lead]
        variance = memory**2 * variance + 1
        pits.append(torch.special.ndtr(error / math.sqrt(variance)))
    return torch.stack(pits, dim=1), times(origin)  # (n, H, D)


class TestCrps:
    def test_by_hand(self):
        # mean |x - y| = (1 + 0 + 2) / 3 = 1; the mean distance of two different samples is (1 + 3 + 2) / 3 = 2.
        assert crps_fair(torch.tensor([0.0, 1.0, 3.0]), torch.tensor(1.0)).item() == pytest.approx(0.0)
        assert crps_fair(torch.tensor([0.0, 1.0, 3.0]), torch.tensor(5.0)).item() == pytest.approx(11 / 3 - 1)

    def test_agrees_with_all_pairs(self, monkeypatch):
        monkeypatch.setattr("adapts.evaluation.scores._CHUNK", 64)  # several chunks
        samples, y = torch.randn(11, 4, 3), torch.randn(4, 3)
        pairs = scoringrules.crps_ensemble(y.numpy(), samples.numpy(), m_axis=0, estimator="fair", backend="numpy")
        assert crps_fair(samples, y).numpy() == pytest.approx(pairs, abs=1e-6)

    def test_expectation_is_the_normal_closed_form(self):
        y = torch.tensor([-1.0, 0.0, 2.5])
        samples = torch.randn(5, 40_000, 3)  # only five samples a score: the fair estimate is unbiased all the same
        closed = scoringrules.crps_normal(y.numpy(), 0.0, 1.0)
        assert crps_fair(samples, y.expand(40_000, 3)).mean(0).numpy() == pytest.approx(closed, abs=0.015)

    def test_far_from_zero(self):
        samples, y = torch.randn(50, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
        assert torch.allclose(crps_fair(samples + 1e6, y + 1e6), crps_fair(samples, y), atol=1e-8)

    def test_missing(self):
        assert crps_fair(torch.randn(5, 2), torch.tensor([NAN, 0.0])).isnan().tolist() == [True, False]


class TestPinball:
    def test_by_hand(self):
        loss = pinball(torch.tensor([[1.0, 4.0]]), torch.tensor([2.0]), torch.tensor([0.1, 0.9]))
        assert loss.numpy() == pytest.approx(np.array([[0.1 * 1, 0.1 * 2]]))

    def test_wql_by_hand(self):
        # A point forecast off by 2 loses 2 tau (or 2 (1 - tau)): twice the mean over the deciles is 2.
        assert wql(torch.zeros(9), torch.tensor(2.0)).item() == pytest.approx(2.0)
        assert wql(torch.zeros(9), torch.tensor(-2.0)).item() == pytest.approx(2.0)

    def test_weighted_quantile_loss_of_gluonts(self):
        # Divided by the sum of |y|, the mean is their weighted quantile loss over the deciles.
        from gluonts.ev.metrics import MeanWeightedSumQuantileLoss

        y, quantiles = torch.randn(40), torch.randn(40, 9).sort(-1).values
        data = {f"{level:g}": q.numpy() for level, q in zip(DECILES, quantiles.mT, strict=True)}
        evaluator = MeanWeightedSumQuantileLoss(quantile_levels=list(DECILES))(axis=None)
        evaluator.update({"label": y.numpy(), **data})
        assert (wql(quantiles, y).sum() / y.abs().sum()).item() == pytest.approx(evaluator.get(), rel=1e-5)

    def test_wql_tends_to_the_crps(self):
        levels = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
        quantiles, y = torch.special.ndtri(levels), torch.tensor(0.7)
        assert wql(quantiles, y, levels).item() == pytest.approx(scoringrules.crps_normal(0.7, 0.0, 1.0), abs=1e-3)

    def test_missing(self):
        assert wql(torch.zeros(2, 9), torch.tensor([NAN, 1.0])).isnan().tolist() == [True, False]


class TestCoverage:
    def test_by_hand(self):
        inside = coverage(torch.tensor([0.05, 0.1, 0.5, 0.9, 0.95, NAN]))
        assert inside[:5].tolist() == [0, 1, 1, 1, 0] and inside[5].isnan()

    @pytest.mark.parametrize(("spread", "low", "high"), [(1, 0.79, 0.81), (2, 0.98, 1), (0.5, 0, 0.5)])
    def test_right_law_covers_and_others_do_not(self, spread, low, high):
        pit = torch.special.ndtr(torch.randn(20_000) / spread)
        assert low < coverage(pit).mean() < high


class TestPitEce:
    def test_by_hand(self):
        assert pit_ece((torch.arange(10) + 0.5) / 10).item() == pytest.approx(0.0, abs=1e-7)
        # Deviations .3 - .25 and .6 - .75; the NaN does not count.
        assert pit_ece(torch.tensor([0.6, NAN, 0.3])).item() == pytest.approx((0.05 + 0.15) / 2)

    @pytest.mark.parametrize("share", [0.5, 0.3, 0.0])
    def test_point_forecast(self, share):
        # The closed form of a point forecast with a share of the observations below it.
        pit = (torch.arange(1000) >= share * 1000).float()
        assert pit_ece(pit).item() == pytest.approx((share**2 + (1 - share) ** 2) / 2, abs=1e-3)

    def test_columns_apart_and_missing(self):
        pit = torch.rand(50, 2, 3)
        pit[:, 0, 0] = NAN
        error = pit_ece(pit)
        assert error.shape == (2, 3) and error[0, 0].isnan()
        assert error[1, 2].item() == pytest.approx(pit_ece(pit[:, 1, 2]).item())


class TestFloor:
    @pytest.mark.parametrize("memory", [0.0, 0.7, 1.0])
    @pytest.mark.parametrize(
        ("num_windows", "leads", "stride"), [(60, 24, 24), (10, 24, 24), (120, 12, 3), (120, 12, 1), (100, 1, 1)]
    )
    def test_is_what_a_perfect_law_shows(self, num_windows, leads, stride, memory):
        pit, time = normal_pits(num_windows, leads, stride, memory, channels=200)
        shown = pit_ece(pit.flatten(0, 1)).mean().item()
        assert pit_ece_floor(pit, time).mean().item() == pytest.approx(shown, rel=0.1)

    def test_does_not_ask_how_well_calibrated_the_law_is(self):
        pit, time = normal_pits(100, 12, 12, 0.7, channels=2)
        worse = pit**3 / (1 + torch.arange(12)[:, None])
        assert torch.equal(pit_ece_floor(worse, time), pit_ece_floor(pit, time))

    def test_overlap_is_seen(self):
        pit, time = normal_pits(96, 24, 1, 0.7, channels=50)
        assert pit_ece_floor(pit, time).mean() > 2 * pit_ece_floor(pit, times(time.step * 24)).mean()

    def test_items_that_share_origins_are_one_block(self):
        pit, time = normal_pits(40, 6, 6, 0.5, channels=50)
        twice = pit_ece_floor(pit.repeat(2, 1, 1), Times.joined([time, time])).mean()
        assert twice.item() == pytest.approx(pit_ece_floor(pit, time).mean().item(), rel=0.05)

    def test_missing_cells(self):
        pit, time = normal_pits(80, 12, 12, 0.0, channels=100)
        pit[torch.rand(pit.shape) < 0.5] = NAN
        pit[:, :, 0] = NAN
        floor = pit_ece_floor(pit, time)
        assert floor[0].isnan()
        assert floor[1:].mean().item() == pytest.approx(pit_ece(pit.flatten(0, 1))[1:].mean().item(), rel=0.1)

    def test_one_origin_tells_nothing(self):
        assert pit_ece_floor(torch.rand(1, 24, 2), times([5])).isnan().all()

    def test_rows_are_no_times(self):
        with pytest.raises(TypeError, match=r"got ndarray: pass windows.time \(not windows.origin"):
            pit_deviations(torch.rand(9, 4, 1), np.arange(9))

    def test_deviations_bound_the_curve(self):
        pit, time = normal_pits(60, 12, 12, 0.9, channels=300)
        bound = pit_deviations(pit, time).abs().amax(1).quantile(0.9, dim=0)  # (D,)
        levels = (torch.arange(100) + 0.5) / 100
        curve = (pit.flatten(0, 1)[:, :, None] <= levels).double().mean(0)  # (D, G)
        assert 0.84 < ((curve - levels).abs().amax(1) < bound).double().mean() < 0.96


class TestJointScores:
    def test_energy_by_hand(self):
        # Samples (0, 0) and (6, 8), truth (3, 4): both are 5 away, and 10 from each other.
        samples, y = torch.tensor([[[0.0, 0.0]], [[6.0, 8.0]]]), torch.tensor([[3.0, 4.0]])
        assert energy_score(samples, y).item() == pytest.approx(5 - 10 / 2)

    def test_variogram_by_hand(self):
        # |y1 - y2|^.5 = 2; the samples say 1 and 3, so 2 on the mean; a third sample of 6 makes it 10 / 3.
        samples, y = torch.tensor([[[0.0, 1.0]], [[0.0, 9.0]]]), torch.tensor([[0.0, 4.0]])
        assert variogram_score(samples, y).item() == pytest.approx(0.0)
        samples = torch.cat([samples, torch.tensor([[[36.0, 0.0]]])])
        assert variogram_score(samples, y).item() == pytest.approx(2 * (10 / 3 - 2) ** 2)

    def test_agree_with_scoringrules(self, monkeypatch):
        monkeypatch.setattr("adapts.evaluation.scores._CHUNK", 200)
        samples, y = torch.randn(30, 7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
        ensembles = samples.transpose(0, 1).numpy()
        energy = scoringrules.es_ensemble(y.numpy(), ensembles, estimator="fair", backend="numpy")
        variogram = scoringrules.vs_ensemble(y.numpy(), ensembles, p=0.5, backend="numpy")
        assert energy_score(samples, y).numpy() == pytest.approx(energy)
        assert variogram_score(samples, y).numpy() == pytest.approx(variogram)

    @pytest.mark.parametrize("score", [energy_score, variogram_score])
    def test_missing_entries_are_left_out(self, score):
        samples, y = torch.randn(9, 3, 4), torch.randn(3, 4)
        y[0, 2], y[1], y[2, 1:] = NAN, NAN, NAN
        scores = score(samples, y)
        assert scores[0].item() == pytest.approx(score(samples[:, :1, [0, 1, 3]], y[:1, [0, 1, 3]]).item())
        assert scores[1].isnan()
        assert scores[2].isnan() == (score is variogram_score)  # one entry makes no pair

    def test_proper_where_the_dependence_differs(self):
        # Truth and forecasts with the same margins, only the correlation differs: the right one scores best.
        def draw(rho, *shape):
            z = torch.randn(*shape, 4) * math.sqrt(1 - rho) + torch.randn(*shape, 1) * math.sqrt(rho)
            return z

        y = draw(0.7, 4000)
        variogram = {rho: variogram_score(draw(rho, 100, 4000), y).mean().item() for rho in (0.0, 0.5, 0.7, 0.9)}
        energy = {rho: energy_score(draw(rho, 100, 4000), y).mean().item() for rho in (0.0, 0.7)}
        assert min(variogram, key=variogram.get) == 0.7 and energy[0.7] < energy[0.0]
        assert variogram[0.0] / variogram[0.7] > energy[0.0] / energy[0.7]  # which is why both are reported


class TestIntervalScore:
    def test_by_hand(self):
        # As wide as 3; the truth 5 lies .5 above, and at level .8 each unit outside costs 10.
        lower, upper = torch.tensor([1.5, 1.5, 1.5]), torch.tensor([4.5, 4.5, 4.5])
        score = interval_score(lower, upper, torch.tensor([2.0, 5.0, 1.0]), level=0.8)
        assert score.tolist() == pytest.approx([3, 8, 8])
        assert interval_score(lower, upper, torch.tensor([2.0, 5.0, NAN]), level=0.5)[1].item() == pytest.approx(5)

    def test_is_the_pinball_loss_of_its_ends(self):
        y, quantiles = torch.randn(50), torch.randn(50, 2).sort(-1).values
        loss = 2 / 0.2 * pinball(quantiles, y, torch.tensor([0.1, 0.9])).sum(-1)
        assert interval_score(*quantiles.mT, y, 0.8).numpy() == pytest.approx(loss.numpy(), abs=1e-5)

    def test_agrees_with_scoringrules(self):
        y, (lower, upper) = torch.randn(50), torch.randn(50, 2).sort(-1).values.mT
        other = scoringrules.interval_score(y.numpy(), lower.numpy(), upper.numpy(), 0.1, backend="numpy")
        assert interval_score(lower, upper, y, 0.9).numpy() == pytest.approx(other, rel=1e-5)

    def test_missing(self):
        score = interval_score(torch.zeros(2), torch.ones(2), torch.tensor([NAN, 0.5]))
        assert score.isnan().tolist() == [True, False]


class TestBandCoverage:
    def test_by_hand(self):
        # Two windows of two leads and two channels in [0, 1]; only the last cell of the second lies outside.
        y = torch.tensor([[[0.0, 1.0], [0.5, NAN]], [[0.5, 0.5], [0.5, 1.1]]])
        lower, upper = torch.zeros(2, 2, 2), torch.ones(2, 2, 2)
        assert band_coverage(lower, upper, y).tolist() == [1, 0]
        assert band_coverage(lower, upper, y, "time").tolist() == [[1, 1], [1, 0]]
        assert band_coverage(lower, upper, y, "channels").tolist() == [[1, 1], [1, 0]]
        y[0, :, 1] = NAN
        assert band_coverage(lower, upper, y, "time").isnan().tolist() == [[False, True], [False, False]]
        with pytest.raises(ValueError, match="'time', 'channels' or 'all', got 'both'"):
            band_coverage(lower, upper, y, "both")

    @pytest.mark.parametrize("joint", ["time", "channels", "all"])
    def test_the_band_of_the_true_law_covers_as_stated(self, joint):
        correlation = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
        normal = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
        marginals = QuantileFunction(LEVELS, normal.expand(3000, 4, 2, -1))
        law = JointDistribution(marginals, GaussianCopula(correlation, torch.eye(4)))
        y = law.sample(1, stratified=False)[0]
        lower, upper = JointBands().band(law, 0.9, joint)
        paths = band_coverage(lower, upper, y, joint).mean().item()
        assert paths == pytest.approx(0.9, abs=0.04)
        cells = (y >= lower) & (y <= upper)
        assert cells.double().mean() > paths + 0.02  # each cell by itself is inside more often


class TestRegimes:
    def test_spread_by_hand(self):
        # Steps 3 and -4, of which the last one or both are looked at; gaps make no step.
        past = torch.tensor([9.0, 0.0, 3.0, -1.0])[None, :, None]
        assert recent_volatility(past, 1).item() == 4
        assert recent_volatility(past, 2).item() == pytest.approx(math.sqrt((9 + 16) / 2))
        past[0, 2] = NAN
        assert recent_volatility(past, 3).item() == 9 and recent_volatility(past, 2).isnan().all()

    def test_windows_are_parted_at_the_median_of_each_channel(self):
        spread = torch.tensor([[1.0, 40.0], [2.0, 10.0], [3.0, 30.0], [4.0, NAN]])
        calm, volatile = by_regime(torch.ones(4, 2, 2), spread)
        assert calm[:, 0].isnan().tolist() == [[False, True], [False, False], [True, False], [True, True]]
        assert volatile[:, 1].isnan().tolist() == [[True, False], [True, True], [False, True], [False, True]]

    def test_a_law_of_one_width_covers_too_much_in_calm_times(self):
        # Shocks of deviation 1 or 3, for a window and the rows before it; a law as wide as both on the mean.
        deviation = torch.tensor([1.0, 3.0]).repeat(1000)[:, None, None]
        past, future = (deviation * torch.randn(2000, 9, 1)).cumsum(1), deviation * torch.randn(2000, 8, 1)
        known, fixed = (coverage(torch.special.ndtr(future / width)) for width in (deviation, 5**0.5))
        for inside, (low, high) in ((known, (0.8, 0.8)), (fixed, (0.995, 0.66))):
            calm, volatile = by_regime(inside, recent_volatility(past, 8))
            assert calm.nanmean().item() == pytest.approx(low, abs=0.03)
            assert volatile.nanmean().item() == pytest.approx(high, abs=0.03)


class TestPitKs:
    def test_by_hand(self):
        # Sorted .3 and .6, the NaN does not count: up to .3 no share of them lies below, up to .6 a half, then all.
        assert pit_ks(torch.tensor([0.6, NAN, 0.3])).item() == pytest.approx(0.4)
        assert pit_ks(torch.tensor([0.9])).item() == pytest.approx(0.9)
        assert pit_ks((torch.arange(10) + 0.5) / 10).item() == pytest.approx(0.05)

    def test_agrees_with_scipy(self):
        stats = pytest.importorskip("scipy.stats")
        pit = torch.rand(60, 3, dtype=torch.float64) ** 1.3
        expected = [stats.kstest(column, "uniform").statistic for column in pit.mT.numpy()]
        assert pit_ks(pit).numpy() == pytest.approx(expected)

    def test_columns_apart_and_missing(self):
        pit = torch.rand(50, 2, 3)
        pit[:, 0, 0] = NAN
        assert pit_ks(pit)[0, 0].isnan() and pit_ks(pit)[1, 2] == pit_ks(pit[:, 1, 2])

    @pytest.mark.parametrize("memory", [0.0, 0.9])
    def test_floor_is_what_a_perfect_law_shows(self, memory):
        pit, time = normal_pits(60, 12, 12, memory, channels=200)
        shown = pit_ks(pit.flatten(0, 1)).mean().item()
        assert pit_ks_floor(pit, time).mean().item() == pytest.approx(shown, rel=0.1)


class TestCrpsSum:
    def test_by_hand(self):
        # Totals 0, 1 and 3 against 5, as of `TestCrps`; without the second channel 0, 1 and 1 against 2.
        samples = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
        assert crps_sum(samples, torch.tensor([2.0, 3.0])).item() == pytest.approx(11 / 3 - 1)
        assert crps_sum(samples, torch.tensor([2.0, NAN])).item() == pytest.approx(4 / 3 - 1 / 3)
        assert crps_sum(samples, torch.tensor([NAN, NAN])).isnan()

    def test_of_one_channel_is_the_crps(self):
        samples, y = torch.randn(9, 4, 3, 1), torch.randn(4, 3, 1)
        assert torch.equal(crps_sum(samples, y), crps_fair(samples, y)[..., 0])


class TestDawidSebastiani:
    def test_by_hand(self):
        # Mean 0, variance (4 + 0 + 0 + 0 + 4) / 4 = 2, factor (5 - 1 - 2) / 4 = 1/2: log 2 + 1/2 * 3^2 / 2.
        samples = torch.tensor([-2.0, 0.0, 0.0, 0.0, 2.0])[:, None, None]
        assert dawid_sebastiani(samples, torch.tensor([[3.0]])).item() == pytest.approx(math.log(2) + 9 / 4)

    def test_agrees_with_scoringrules(self, monkeypatch):
        # Theirs is without the factor: at the mean, the logarithm of the determinant is left.
        monkeypatch.setattr("adapts.evaluation.scores._CHUNK", 200)
        samples, y = torch.randn(30, 7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
        samples = samples @ torch.randn(5, 5, dtype=torch.float64) + 1e4
        of = [scoringrules.dssmv_ensemble(x.numpy(), samples.transpose(0, 1).numpy(), backend="numpy")
              for x in (samples.mean(0), y + 1e4)]  # fmt: skip
        assert dawid_sebastiani(samples, y + 1e4).numpy() == pytest.approx(of[0] + 23 / 29 * (of[1] - of[0]), rel=1e-6)

    def test_expectation_is_that_of_the_normal_law(self):
        # E log det C and E of the quadratic form in closed form, for few samples: nothing depends on the covariance.
        root = torch.tensor([[2.0, 0.0], [1.5, 0.5]], dtype=torch.float64)
        samples, y = (torch.randn(*shape, 2, dtype=torch.float64) @ root.mT for shape in ((8, 40_000), (40_000,)))
        half = torch.tensor([7.0, 6.0], dtype=torch.float64) / 2
        log_det = 2 * root.diagonal().log().sum() + (torch.digamma(half) - math.log(7 / 2)).sum()
        assert dawid_sebastiani(samples, y).mean().item() == pytest.approx(float(log_det) + 2 * (1 + 1 / 8), abs=0.05)

    def test_missing_entries_are_left_out(self):
        samples, y = torch.randn(9, 4, 4), torch.randn(4, 4)
        y[0, 2], y[1], y[3, 2] = NAN, NAN, NAN
        scores, some = dawid_sebastiani(samples, y), [0, 1, 3]
        assert scores[[0, 3]].tolist() == pytest.approx(
            dawid_sebastiani(samples[:, [0, 3]][..., some], y[[0, 3]][:, some]).tolist()
        )
        assert scores[2].item() == pytest.approx(dawid_sebastiani(samples[:, 2:3], y[2:3]).item())
        assert scores[1].isnan()

    def test_too_few_samples(self):
        with pytest.raises(ValueError, match="covariance of 4 entries, for which 7 samples are needed, got 6"):
            dawid_sebastiani(torch.randn(6, 3, 4), torch.randn(3, 4))

    @pytest.mark.parametrize("entry", [lambda x: x[..., 0] * 0 + 5, lambda x: 3 * x[..., 0] - 2 * x[..., 1] + 100])
    def test_a_covariance_without_inverse(self, entry):
        samples = torch.randn(50, 3, 2)
        samples = torch.cat([samples, entry(samples)[..., None]], -1)
        with pytest.raises(ValueError, match="is singular: remove entries that are constant or determined by the"):
            dawid_sebastiani(samples, torch.randn(3, 3))


class TestProper:
    r"""On simulated vectors of a known normal law, that law scores best on the mean, and every other one worse."""

    RIGHT = (0.0, 1.0, 0.5)  # shift of the first entry, deviation, correlation
    WRONG = {"shifted": (1.0, 1.0, 0.5), "wide": (0.0, 1.6, 0.5), "narrow": (0.0, 0.6, 0.5),
             "independent": (0.0, 1.0, 0.0), "too alike": (0.0, 1.0, 0.95)}  # fmt: skip

    @staticmethod
    def draw(law, *shape):
        shift, deviation, correlation = law
        common, own = torch.randn(*shape, 1).double(), torch.randn(*shape, 3).double()
        x = deviation * (math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own)
        return x + torch.tensor([shift, 0.0, 0.0])

    @staticmethod
    def quantiles(law, *levels):
        shift, deviation, _ = law
        z = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64))
        return torch.tensor([shift, 0.0, 0.0])[:, None] + deviation * z  # (3, Q)

    def excess(self, score, wrong, windows=8000):
        r"""By how much other laws score worse than the right one on the mean, in its standard errors."""
        y = self.draw(self.RIGHT, windows)
        values = {}
        for name in ("right", *wrong):
            torch.manual_seed(1)  # the same noise for all
            values[name] = score(self.WRONG.get(name, self.RIGHT), y)
        more = {name: values[name] - values["right"] for name in wrong}
        return {name: (x.mean() / (x.std() / math.sqrt(windows))).item() for name, x in more.items()}

    @pytest.mark.parametrize("number", [3, 30])
    def test_scores_of_cells(self, number):
        for score in (
            lambda law, y: crps_fair(self.draw(law, number, len(y)), y).mean(-1),
            lambda law, y: wql(self.quantiles(law, *DECILES), y).mean(-1),
            lambda law, y: interval_score(*self.quantiles(law, 0.1, 0.9).mT, y, 0.8).mean(-1),
        ):
            assert min(self.excess(score, ("shifted", "wide", "narrow")).values()) > 4

    @pytest.mark.parametrize("number", [8, 40])  # samples: few of them favour no other law
    @pytest.mark.parametrize("score", [energy_score, dawid_sebastiani, crps_sum, variogram_score])
    def test_scores_of_vectors(self, score, number):
        excess = self.excess(lambda law, y: score(self.draw(law, number, len(y)), y), self.WRONG)
        assert min(excess.values()) > 3, excess


class TestDifferences:
    @staticmethod
    def windows(origins, prediction_length, items=1, channels=1):
        rows = int(max(origins)) + prediction_length
        panel = Panel.of(np.zeros((items, rows, channels)))
        item = np.repeat(np.arange(items), len(origins))
        return Windows(panel, item, np.tile(origins, items), 4, prediction_length)

    def test_identical_models_differ_by_nothing(self):
        windows = self.windows(np.arange(40) * 6, 6, channels=2)
        same = {"crps": torch.rand(40, 6, 2), "energy_score": torch.rand(40)}
        table = difference_table({"a": same, "b": same}, windows, against="b", metrics=["crps", "energy_score"])
        assert (table[["difference", "low", "high"]] == 0).all(axis=None)
        assert list(table.columns) == ["model", "against", "channel", "metric", "difference", "low", "high"]
        assert table["channel"].tolist() == ["all", "0", "1", "all"]

    def test_the_difference_is_that_of_the_means(self):
        windows = self.windows(np.arange(40) * 6, 6, channels=2)
        one, other = torch.rand(2, 40, 6, 2).double()
        hidden = torch.rand(40, 6, 2) < 0.3  # missing targets: for both models
        one[hidden] = other[hidden] = math.nan
        table = difference_table({"a": {"mae": one}, "b": {"mae": other}}, windows, against="a", metrics=["mae"])
        expected = other.nanmean((0, 1)) - one.nanmean((0, 1))
        assert table["difference"].tolist() == pytest.approx([expected.mean().item(), *expected.tolist()])
        assert (table["low"] < table["difference"]).all() and (table["difference"] < table["high"]).all()

    @pytest.mark.parametrize(("stride", "memory"), [(6, 0.0), (6, 0.8), (3, 0.5), (6, 0.92), (2, 0.9)])
    def test_intervals_cover_as_often_as_they_say(self, stride, memory):
        origins, rng, inside = np.arange(50) * stride, np.random.default_rng(0), 0
        windows, rows = self.windows(origins, 6), origins[-1] + 6
        shocks = rng.standard_normal((200, rows + 50))
        for step in range(1, rows + 50):
            shocks[:, step] += memory * shocks[:, step - 1]
        for path in shocks[:, 50:]:
            cells = torch.from_numpy(np.stack([path[origin : origin + 6] for origin in origins]))[..., None]
            scores = {"a": {"crps": cells}, "b": {"crps": torch.zeros_like(cells)}}
            table = difference_table(scores, windows, against="b", metrics=["crps"])
            inside += table["low"][0] <= 0 <= table["high"][0]
        assert 0.85 <= inside / 200 <= 0.95  # of 90 %; half as wide a one covers 60 %

    def test_items_of_one_origin_stay_together(self):
        # Eight copies of one item know no more than one.
        origins = np.arange(50) * 6
        cells = torch.randn(50, 6, 1).double()
        tables = [
            difference_table(
                {"a": {"crps": cells.repeat(n, 1, 1)}, "b": {"crps": torch.zeros(50 * n, 6, 1)}},
                self.windows(origins, 6, items=n), against="b", metrics=["crps"],
            )
            for n in (1, 8)
        ]  # fmt: skip
        pd.testing.assert_frame_equal(*tables)

    def test_items_share_a_calendar(self):
        index = pd.date_range("2024", periods=60, freq="h")
        panel = Panel.of([pd.DataFrame(np.zeros((60 - late, 1)), index[late:], columns=["a"]) for late in (0, 25)])
        windows = Windows(panel, np.array([0, 0, 1, 1]), np.array([40, 45, 15, 20]), 4, 6)
        assert windows.time.step.tolist() == [40, 45, 40, 45]
        undated = Panel.of([np.zeros((60, 1)), np.zeros((35, 1))])
        assert Windows(undated, windows.item, windows.origin, 4, 6).time.step.tolist() == [40, 45, 40, 45]

    def test_a_regime_that_some_draws_miss_has_an_interval(self):
        # Cells are seen in six consecutive windows of forty: many a draw of blocks holds none of them.
        cells = torch.full((40, 6, 2), NAN).double()
        cells[10:16, :, 0] = torch.rand(6, 6).double()
        scores = {"a": {"coverage_80_calm": cells}, "b": {"coverage_80_calm": torch.zeros(40, 6, 2)}}
        table = difference_table(scores, self.windows(np.arange(40) * 6, 6, channels=2), against="b",
                                 metrics=["coverage_80_calm"]).set_index("channel")  # fmt: skip
        assert table.loc["all", "difference"] == pytest.approx(cells.nanmean().item())
        assert (table.loc[["all", "0"], "low"] < table.loc[["all", "0"], "difference"]).all()
        assert table.loc["1", ["difference", "low", "high"]].isna().all()

    def test_too_few_windows_have_no_interval(self):
        windows = self.windows(np.arange(3) * 6, 6)
        scores = {"a": {"crps": torch.rand(3, 6, 1)}, "b": {"crps": torch.rand(3, 6, 1)}}
        table = difference_table(scores, windows, against="b", metrics=["crps"])
        assert table[["low", "high"]].isna().all(axis=None) and table["difference"].notna().all()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"against": "frozen modle"}, r"no model of the backtest .* \(did you mean 'frozen model'\?\)"),
            ({"metrics": ["pit_ece"]}, "no metric of differences is called 'pit_ece'; known: mse"),
            ({"level": 90}, r"level of an interval within \(0, 1\), got 90"),
        ],
    )
    def test_errors(self, options, words):
        scores = {"a": {"crps": torch.rand(9, 6, 1)}, "frozen model": {"crps": torch.rand(9, 6, 1)}}
        with pytest.raises(ValueError, match=words):
            difference_table(scores, self.windows(np.arange(9) * 6, 6), **{"against": "frozen model", **options})

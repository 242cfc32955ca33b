r"""Copulas: stratified margins, Kronecker draws, recovered correlations, and the law that they complete."""

import math

import numpy as np
import pytest
import torch
from calendars import times

from adapts.copulas.base import Copula, order
from adapts.copulas.gaussian import GaussianCopula, as_correlation, fit_gaussian, fit_history
from adapts.copulas.independent import Independent
from adapts.copulas.rank import PathCopula, RankCopula
from adapts.copulas.structured import StructuredCopula
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.statistics.bootstrap import block_scheme, effective_sample_size, lead_blocks

HORIZON, CHANNELS = 6, 4


def autoregression(rho, length):
    steps = torch.arange(length, dtype=torch.float64)
    return (rho ** (steps.unsqueeze(-1) - steps).abs()).float()


def random_correlation(size):
    factor = torch.randn(size, 2 * size)
    covariance = factor @ factor.T
    scale = covariance.diagonal().rsqrt()
    return scale.unsqueeze(-1) * covariance * scale


@pytest.mark.parametrize("number", [1, 2, 200, 1000])
def test_order_is_that_of_a_stable_argsort(number):
    x = torch.cat([torch.randn(50, number), torch.randint(-3, 4, (50, number)).float(), 1e-40 * torch.randn(9, number)])
    assert torch.equal(order(x), x.argsort(dim=-1, stable=True))


def gaussian():
    return GaussianCopula(random_correlation(CHANNELS), autoregression(0.8, HORIZON))


def structured(freedom):
    roots = torch.eye(HORIZON).expand(CHANNELS, -1, -1)
    return StructuredCopula(torch.eye(CHANNELS), roots, 0.4 * torch.rand(2, HORIZON, CHANNELS), freedom)


COPULAS = {
    "independent": lambda: Independent(HORIZON, CHANNELS),
    "gaussian": gaussian,
    "structured": lambda: structured(math.inf),
    "student": lambda: structured(4),
    "ranks": lambda: RankCopula(torch.randn(4000, HORIZON, CHANNELS)),
    "paths": lambda: PathCopula(torch.randn(4000, 1, HORIZON, CHANNELS)),
}


@pytest.mark.parametrize("make", COPULAS.values(), ids=COPULAS)
class TestEvery:
    def test_margins_are_stratified(self, make):
        u = make().uniforms(50)
        strata = (u * 50).floor().sort(0).values
        assert u.shape == (50, HORIZON, CHANNELS)
        assert torch.equal(strata, torch.arange(50.0).view(-1, 1, 1).expand_as(strata))

    def test_levels_are_uniform_within_their_strata(self, make):
        inside = make().uniforms(50, windows=40) * 50 % 1
        inside = inside.flatten().sort().values
        # one joint draw a path, so as many as there are paths are independent
        distance = (inside - (torch.arange(len(inside)) + 0.5) / len(inside)).abs().max()
        assert float(distance) * math.sqrt(50 * 40) < 1.63

    def test_windows_are_independent(self, make):
        z = torch.special.ndtri(make().uniforms(1, windows=4000))[0].flatten(1)  # (n, H*D)
        assert abs(float((z[1:] * z[:-1]).mean())) < 0.03

    def test_same_seed_same_draws(self, make):
        copula = make()
        a, b = (copula.uniforms(20, torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(a, b) and not torch.equal(a, copula.uniforms(20, torch.Generator().manual_seed(4)))

    def test_state_makes_it_again(self, make):
        copula = make()
        state = copula.state()
        again = Copula.from_state(state)
        assert type(again) is type(copula) and all(isinstance(x, torch.Tensor) for x in state.values())
        draws = [c.uniforms(20, torch.Generator().manual_seed(3)) for c in (copula, again)]
        assert torch.equal(*draws)


class TestGaussian:
    def test_kronecker_draws_have_the_dense_correlation(self):
        copula = gaussian()
        dense = torch.kron(copula.time_correlation, copula.channel_correlation)  # leads outside, channels inside
        z = torch.special.ndtri(copula.uniforms(1, windows=40_000))[0].flatten(1)
        torch.testing.assert_close(torch.corrcoef(z.T), dense, atol=0.025, rtol=0)

    def test_ranks_keep_the_correlation(self):
        copula = gaussian()
        u = copula.uniforms(20_000)
        z = torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6)).flatten(1)
        dense = torch.kron(copula.time_correlation, copula.channel_correlation)
        torch.testing.assert_close(torch.corrcoef(z.T), dense, atol=0.035, rtol=0)

    def test_one_sample_follows_the_copula_too(self):
        near = torch.tensor([[1.0, 0.999], [0.999, 1.0]])
        u = GaussianCopula(near, torch.eye(1)).uniforms(1, windows=500)[0, :, 0]
        assert float((u[:, 0] - u[:, 1]).abs().max()) < 0.1

    def test_many_channels_and_leads_need_no_dense_matrix(self):
        u = GaussianCopula(random_correlation(300), autoregression(0.9, 48)).uniforms(5)
        assert u.shape == (5, 48, 300) and u.isfinite().all()

    def test_indefinite_matrices_are_mended(self):
        bad = torch.tensor([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
        good = as_correlation(bad)
        assert torch.linalg.eigvalsh(good.double())[0] > 0 and torch.equal(good.diagonal(), torch.ones(3))
        assert GaussianCopula(bad, torch.ones(4, 4)).uniforms(3).isfinite().all()
        assert torch.equal(as_correlation(good), as_correlation(as_correlation(good)))

    def test_errors(self):
        with pytest.raises(ValueError, match=r"channel correlation must be a square matrix, got \(2, 3\)"):
            GaussianCopula(torch.zeros(2, 3), torch.eye(2))
        with pytest.raises(ValueError, match="no copula has a state with the keys"):
            Copula.from_state({"vine.tree": torch.zeros(1)})


class TestFitGaussian:
    def test_recovers_known_correlations(self):
        truth = gaussian()
        fitted = fit_gaussian(truth.uniforms(1, windows=2000)[0])
        torch.testing.assert_close(fitted.channel_correlation, truth.channel_correlation, atol=0.04, rtol=0)
        torch.testing.assert_close(fitted.time_correlation, truth.time_correlation, atol=0.05, rtol=0)

    def test_margins_do_not_matter(self):
        pits = gaussian().uniforms(1, windows=300)[0]
        a, b = fit_gaussian(pits), fit_gaussian(pits**3 * 0.5)
        assert torch.equal(a.channel_correlation, b.channel_correlation)
        assert torch.equal(a.time_correlation, b.time_correlation)

    @pytest.mark.parametrize("number", [2, 5, 10, 40])
    def test_few_windows_are_shrunk(self, number):
        raw, shrunk = [], []
        for _ in range(10):
            pits = Independent(8, 5).uniforms(1, windows=number)[0]
            fitted = fit_gaussian(pits)
            shrunk.append((fitted.channel_correlation - torch.eye(5)).square().sum())
            scores = torch.special.ndtri(pits)
            raw.append((torch.corrcoef(scores.reshape(-1, 5).T) - torch.eye(5)).square().sum())
        assert sum(shrunk) < 0.7 * sum(raw)

    def test_too_few_windows_mean_independence(self):
        pits = gaussian().uniforms(1, windows=50)[0]
        fitted = fit_gaussian(pits, num_effective=2.5)
        assert torch.equal(fitted.channel_correlation, torch.eye(CHANNELS))
        assert torch.equal(fitted.time_correlation, torch.eye(HORIZON))

    def test_overlap_shrinks_more(self):
        pits = Independent(8, 5).uniforms(1, windows=60)[0]
        away = [
            float((fit_gaussian(pits, num_effective=n).channel_correlation - torch.eye(5)).abs().sum()) for n in (60, 5)
        ]
        assert away[1] <= away[0]

    def test_missing_outcomes_are_skipped(self):
        truth = gaussian()
        pits = truth.uniforms(1, windows=3000)[0]
        pits[torch.rand_like(pits) < 0.3] = math.nan
        fitted = fit_gaussian(pits)
        torch.testing.assert_close(fitted.channel_correlation, truth.channel_correlation, atol=0.05, rtol=0)
        torch.testing.assert_close(fitted.time_correlation, truth.time_correlation, atol=0.06, rtol=0)

    def test_a_channel_never_seen_or_never_varying_is_independent(self):
        pits = gaussian().uniforms(1, windows=100)[0]
        pits[..., 0], pits[..., 1] = math.nan, 0.5
        fitted = fit_gaussian(pits)
        assert torch.equal(fitted.channel_correlation[:2], torch.eye(CHANNELS)[:2])
        assert fitted.uniforms(5).isfinite().all()

    def test_all_missing(self):
        fitted = fit_gaussian(torch.full((10, 3, 2), math.nan))
        assert torch.equal(fitted.channel_correlation, torch.eye(2))

    def test_one_lead_one_channel(self):
        fitted = fit_gaussian(torch.rand(50, 1, 1))
        assert fitted.uniforms(4).shape == (4, 1, 1)


class TestFitHistory:
    def history(self, rows, rho=0.7):
        truth = random_correlation(CHANNELS)
        white = torch.randn(rows, CHANNELS) @ torch.linalg.cholesky(truth).T
        x = torch.zeros(rows, CHANNELS)
        for t in range(1, rows):
            x[t] = rho * x[t - 1] + white[t]
        return x, truth

    def test_recovers_channel_and_lag_correlation(self):
        x, truth = self.history(8000)
        fitted = fit_history(x.exp(), 5)  # ranks do not see the exponential
        torch.testing.assert_close(fitted.channel_correlation, truth, atol=0.06, rtol=0)
        torch.testing.assert_close(fitted.time_correlation, autoregression(0.7, 5), atol=0.05, rtol=0)

    def test_lag_correlation_is_held_below_one(self):
        walk = torch.arange(500.0).unsqueeze(-1).expand(-1, 2) + torch.rand(500, 2)
        assert float(fit_history(walk, 2).time_correlation[0, 1]) == pytest.approx(0.99, abs=1e-5)

    def test_fewer_than_32_rows_mean_independence(self):
        fitted = fit_history(self.history(31)[0], 4)
        assert torch.equal(fitted.channel_correlation, torch.eye(CHANNELS))
        assert torch.equal(fitted.time_correlation, torch.eye(4))

    def test_missing_and_constant_channels(self):
        x, _ = self.history(500)
        x[:, 0], x[:, 1], x[::3, 2] = math.nan, 1.0, math.nan
        fitted = fit_history(x, 4)
        assert torch.equal(fitted.channel_correlation[:2], torch.eye(CHANNELS)[:2])
        assert fitted.uniforms(3).isfinite().all()


class TestLaw:
    def law(self, windows=3, support=None):
        values = torch.randn(windows, HORIZON, CHANNELS, len(LEVELS)).sort(-1).values
        return JointDistribution(QuantileFunction(LEVELS, values, support), gaussian())

    def test_sample_margins_match_the_law(self):
        law = self.law(support=(-1.0, math.inf))
        x = law.sample(400)
        assert x.shape == (400, 3, HORIZON, CHANNELS)
        strata = (law.marginals.resample(LEVELS).cdf(x) * 400).sort(0).values
        ranks = torch.arange(400.0).view(-1, 1, 1, 1)
        inside = x.sort(0).values > -1
        assert ((strata - ranks - 0.5).abs()[inside] < 0.51).float().mean() > 0.999
        torch.testing.assert_close(x.mean(0), law.mean, atol=0.05, rtol=0)

    @pytest.mark.parametrize("number", [20, 200])
    def test_cell_by_cell_is_the_same_as_at_once(self, number, monkeypatch):
        law = self.law()[0]
        whole = law.sample(number, torch.Generator().manual_seed(0))
        monkeypatch.setattr("adapts.copulas.base.CHUNK", 1)
        assert torch.equal(law.sample(number, torch.Generator().manual_seed(0)), whole)

    @pytest.mark.parametrize("stratified", [True, False])
    def test_window_by_window_each_has_its_law(self, stratified, monkeypatch):
        law = self.law()
        monkeypatch.setattr("adapts.distribution.joint.CHUNK", 1)
        x = law.sample(2000, torch.Generator().manual_seed(0), stratified=stratified)
        torch.testing.assert_close(x.mean(0), law.mean, atol=0.05 if stratified else 0.15, rtol=0)

    def test_windows_are_picked(self):
        law = self.law()
        assert len(law) == 3 and len(law[1]) == 1 and len(law[1:]) == 2
        assert torch.equal(law[1].mean[0], law.mean[1]) and torch.equal(law[-1].mean[0], law.mean[2])

    def test_error_on_a_copula_of_another_size(self):
        with pytest.raises(
            ValueError, match=r"6 horizon steps and 4 channels expects marginals of shape \(n, 6, 4\), got \(3, 5"
        ):
            JointDistribution(QuantileFunction(LEVELS, torch.zeros(3, 5, 4, len(LEVELS))), gaussian())


class TestPaths:
    def paths(self, number=100):
        r"""Of three windows: cells that all rise together, cells that rise or fall by channel, cells left apart."""
        one = torch.randn(number, 1, 1).expand(-1, HORIZON, CHANNELS)
        signs = torch.tensor([1.0, -1.0]).repeat(CHANNELS // 2)
        return torch.stack([one, one * signs, torch.randn(number, HORIZON, CHANNELS)], 1)

    def law(self):
        values = torch.randn(3, HORIZON, CHANNELS, len(LEVELS)).sort(-1).values
        return JointDistribution(QuantileFunction(LEVELS, values), PathCopula(self.paths()))

    def correlations(self, samples):
        r"""Of the ranks of two channels and of two leads of each window, (n, 2)."""
        ranks = samples.argsort(0).argsort(0).double()
        pairs = (ranks[..., 0, 0], ranks[..., 0, 1]), (ranks[..., 0, 0], ranks[..., 1, 0])
        return torch.stack([
            torch.stack([torch.corrcoef(torch.stack([a[:, n], b[:, n]]))[0, 1] for a, b in pairs])
            for n in range(ranks.shape[1])
        ])  # fmt: skip

    def expected(self, some=slice(None)):
        return torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)[some]

    def test_all_paths_drawn_once_keep_their_ranks(self):
        paths = self.paths()
        u = PathCopula(paths).uniforms(100, windows=3)
        for n in range(3):
            mine, theirs = (x[:, n][x[:, n, 0, 0].argsort()].argsort(0).argsort(0) for x in (u, paths))
            assert torch.equal(mine, theirs)

    @pytest.mark.parametrize(("number", "stratified"), [(20, True), (100, True), (350, True), (400, False)])
    def test_each_window_follows_its_own(self, number, stratified, monkeypatch):
        law = self.law()
        for chunk in (1, 2**18):
            monkeypatch.setattr("adapts.distribution.joint.CHUNK", chunk)
            found = self.correlations(law.sample(number, stratified=stratified))
            atol = 0.02 if stratified and number == 100 else 0.05
            torch.testing.assert_close(found[:2], self.expected()[:2], atol=atol, rtol=0)
            assert float(found[2].abs().max()) < 0.65

    @pytest.mark.parametrize("some", [slice(1, 3), torch.tensor([2, 0]), [1]])
    def test_some_of_the_windows_are_drawn_as_theirs(self, some):
        law = self.law()[some]
        expected = self.expected(some)
        sure = expected[:, 0] != 0
        found = self.correlations(law.sample(100))
        torch.testing.assert_close(found[sure], expected[sure], atol=0.02, rtol=0)
        assert law.copula.windows == len(law) == len(expected)

    def test_one_window_by_its_number(self):
        law = self.law()
        assert torch.equal(law[-2].copula.ranks, law.copula.ranks[:, 1:2])
        torch.testing.assert_close(self.correlations(law[-2].sample(100)), self.expected([1]), atol=0.02, rtol=0)

    def test_ranks_do_not_depend_on_the_other_windows(self):
        paths = self.paths().round()  # ties
        paths[::7, :, 0, 0] = math.nan
        copula = PathCopula(paths)
        for n in range(3):
            alone = PathCopula(paths[:, [n]])
            assert torch.equal(alone.ranks, copula.of([n]).ranks)
            assert torch.equal(alone.ranks[:, 0].int(), RankCopula(paths[:, n]).ranks)
        assert torch.equal(PathCopula.joined([copula.of([0]), copula.of([1, 2])]).ranks, copula.ranks)

    @pytest.mark.parametrize(("number", "kind"), [(256, torch.uint8), (257, torch.int16)])
    def test_ranks_take_little_memory_and_come_back(self, number, kind):
        copula = PathCopula(self.paths(number))
        assert copula.ranks.dtype == kind and int(copula.ranks.max()) == number - 1
        again = Copula.from_state(copula.state())
        assert again.windows == 3 and torch.equal(again.ranks, copula.ranks)

    def test_a_copula_for_all_windows_is_that_of_some(self):
        copula = gaussian()
        assert copula.of([0]) is copula and copula.windows is None

    def test_errors(self):
        law = self.law()
        with pytest.raises(ValueError, match="a copula of 3 windows expects the marginals of as many, got 2"):
            JointDistribution(law.marginals[:2], law.copula)
        with pytest.raises(ValueError, match="a copula of 3 windows expects a multiple of that number, got windows=4"):
            law.copula.uniforms(10, windows=4)
        with pytest.raises(ValueError, match=r"S of two or more and n of one or more, got \(1, 3, 6, 4\)"):
            PathCopula(torch.zeros(1, 3, HORIZON, CHANNELS))


class TestBlocks:
    def test_lead_blocks_are_quarters(self):
        assert lead_blocks(24).bincount().tolist() == [6, 6, 6, 6]
        assert lead_blocks(8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and lead_blocks(7).tolist() == [0] * 7
        assert lead_blocks(1).tolist() == [0]

    def test_independent_windows(self):
        assert effective_sample_size(times(np.arange(49)), 24) == 3
        assert effective_sample_size(times([0, 100, 200]), 24) == 3
        assert effective_sample_size(times([0, 0, 1], [0, 1, 1]), 24) == pytest.approx(2 + 1 / 24)

    def test_clock(self):
        clock = block_scheme(times(np.arange(0, 960 - 24)), 24)
        assert clock is not None and clock.bins == 39 and clock.degrees_of_freedom == 10
        assert block_scheme(times(np.arange(50)), 24) is None and block_scheme(times([]), 24) is None
        items = block_scheme(times(np.zeros(9, int), np.arange(9)), 24)
        assert items is not None and items.bins == 9 and items.degrees_of_freedom == 8
        assert block_scheme(times([0, 1000, 1001, 1040, 2000, 3000]), 24).bins == 5  # empty bins hold nothing

    def test_rows_are_no_times(self):
        for ask in (block_scheme, effective_sample_size):
            with pytest.raises(TypeError, match=r"expected the times .* got ndarray: pass windows.time"):
                ask(np.arange(50), 2)

    def test_errors_of_independent_values_have_the_standard_error(self):
        x = torch.randn(40_000, 2, dtype=torch.float64) + torch.tensor([0.0, 5.0])
        found = block_scheme(times(np.arange(40_000)), 1).errors(x).square().mean(0).sqrt()
        torch.testing.assert_close(found, x.std(0) / 200, rtol=0.15, atol=0)
        items = block_scheme(times(np.zeros(400, int), np.arange(400)), 10).errors(x[:400]).square().mean(0)
        torch.testing.assert_close(items, x[:400].var(0) / 400)

    def test_errors_see_overlap(self):
        # moving sums of 24: the mean of n of them spreads sqrt(24) times wider than if they were independent
        sums = torch.randn(48_000, dtype=torch.float64).unfold(0, 24, 1).mean(-1, keepdim=True)
        clock = block_scheme(times(np.arange(len(sums))), 24)
        assert float(clock.errors(sums).square().mean().sqrt()) == pytest.approx(48_000**-0.5, rel=0.15)

    @pytest.mark.parametrize("persistent", [0.3, 0.8])
    def test_errors_of_persistent_values_are_right_on_average(self, persistent):
        x = torch.randn(50, 3000, dtype=torch.float64)
        x[0] /= math.sqrt(1 - persistent**2)
        for step in range(1, 50):
            x[step] += persistent * x[step - 1]
        found = block_scheme(times(np.arange(50)), 1).errors(x).square().mean(0).mean()
        assert 1.0 < float(found / x.mean(0).var()) < 1.6  # rather too wide than too narrow
        alone = (x.var(0) / 50).mean()
        assert float(alone / x.mean(0).var()) < 0.6

    def test_the_mean_of_columns_is_a_column(self):
        x = torch.randn(60, 3, dtype=torch.float64)
        x[:, 2], x[::2, 1] = math.nan, math.nan
        clock = block_scheme(times(np.arange(60)), 3)
        together = clock.errors(x, together=True)
        assert together[:, 3].isnan().all()
        torch.testing.assert_close(together[:, 1:3], clock.errors(x)[:, :2])
        twice = clock.errors(x[:, :1].repeat(1, 2), together=True)
        torch.testing.assert_close(twice[:, 0], twice[:, 1])

    def test_items_of_one_time_stay_together(self):
        x = torch.tensor([[1.0], [-1.0]]).repeat(50, 1)  # two items whose errors cancel
        clock = block_scheme(times(np.repeat(np.arange(50), 2), np.tile([0, 1], 50)), 5)
        assert float(clock.errors(x).abs().max()) < 1e-12


def test_roots_that_no_fit_leaves_behind_are_refused():
    copula = structured(math.inf)
    for factor in (1e-30, 1e-20, 1e20):
        state = {**copula.state(), "structured.roots": copula.state()["structured.roots"] * factor}
        with pytest.raises(ValueError, match="'roots' is expected to give scores with a variance near one"):
            Copula.from_state(state)

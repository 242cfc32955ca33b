r"""Dependence over all cells: densities against dense matrices, recovered sums, scale."""

import math

import numpy as np
import pytest
import torch
from calendars import times

from adapts.distribution import Copula, GaussianCopula, Independent
from adapts.distribution.confirmation import choose_copula, copula_sample_score
from adapts.distribution.ranks import RankCopula, fit_empirical, fit_schaake
from adapts.distribution.residual import StructuredCopula, fit_residual
from adapts.distribution.student import student_cdf, student_log_density, student_scores

HORIZON, CHANNELS = 5, 3


def structured(freedom=math.inf, factors=2):
    basis = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS)).Q
    roots = torch.randn(CHANNELS, HORIZON, HORIZON).tril(-1) + torch.eye(HORIZON)
    return StructuredCopula(basis, roots, 0.5 * torch.rand(factors, HORIZON, CHANNELS), freedom)


def dense(copula):
    r"""The correlation (HD, HD) as the docstring's formula has it."""
    own = copula.roots.double() @ copula.roots.double().mT  # (K, H, H)
    joint = torch.einsum("dk,khj,ek->hdje", copula.basis.double(), own, copula.basis.double())
    joint *= copula.scale.view(HORIZON, CHANNELS, 1, 1) * copula.scale
    factors = (copula.factors.double() * copula.shrink).flatten(1)
    return joint.reshape(HORIZON * CHANNELS, -1) + factors.T @ factors


def vector_autoregression(windows, horizon=12, channels=4, seed=0):
    r"""Windows of a stationary VAR(1) whose channels' sum lasts longer than their differences."""
    generator = torch.Generator().manual_seed(seed)
    matrix = 0.3 * torch.eye(channels) + 0.15 * torch.ones(channels, channels)  # eigenvalues .9, .3
    state, out = torch.zeros(windows, channels), []
    for _ in range(horizon):
        state = state @ matrix.T + torch.randn(windows, channels, generator=generator)
        out.append(state)
    return torch.stack(out, 1)  # (n, H, D): errors of the best forecast


class TestStudent:
    @pytest.mark.parametrize(
        ("freedom", "x", "expected"), [(2, 1.0, 0.7886751), (4, 2.1318468, 0.95), (8, -1.3968153, 0.1)]
    )
    def test_cdf_at_known_points(self, freedom, x, expected):
        assert float(student_cdf(torch.tensor(x, dtype=torch.float64), freedom)) == pytest.approx(expected, abs=1e-6)

    def test_scores_keep_the_level(self):
        normal = torch.linspace(-4, 4, 101, dtype=torch.float64)
        for freedom in (4, 16):
            levels = student_cdf(student_scores(normal, freedom), freedom)
            torch.testing.assert_close(levels, torch.special.ndtr(normal), atol=1e-6, rtol=0)

    def test_log_density_is_torchs(self):
        x = torch.randn(7, dtype=torch.float64)
        torch.testing.assert_close(student_log_density(x**2, 1, 4), torch.distributions.StudentT(4.0).log_prob(x))


class TestStructured:
    def test_variances_are_one(self):
        torch.testing.assert_close(dense(structured()).diagonal(), torch.ones(15, dtype=torch.float64))

    def test_factors_that_hold_too_much_are_shrunk(self):
        copula = StructuredCopula(torch.eye(2), torch.eye(4).expand(2, -1, -1), 3 * torch.ones(1, 4, 2))
        u = copula.uniforms(4000)
        assert float(torch.corrcoef(u.flatten(1).T)[0, 1]) == pytest.approx(0.98, abs=0.01)

    def test_draws_have_the_dense_correlation(self):
        copula = structured()
        z = torch.special.ndtri(copula.uniforms(1, windows=40_000))[0].flatten(1)
        torch.testing.assert_close(torch.corrcoef(z.T).double(), dense(copula), atol=0.03, rtol=0)

    @pytest.mark.parametrize("factors", [0, 2])
    def test_log_density_is_that_of_the_dense_gaussian(self, factors):
        copula = structured(factors=factors)
        z = torch.randn(20, HORIZON, CHANNELS, dtype=torch.float64)
        joint = torch.distributions.MultivariateNormal(torch.zeros(15, dtype=torch.float64), dense(copula))
        expected = joint.log_prob(z.flatten(1)) - torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((1, 2))
        torch.testing.assert_close(copula.log_density(torch.special.ndtr(z)), expected, rtol=1e-4, atol=1e-4)

    def test_student_density_integrates_to_one(self):
        copula = StructuredCopula(
            torch.eye(1), torch.linalg.cholesky(torch.tensor([[[1.0, 0.6], [0.6, 1.0]]])), freedom=4
        )
        u = torch.rand(200_000, 2, 1, dtype=torch.float64)
        assert float(copula.log_density(u).exp().mean()) == pytest.approx(1, abs=0.03)

    def test_student_extremes_coincide(self):
        def together(freedom):
            root = torch.linalg.cholesky(torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]))
            u = StructuredCopula(torch.eye(1), root, freedom=freedom).uniforms(50_000)[..., 0]
            return float(((u > 0.99).all(1)).float().mean() / 0.01)

        # the limit for nu = 4 and rho = .5 is 2 t_5(-sqrt(5 * .5 / 1.5)) = .25
        assert together(4) > 0.24 > 0.18 > together(math.inf)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"go with a basis \(2, 2\) and factors \(R, 3, 2\)"):
            StructuredCopula(torch.eye(3), torch.eye(3).expand(2, -1, -1))
        with pytest.raises(ValueError, match="an even number or infinite, got 5"):
            StructuredCopula(torch.eye(2), torch.eye(3).expand(2, -1, -1), freedom=5)


class TestFitResidual:
    def test_the_interval_of_the_sum_over_all_cells_covers(self):
        errors = vector_autoregression(1000)
        pits = torch.special.ndtr(errors / errors.std(0))
        copula = fit_residual(pits, times(np.arange(1000) * 12))
        future = vector_autoregression(4000, seed=1)
        draws = torch.special.ndtri(copula.uniforms(4000).clamp(1e-6, 1 - 1e-6)) * errors.std(0)
        for axes in ((1,), (2,), (1, 2)):  # over leads, over channels, over both
            low, high = draws.sum(axes).quantile(torch.tensor([0.1, 0.9]), 0)
            truth = future.sum(axes)
            assert float(((truth > low) & (truth < high)).float().mean()) == pytest.approx(0.8, abs=0.03)

    def test_independent_errors_stay_independent(self):
        copula = fit_residual(torch.rand(200, 6, 4), times(np.arange(200) * 6))
        z = torch.special.ndtri(copula.uniforms(5000)).flatten(1)
        assert float((torch.corrcoef(z.T) - torch.eye(24)).abs().max()) < 0.15

    def test_few_windows_fall_back_to_the_kronecker_product(self):
        assert isinstance(fit_residual(torch.rand(5, 6, 4), times(np.arange(5) * 6)), GaussianCopula)

    def test_missing_outcomes(self):
        pits = torch.special.ndtr(vector_autoregression(300))
        pits[torch.rand_like(pits) < 0.2] = math.nan
        pits[..., 0] = math.nan
        assert fit_residual(pits, times(np.arange(300) * 12)).uniforms(20).isfinite().all()

    def test_the_history_helps_where_errors_are_few(self):
        near = GaussianCopula(0.9 * torch.ones(6, 6) + 0.1 * torch.eye(6), torch.eye(4))
        pits = near.uniforms(1, torch.Generator().manual_seed(0), windows=16)[0]
        test = near.uniforms(1, torch.Generator().manual_seed(1), windows=500)[0]
        gains = [
            float(fit_residual(pits, times(np.arange(16) * 4), history=each).log_density(test).mean())
            for each in (None, near)
        ]
        assert gains[1] >= gains[0] > 0

    def test_thousands_of_cells(self):
        common = torch.randn(60, 1, 1)
        pits = torch.special.ndtr((common + torch.randn(60, 24, 100)) / math.sqrt(2))
        u = fit_residual(pits, times(np.arange(60) * 24)).uniforms(20)
        assert u.shape == (20, 24, 100) and u.isfinite().all()


class TestRanks:
    def test_all_blocks_drawn_once_keep_their_ranks(self):
        blocks = torch.randn(30, HORIZON, CHANNELS)
        u = RankCopula(blocks).uniforms(30)
        order = u[:, 0, 0].argsort()
        torch.testing.assert_close(
            u[order].argsort(0).argsort(0), blocks[blocks[:, 0, 0].argsort()].argsort(0).argsort(0)
        )

    def test_ties_and_missing_values_are_ranked_by_chance(self):
        blocks = torch.zeros(200, 2, 2)
        blocks[::3, 0, 0] = math.nan
        ranks = RankCopula(blocks).ranks.float().flatten(1)
        assert float(torch.corrcoef(ranks.T)[0, 1].abs()) < 0.3
        assert torch.equal(ranks.sort(0).values, torch.arange(200.0).unsqueeze(-1).expand(-1, 4))

    def test_schaake_takes_blocks_of_the_history(self):
        walk = torch.randn(400, CHANNELS).cumsum(0)
        copula = fit_schaake(walk, HORIZON)
        z = torch.special.ndtri(copula.uniforms(300).clamp(1e-4, 1 - 1e-4))
        assert float(torch.corrcoef(z[:, :, 0].T)[0, 1]) > 0.9
        assert isinstance(fit_schaake(walk[:3], HORIZON), Independent)
        assert isinstance(fit_schaake(walk[:5], HORIZON), Independent)

    def test_empirical_takes_errors(self):
        pits = torch.special.ndtr(vector_autoregression(600))
        assert len(fit_empirical(pits, 100).ranks) == 100
        pits[0, :, :3], pits[1] = math.nan, math.nan
        assert len(fit_empirical(pits).ranks) == 500 and len(fit_empirical(pits[:5]).ranks) == 3

    def test_error(self):
        with pytest.raises(ValueError, match=r"n of two or more, got \(1, 5, 3\)"):
            RankCopula(torch.zeros(1, 5, 3))


class TestChoice:
    def test_the_sample_score_prefers_the_true_copula(self):
        errors = vector_autoregression(400)
        pits = torch.special.ndtr(errors / errors.std(0))
        true, weak = fit_empirical(pits), Independent(12, 4)
        assert float(copula_sample_score(weak, pits[:50]).mean()) == pytest.approx(1)
        assert float(copula_sample_score(true, pits[:50]).mean()) < 0.96

    def test_the_best_is_chosen(self):
        errors = vector_autoregression(500)
        pits = torch.special.ndtr(errors / errors.std(0))
        fitted = fit_residual(pits[:300], times(np.arange(300) * 12))
        candidates: dict[str, Copula] = {"independent": Independent(12, 4), "residual": fitted}
        name, scores = choose_copula(candidates, pits[300:])
        assert name == "residual" and scores["independent"] == 0.0
        name, scores = choose_copula({**candidates, "empirical": fit_empirical(pits[:300])}, pits[300:400])
        assert name != "independent" and scores["independent"] == pytest.approx(0.0, abs=1e-6)

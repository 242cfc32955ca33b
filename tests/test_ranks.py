r"""Dependence over all cells: recovered sums, ranks of blocks, and the choice among copulas."""

import math

import numpy as np
import pytest
import torch

from adapts import Adapter
from adapts.copulas.base import Copula
from adapts.copulas.gaussian import fit_gaussian
from adapts.copulas.independent import Independent
from adapts.copulas.rank import RankCopula, fit_empirical, fit_schaake
from adapts.copulas.selection import choose_copula, copula_sample_score

HORIZON, CHANNELS = 5, 3


def vector_autoregression(windows, horizon=12, channels=4, seed=0):
    r"""Windows of a stationary VAR(1) whose channels' sum lasts longer than their differences."""
    generator = torch.Generator().manual_seed(seed)
    matrix = 0.3 * torch.eye(channels) + 0.15 * torch.ones(channels, channels)  # eigenvalues .9, .3
    state, out = torch.zeros(windows, channels), []
    for _ in range(horizon):
        state = state @ matrix.T + torch.randn(windows, channels, generator=generator)
        out.append(state)
    return torch.stack(out, 1)  # (n, H, D): errors of the best forecast


class TestKronecker:
    def test_intervals_of_sums_cover(self):
        errors = vector_autoregression(1000)
        pits = torch.special.ndtr(errors / errors.std(0))
        future = vector_autoregression(4000, seed=1)

        def held(copula, axes):
            draws = torch.special.ndtri(copula.uniforms(4000).clamp(1e-6, 1 - 1e-6)) * errors.std(0)
            low, high = draws.sum(axes).quantile(torch.tensor([0.1, 0.9]), 0)
            truth = future.sum(axes)
            return float(((truth > low) & (truth < high)).float().mean())

        for axes in ((1,), (2,), (1, 2)):  # over leads, over channels, over both
            assert held(fit_empirical(pits), axes) == pytest.approx(0.8, abs=0.03)
        assert held(fit_gaussian(pits), (2,)) == pytest.approx(0.8, abs=0.06)
        # no Kronecker product holds a sum that lasts longer than its parts: why it is not the only candidate
        assert held(fit_gaussian(pits), (1, 2)) < 0.72

    def test_independent_errors_stay_independent(self):
        z = torch.special.ndtri(fit_gaussian(torch.rand(200, 6, 4)).uniforms(5000)).flatten(1)
        assert float((torch.corrcoef(z.T) - torch.eye(24)).abs().max()) < 0.15

    def test_missing_outcomes(self):
        pits = torch.special.ndtr(vector_autoregression(300))
        pits[torch.rand_like(pits) < 0.2] = math.nan
        pits[..., 0] = math.nan
        assert fit_gaussian(pits).uniforms(20).isfinite().all()

    def test_thousands_of_cells(self):
        common = torch.randn(60, 1, 1)
        pits = torch.special.ndtr((common + torch.randn(60, 24, 100)) / math.sqrt(2))
        u = fit_gaussian(pits).uniforms(20)
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
        candidates: dict[str, Copula] = {"independent": Independent(12, 4), "kronecker": fit_gaussian(pits[:300])}
        name, scores = choose_copula(candidates, pits[300:])
        assert name == "kronecker" and scores["independent"] == 0.0
        name, scores = choose_copula({**candidates, "empirical": fit_empirical(pits[:300])}, pits[300:400])
        assert name != "independent" and scores["independent"] == pytest.approx(0.0, abs=1e-6)

    def test_dependence_that_comes_in_spells_is_kept_and_none_is_made_of_chance(self):
        rng = np.random.default_rng(21)
        closed = np.zeros(2200, dtype=bool)
        for row in range(1, 2200):
            closed[row] = rng.random() < (0.85 if closed[row - 1] else 0.1)
        shops = np.where(closed[:, None] | (rng.random((2200, 4)) < 0.1), 0.0, rng.gamma(2.0, 1.0, (2200, 4)))
        alone = np.where(rng.random((2200, 4)) < 0.4, 0.0, rng.gamma(2.0, 1.0, (2200, 4)))
        for series, kept in ((shops, "empirical"), (alone, "independent")):
            options = {"prediction_length": 7, "context_length": 56, "support": (0, np.inf)}
            said = Adapter("identity", **options).fit(series[:2000]).summary().stages["confirmation"]
            assert f"{kept} copula selected" in said

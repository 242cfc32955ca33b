r"""Bayesian linear regression by its formulas, by numerical integration and by what its law covers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapts.statistics import ridge
from adapts.statistics.bayesian import BayesianRegression


def problem(n: int = 60, p: int = 4, q: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, p, dtype=torch.float64) @ torch.randn(p, p, dtype=torch.float64)
    return x, x @ torch.randn(p, q, dtype=torch.float64) + 0.5 * torch.randn(n, q, dtype=torch.float64)


def test_the_mean_is_the_ridge_solution_and_the_covariance_its_formula() -> None:
    x, y = problem()
    prior = torch.randn(4, 2, dtype=torch.float64)
    posterior = BayesianRegression.fit(x, y, 3.0, prior=prior)
    assert_close(posterior.mean, prior + ridge(x, y - x @ prior, 3.0))
    inverse = torch.linalg.inv(x.mT @ x + 3.0 * torch.eye(4))
    rate = 1e-6 + 0.5 * ((y - x @ posterior.mean).square().sum(0) + 3.0 * (posterior.mean - prior).square().sum(0))
    assert_close(posterior.rate, rate)
    assert_close(posterior.covariance, (rate / (30 + 1e-6 - 1))[:, None, None] * inverse)


def test_each_coefficient_may_have_its_precision_and_an_infinite_one_holds_it() -> None:
    x, y = problem()
    prior = torch.ones(4, 2, dtype=torch.float64)
    precision = torch.tensor([2.0, torch.inf, 0.5, 1e-8], dtype=torch.float64)
    posterior = BayesianRegression.fit(x, y, precision, prior=prior)
    free = [0, 2, 3]
    rest = BayesianRegression.fit(x[:, free], y - x[:, [1]] @ prior[[1]], precision[free], prior=prior[free])
    assert_close(posterior.mean[free], rest.mean)
    assert_close(posterior.mean[1], prior[1])
    assert_close(posterior.rate, rest.rate)
    assert_close(posterior.divergence, rest.divergence)
    draws = posterior.draw(50)
    assert_close(draws[:, 1], prior[1].expand(50, -1), rtol=0, atol=0)
    assert (draws[:, free].std(0) > 0).all()


def test_problems_are_solved_side_by_side() -> None:
    problems = [problem() for _ in range(3)]
    x, y = (torch.stack(each) for each in zip(*problems, strict=True))
    together = BayesianRegression.fit(x, y, torch.tensor([[0.1], [1.0], [10.0]]))
    assert together.draw(5).shape == (5, 3, 4, 2)
    for number, strength in enumerate((0.1, 1.0, 10.0)):
        alone = BayesianRegression.fit(*problems[number], strength)
        for name in ("mean", "covariance", "divergence"):
            assert_close(getattr(together, name)[number], getattr(alone, name))
        for ours, theirs in zip(together.predict(x), alone.predict(x[number]), strict=True):
            assert_close(ours[number], theirs)


def test_divergence_is_the_expected_likelihood_less_the_evidence() -> None:
    x, y = problem()
    posterior = BayesianRegression(x.mT @ x, x.mT @ y, y.square().sum(0), 60, 2.0, shape=2.0, rate=1.0)
    inverse_noise = posterior.shape / posterior.rate
    log_noise = posterior.rate.log() - posterior.shape.digamma()
    miss = (y - x @ posterior.mean).square().sum(0) * inverse_noise + (x @ posterior.factor).square().sum()
    expected = -0.5 * (60 * (math.log(2 * math.pi) + log_noise) + miss)
    # Coefficients and noise integrated out, the targets are Student's.
    scatter = torch.eye(60, dtype=torch.float64) + x @ x.mT / 2.0
    distance = (y * torch.linalg.solve(scatter, y)).sum(0)
    evidence = math.lgamma(32.0) - math.lgamma(2.0) - 30 * math.log(2 * math.pi) - 0.5 * torch.logdet(scatter)
    assert_close(posterior.divergence, expected - evidence + 32 * (distance / 2).log1p())


def test_draws_have_the_posterior_moments_and_follow_their_generator() -> None:
    x, y = problem(n=12)
    posterior = BayesianRegression.fit(x, y, 0.5)
    draws = posterior.draw(200_000, torch.Generator().manual_seed(0))
    assert_close(draws.mean(0), posterior.mean, rtol=0, atol=4e-3 * float(draws.std(0).max()))
    for target in range(2):
        covariance = posterior.covariance[target]
        assert_close(draws[..., target].mT.cov(), covariance, rtol=0, atol=0.03 * float(covariance.diagonal().max()))
    state = torch.get_rng_state()
    assert torch.equal(
        posterior.draw(3, torch.Generator().manual_seed(1)), posterior.draw(3, torch.Generator().manual_seed(1))
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_predictive_law() -> None:
    x, y = problem(n=12)
    posterior = BayesianRegression.fit(x, y, 0.5)
    new, _ = problem(n=5)
    law = posterior.predict(new)
    assert_close(law.location, new @ posterior.mean)
    inverse = torch.linalg.inv(x.mT @ x + 0.5 * torch.eye(4))
    expected = posterior.noise * (1 + (new @ inverse * new).sum(-1, keepdim=True))
    assert_close(law.variance, expected)
    noise = torch.distributions.InverseGamma(posterior.shape, posterior.rate).sample((200_000,))
    draws = new @ posterior.draw(200_000) + noise.sqrt().unsqueeze(-2) * torch.randn(200_000, 5, 2)
    # the coefficients and the noise above were not drawn together: variances still add up
    assert_close(draws.var(0), law.variance, rtol=0.05, atol=0)


@pytest.mark.parametrize("rows", [8, 200])
def test_predictive_intervals_cover(rows: int) -> None:
    r"""Under the law assumed, 80 % intervals hold 80 % of new targets, with few rows as with many; 40 % ones less."""
    torch.manual_seed(0)
    problems, p, precision = 4000, 3, 2.0
    noise = torch.rand(problems, 1, 1, dtype=torch.float64) + 0.5
    truth = noise / precision**0.5 * torch.randn(problems, p, 1, dtype=torch.float64)
    x, new = torch.randn(2, problems, rows, p, dtype=torch.float64)
    y, target = (each @ truth + noise * torch.randn(problems, rows, 1, dtype=torch.float64) for each in (x, new))
    law = BayesianRegression.fit(x, y, precision).predict(new[:, :1])
    distance = ((target[:, :1] - law.location) / law.scale).abs()
    sample = torch.distributions.StudentT(float(law.degrees_of_freedom[0])).sample((1_000_000,))
    wide, narrow = sample.quantile(torch.tensor([0.9, 0.7]))
    covered = (distance < wide).double().mean()
    assert abs(float(covered) - 0.8) < 4 * math.sqrt(0.16 / problems)
    assert (distance < narrow).double().mean() < 0.45

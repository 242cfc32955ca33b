r"""The scores that decide what stays, against their definitions."""

import torch

from adapts.copulas.gaussian import GaussianCopula
from adapts.copulas.independent import Independent
from adapts.copulas.selection import mean_pinball
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction

CHANNEL = torch.tensor([[1.0, 0.7], [0.7, 1.0]])
TIME = 0.5 ** (torch.arange(3)[:, None] - torch.arange(3)).abs().float()


def test_the_log_score_is_the_density_of_the_dense_gaussian_over_its_margins() -> None:
    scores = torch.randn(20, 3, 2, dtype=torch.float64)
    dense = torch.distributions.MultivariateNormal(
        torch.zeros(6, dtype=torch.float64), torch.kron(TIME.double(), CHANNEL.double())
    )
    margins = torch.distributions.Normal(0.0, 1.0)
    expected = dense.log_prob(scores.flatten(1)) - margins.log_prob(scores).sum((1, 2))
    found = GaussianCopula(CHANNEL, TIME).log_density(torch.special.ndtr(scores))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_log_score_prefers_the_true_copula() -> None:
    truth = GaussianCopula(CHANNEL, TIME)
    pits = truth.uniforms(2000, torch.Generator().manual_seed(0))
    other = GaussianCopula(torch.tensor([[1.0, -0.7], [-0.7, 1.0]]), TIME)
    score = {name: float(c.log_density(pits).mean()) for name, c in (("truth", truth), ("other", other))}
    assert score["truth"] > 0.3 > 0.0 == float(Independent(3, 2).log_density(pits).mean()) > score["other"]


def test_mean_pinball_by_hand() -> None:
    law = QuantileFunction((0.1, 0.9), torch.tensor([0.1, 0.9]).expand(1, 1, 1, -1))  # .1 <= u <= .9: uniform
    inner = [level for level in LEVELS if 0.1 <= level <= 0.9]
    expected = sum(max(u * (0.4 - u), (u - 1) * (0.4 - u)) for u in inner)
    low, high = law.at([u for u in LEVELS if u < 0.1])[0, 0, 0], law.at([u for u in LEVELS if u > 0.9])[0, 0, 0]
    expected += sum(u * (0.4 - float(q)) for u, q in zip([0.01, 0.025, 0.05], low, strict=True))
    expected += sum((1 - u) * (float(q) - 0.4) for u, q in zip([0.95, 0.975, 0.99], high, strict=True))
    torch.testing.assert_close(float(mean_pinball(law, torch.tensor([[[0.4]]]))), expected / 23, atol=1e-6, rtol=0)
    assert mean_pinball(law, torch.full((1, 1, 1), torch.nan)).isnan().all()

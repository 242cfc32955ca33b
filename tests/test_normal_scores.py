r"""Dependence where outcomes are missing or lie on atoms."""

import numpy as np
import pytest
import torch

from adapts import Adapter
from adapts.copulas.base import normal_scores
from adapts.copulas.gaussian import GaussianCopula, fit_gaussian
from adapts.copulas.independent import Independent
from adapts.copulas.normal_scores import completed, ranked
from adapts.copulas.rank import fit_empirical, fit_schaake
from adapts.copulas.selection import choose_copula
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.distribution.pits import Pits
from adapts.distribution.quantile_function import QuantileFunction

HORIZON, CHANNELS = 6, 3


def truth(windows: int, channel: float = 0.7, time: float = 0.8) -> torch.Tensor:
    near = (1 - channel) * torch.eye(CHANNELS) + channel
    steps = torch.arange(HORIZON)
    copula = GaussianCopula(near, time ** (steps.unsqueeze(-1) - steps).abs())
    return copula.uniforms(1, torch.Generator().manual_seed(0), windows=windows)[0]


def correlations(levels: torch.Tensor) -> tuple[float, float]:
    r"""The mean correlation of the normal scores between channels, and that between successive leads."""
    scores = torch.special.ndtri(levels.double())
    matrix = torch.corrcoef(scores.flatten(1).T).view(HORIZON, CHANNELS, HORIZON, CHANNELS)
    channel = np.mean([float(matrix[h, a, h, b]) for h in range(HORIZON) for a in range(CHANNELS) for b in range(a)])
    time = np.mean([float(matrix[h, a, h + 1, a]) for h in range(HORIZON - 1) for a in range(CHANNELS)])
    return float(channel), float(time)


def drawn(copula, number: int = 4000) -> torch.Tensor:
    return copula.uniforms(number, torch.Generator().manual_seed(1))


def with_atoms(levels: torch.Tensor, share: float) -> Pits:
    atom = levels < share
    return Pits(levels.where(~atom, 0.0), levels.where(~atom, share), torch.rand(levels.shape))


def test_what_is_known_is_left_as_it_is():
    levels = torch.rand(40, HORIZON, CHANNELS)
    assert torch.equal(completed(levels), normal_scores(levels.flatten(1)).view_as(levels))


def test_a_cell_that_no_window_shows_stays_missing():
    levels = torch.rand(40, HORIZON, CHANNELS)
    levels[:, 2, 1] = torch.nan
    levels[:9, 3, 0] = torch.nan
    scores = completed(levels)
    assert torch.equal(scores.isnan().all(0), scores.isnan().any(0))
    assert scores.isnan().all(0).nonzero().tolist() == [[2, 1]]


@pytest.mark.parametrize("share", [0.1, 0.4])
@pytest.mark.parametrize("fit", [fit_gaussian, fit_empirical])
def test_missing_outcomes_take_no_dependence_away(fit, share):
    levels = truth(600)
    levels[torch.rand(levels.shape, generator=torch.Generator().manual_seed(2)) < share] = torch.nan
    assert correlations(drawn(fit(levels))) == pytest.approx((0.7, 0.8), abs=0.04)


def test_missing_rows_of_a_history_take_no_dependence_away():
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(0.3 * torch.eye(CHANNELS) + 0.7)
    values = torch.zeros(2000, CHANNELS)
    for row in range(1, len(values)):
        values[row] = 0.8 * values[row - 1] + root @ torch.randn(CHANNELS, generator=generator)
    whole = correlations(drawn(fit_schaake(values, HORIZON)))
    values[torch.rand(values.shape, generator=generator) < 0.2] = torch.nan
    assert correlations(drawn(fit_schaake(values, HORIZON))) == pytest.approx(whole, abs=0.04)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("fit", [fit_gaussian, fit_empirical])
def test_channels_are_on_their_atoms_together_as_often_as_they_were(fit, share):
    levels = truth(2000)
    expected = float((levels < share).all(-1).float().mean())
    fitted = fit(with_atoms(levels[:500], share))
    assert float((drawn(fitted, 10_000) < share).all(-1).float().mean()) == pytest.approx(expected, abs=0.03)


def test_values_that_many_rows_share_are_atoms():
    values = torch.tensor([0.0, 0, 0, 0, 1, 2, 3, torch.nan]).unsqueeze(-1)
    pits = ranked(values)
    assert pits.jumps[:, 0].tolist() == [True] * 4 + [False] * 4
    assert (float(pits.lower[0]), float(pits.upper[0])) == (0.0, pytest.approx(4 / 7))
    assert pits.lower[4:7, 0].tolist() == pytest.approx([4.5 / 7, 5.5 / 7, 6.5 / 7])


def test_copulas_are_told_apart_by_what_the_margins_make_of_them():
    # All channels are zero together, and independent elsewhere: no Gaussian copula is like that.
    generator, share = torch.Generator().manual_seed(0), 0.6
    zero = torch.rand(700, HORIZON, 1, generator=generator) < share
    other = share + (1 - share) * torch.rand(700, HORIZON, CHANNELS, generator=generator)
    pits = Pits(other.where(~zero, 0.0), other.where(~zero, share), torch.rand(other.shape, generator=generator))
    steps = torch.linspace(0.01, 0.99, 99)
    margins = QuantileFunction(steps, (steps - share).clamp(min=0).expand(200, HORIZON, CHANNELS, -1))
    outcome = torch.where(zero, 0.0, other - share)[500:]
    candidates = {
        "independent": Independent(HORIZON, CHANNELS),
        "kronecker": fit_gaussian(pits[:500]),
        "empirical": fit_empirical(pits[:500]),
    }
    name, gains = choose_copula(candidates, torch.special.ndtr(completed(pits[500:])).float(), (margins, outcome))
    assert name == "empirical" and gains["empirical"] > gains["kronecker"] > 0


def test_totals_of_demand_that_is_mostly_zero_are_as_wide_as_sums_of_what_hangs_together() -> None:
    rng = np.random.default_rng(0)
    shop = rng.random((2600, 1)) < 0.6  # closed for all
    for together in (False, True):
        idle = shop if together else rng.random((2600, 3)) < 0.85
        sold = np.where(idle, 0.0, rng.poisson(3, (2600, 3)) + 1.0)
        adapter = Adapter("identity", prediction_length=14, max_windows=150, support=(0, np.inf)).fit(sold[:2100])
        windows = Windows(Panel.of(sold), np.zeros(34, int), np.arange(2100, 2576, 14), adapter.context_length_, 14)
        samples, future = adapter.joint_distribution(windows).sample(300).double(), windows.future(torch.float64)
        ratio = samples.sum((-1, -2)).std(0).mean() / samples.sum(-1).var(0).sum(-1).sqrt().mean()
        assert float(ratio) == pytest.approx(1.0, abs=0.2)  # leads do not hang together
        both = float((samples == 0).all(-1).double().mean()), float((future == 0).all(-1).double().mean())
        assert both[0] == pytest.approx(both[1], abs=0.12)

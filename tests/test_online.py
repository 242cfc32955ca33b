r"""Online recalibration: long-run coverage, a shift, and what it leaves alone."""

import math

import pytest
import torch

from adapts.calibration.online import OnlineRecalibration
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation.scores import pit_ece

HORIZON, CHANNELS = 6, 2


def stream(steps, seed, persistence=0.8):
    r"""Errors that depend over time and over leads, standard normal, (T, H, D)."""
    generator = torch.Generator().manual_seed(seed)
    lags = (torch.arange(HORIZON)[:, None] - torch.arange(HORIZON)).abs().double()
    root = torch.linalg.cholesky(0.9**lags)
    white = root @ torch.randn(steps, HORIZON, CHANNELS, generator=generator, dtype=torch.float64)
    errors, state = torch.empty_like(white), torch.zeros_like(white[0])
    for t, shock in enumerate(white):
        state = persistence * state + math.sqrt(1 - persistence**2) * shock
        errors[t] = state
    return errors


def covered(errors, online):
    r"""Whether each outcome lies in the 80 % interval adapted before it, and the interval's width in levels."""
    inside = []
    for error in errors:
        level = torch.special.ndtr(error)
        inside.append(((level > online.levels(0.1)) & (level <= online.levels(0.9))).double())
        online.update(level)
    return torch.stack(inside)


def test_long_run_coverage_is_nominal():
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
    inside = covered(stream(5000, 0) * 1.3 - 0.4, online)  # margins that are wrong from the start
    assert abs(float(inside.mean()) - 0.8) < 0.01


def test_a_shift_of_level_and_scale_is_followed():
    shares = []
    for seed in range(5):
        online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
        errors = stream(450, seed)
        errors[150:] = 1.0 + 1.8 * errors[150:]
        shares.append(covered(errors, online)[250:].mean())
        assert bool((online.levels(0.9) < 1).all()) and bool((online.levels(0.1) > 0).all())
    assert 0.77 < float(torch.stack(shares).mean()) < 0.83


def test_a_calibrated_law_is_left_nearly_alone():
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
    online.update(torch.special.ndtr(stream(500, 1, persistence=0.0)))
    assert abs(float(online.levels(0.5).mean()) - 0.5) < 0.15


def overlapping(rows, seed):
    r"""The errors of forecasts of a random walk made at every row, standard normal, (T, H, D)."""
    shocks = torch.randn(rows + HORIZON, CHANNELS, generator=torch.Generator().manual_seed(seed)).double()
    leads = torch.arange(1.0, HORIZON + 1).double().unsqueeze(-1)
    return shocks.unfold(0, HORIZON, 1)[:rows].mT.cumsum(1) / leads.sqrt()


def quantile_loss(errors, online):
    r"""The loss of each forecast's levels, read when it is made, which is a horizon before it has come true."""
    tau, losses = torch.tensor(LEVELS, dtype=torch.float64), []
    for number, now in enumerate(errors):
        if number >= HORIZON:
            online.update(torch.special.ndtr(errors[number - HORIZON]))
        missed = now.unsqueeze(-1) - online.scores
        losses.append(torch.maximum(tau * missed, (tau - 1) * missed).mean())
    return torch.stack(losses[100:]).mean()


def test_forecasts_at_every_row_that_were_right_stay_so():
    added = []
    for seed in range(3):
        errors = overlapping(800, seed)
        right = quantile_loss(errors, OnlineRecalibration(HORIZON, CHANNELS, overlap=10**6))  # as good as never
        added.append(quantile_loss(errors, OnlineRecalibration(HORIZON, CHANNELS)) / right - 1)
    assert float(torch.stack(added).mean()) < 0.01


def test_rates_are_weighed_by_how_well_they_did():
    calm, shifted = (OnlineRecalibration(HORIZON, CHANNELS, overlap=1) for _ in range(2))
    assert float(calm.weights.sum()) == pytest.approx(1.0) and bool((calm.weights.diff() < 0).all())
    errors = stream(200, 4, persistence=0.0)
    calm.update(torch.special.ndtr(errors))
    errors[100:] = 2 * errors[100:] + 1
    shifted.update(torch.special.ndtr(errors))
    assert float(calm.weights[0]) > 0.6 and float(shifted.weights[0]) < 0.1


def test_adapted_pits_are_those_of_the_adapted_law():
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
    online.update(torch.special.ndtr(1.5 * stream(300, 2) + 0.7))
    outcomes = 1.5 * torch.randn(500, HORIZON, CHANNELS, dtype=torch.float64) + 0.7
    grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
    margins = QuantileFunction(LEVELS, grid.expand(500, HORIZON, CHANNELS, -1).contiguous())
    adapted = online.recalibration.apply(margins)
    torch.testing.assert_close(online.adapted(margins.pit(outcomes)).values, adapted.pit(outcomes), atol=5e-3, rtol=0)
    read = torch.special.ndtri(online.levels(0.5)).float()
    torch.testing.assert_close(adapted(0.5)[0].float(), read, atol=1e-3, rtol=0)


def test_series_at_once_count_as_one_on_their_mean():
    a, b, one = (OnlineRecalibration(HORIZON, CHANNELS, overlap=1) for _ in range(3))
    levels = torch.special.ndtr(stream(50, 3))
    a.update(torch.stack([levels, levels, levels], 1))
    b.update(levels)
    torch.testing.assert_close(a.scores, b.scores)
    one.update(torch.stack([levels, torch.full_like(levels, math.nan)], 1))
    torch.testing.assert_close(one.scores, b.scores)
    assert a.count == one.count == 50


def test_nothing_seen_changes_nothing():
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
    online.update(torch.full((3, HORIZON, CHANNELS), math.nan))
    assert online.count == 0 and float(online.levels(0.9)[0, 0]) == pytest.approx(0.9)


def test_missing_steps_move_what_they_share_only():
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
    pits = torch.full((HORIZON, CHANNELS), math.nan)
    pits[0, 0] = 0.99
    online.update(pits)
    level = online.levels(0.5)
    assert float(level[0, 0]) > float(level[1, 0]) > float(level[0, 1]) > 0.5


def test_state_makes_it_again():
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=3)
    online.update(torch.rand(30, HORIZON, CHANNELS))
    again = OnlineRecalibration.from_state(online.state())
    for each in (online, again):
        each.update(torch.full((HORIZON, CHANNELS), 0.3))
    assert torch.equal(online.levels(0.9), again.levels(0.9)) and again.count == 31


def test_errors():
    with pytest.raises(ValueError, match="windows that share targets, 1 or more, got 0"):
        OnlineRecalibration(HORIZON, CHANNELS, overlap=0)
    with pytest.raises(ValueError, match=r"pits have shape \(6, 2\) or \(n, 6, 2\), got \(2, 6\)"):
        OnlineRecalibration(HORIZON, CHANNELS, overlap=1).update(torch.rand(CHANNELS, HORIZON))


def dry(number, seed, shift):
    r"""Laws that give the bound more or less weight, and outcomes that lie lower than they say."""
    generator = torch.Generator().manual_seed(seed)
    middle = 2 * torch.rand(number, 1, 1, generator=generator).expand(-1, HORIZON, CHANNELS) - 0.5
    grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
    margins = QuantileFunction(LEVELS, middle.unsqueeze(-1) + grid, (0.0, torch.inf))
    outcome = middle - shift + torch.randn(middle.shape, generator=generator)
    return margins, outcome.clamp(min=0.0)


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_atoms_are_calibrated_as_they_come(shift):
    margins, outcomes = dry(3000, 0, shift)
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
    online.update(margins.pits(outcomes)[:2000])
    told = online.recalibration.apply(margins[slice(2000, None)]).pit(outcomes[2000:])
    assert float(pit_ece(told.flatten(0, 1)).max()) < 0.04
    if not shift:
        assert abs(float(online.levels(0.9).mean()) - 0.9) < 0.03


def test_certain_outcomes_move_nothing():
    certain = QuantileFunction(LEVELS, torch.zeros(50, HORIZON, CHANNELS, len(LEVELS)))
    online = OnlineRecalibration(HORIZON, CHANNELS, overlap=1)
    online.update(certain.pits(torch.zeros(50, HORIZON, CHANNELS)))
    torch.testing.assert_close(online.levels(0.2), torch.full((HORIZON, CHANNELS), 0.2).double(), atol=1e-6, rtol=0)

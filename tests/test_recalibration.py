r"""Recalibration: mends laws that are off, leaves calibrated ones alone, keeps ranks."""

import math

import numpy as np
import pytest
import torch
from calendars import times

from adapts.calibration.recalibration import Recalibration
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation.scores import pit_ece
from adapts.statistics.bootstrap import lead_blocks

HORIZON, CHANNELS = 8, 3
NORMAL = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
BLOCKS = lead_blocks(HORIZON)


def law(mean, deviation, support=None):
    return QuantileFunction(LEVELS, mean.unsqueeze(-1) + deviation * NORMAL, support)


def truth(number):
    r"""Standard normal outcomes of windows that do not overlap, and when they begin."""
    return torch.randn(number, HORIZON, CHANNELS), times(np.arange(number) * HORIZON)


def coverage(margins, y):
    pits = margins.pit(y)
    return float(((pits > 0.1) & (pits < 0.9)).double().mean())


def fitted(margins, y, time):
    return Recalibration.fit(margins.pit(y), BLOCKS, time)


@pytest.mark.parametrize("deviation", [0.5, 0.8, 2.0])
def test_a_law_of_the_wrong_width_covers_again(deviation):
    y, time = truth(600)
    margins = law(torch.zeros_like(y), deviation)
    later, _ = truth(600)
    assert abs(coverage(margins, later) - 0.8) > 0.08
    mended = fitted(margins, y, time).apply(margins)
    assert coverage(mended, later) == pytest.approx(0.8, abs=0.02)


def test_a_shifted_law_is_shifted_back():
    y, time = truth(600)
    margins = law(torch.full_like(y, 0.5), 1.0)
    mended = fitted(margins, y, time).apply(margins)
    torch.testing.assert_close(mended.at((0.5,)), torch.zeros(600, HORIZON, CHANNELS, 1), atol=0.1, rtol=0)


@pytest.mark.parametrize("number", [10, 40, 300])
def test_a_calibrated_law_is_nearly_left_alone(number):
    for _ in range(3):
        y, time = truth(number)
        margins = law(torch.zeros_like(y), 1.0)
        mended = fitted(margins, y, time).apply(margins)
        moved = (mended.at((0.1, 0.5, 0.9)) - margins.at((0.1, 0.5, 0.9))).square().mean().sqrt()
        raw = 1 / math.sqrt(number * HORIZON * CHANNELS / 12)  # about what the unshrunk map would move a cell
        assert float(moved) < raw


def test_one_channel_or_block_is_mended_alone():
    y, time = truth(600)
    y[..., 0] *= 2
    y[:, BLOCKS == 3, 1] *= 2
    margins = law(torch.zeros_like(y), 1.0)
    mended = fitted(margins, y, time).apply(margins)
    width = (mended.at((0.1, 0.9)) @ torch.tensor([-1.0, 1.0]))[0] / 2.563  # (H, D)
    torch.testing.assert_close(width[:, 0], torch.full((HORIZON,), 2.0), atol=0.25, rtol=0)
    torch.testing.assert_close(width[BLOCKS == 3, 1], torch.full((2,), 2.0), atol=0.25, rtol=0)
    torch.testing.assert_close(width[:, 2], torch.ones(HORIZON), atol=0.12, rtol=0)
    torch.testing.assert_close(width[BLOCKS < 3, 1], torch.ones(6), atol=0.12, rtol=0)


def test_overlap_makes_careful():
    # the same noise seen through many overlapping windows is no more evidence
    noise = torch.randn(60 + HORIZON, CHANNELS)
    windows = torch.stack([noise[i : i + HORIZON] for i in range(60)])
    margins = law(torch.zeros_like(windows), 1.0)
    pits = margins.pit(windows)
    moved = []
    for time in (times(np.arange(60)), times(np.arange(60) * HORIZON)):
        mended = Recalibration.fit(pits, BLOCKS, time).apply(margins)
        moved.append(float((mended.at(LEVELS) - margins.at(LEVELS)).abs().mean()))
    assert moved[0] < moved[1]


def test_too_few_windows_are_left_alone():
    y, _ = truth(20)
    recalibration = Recalibration.fit(law(torch.zeros_like(y), 0.5).pit(y), BLOCKS, times(np.arange(20)))
    assert recalibration.maps is None


def test_identity_is_exact():
    margins = law(torch.randn(4, HORIZON, CHANNELS), 1.0, (0.0, math.inf))
    assert Recalibration.identity().apply(margins) is margins
    grid = torch.tensor(LEVELS, dtype=torch.float64).expand(4, 1, CHANNELS, -1)
    same = Recalibration(grid, BLOCKS).apply(margins)
    torch.testing.assert_close(same.values, margins.values)


def test_ranks_and_support_stay():
    y, time = truth(200)
    margins = law(torch.zeros_like(y), 0.5, (-1.0, math.inf))
    mended = fitted(margins, y, time).apply(margins)
    assert (mended.values.diff(dim=-1) >= 0).all()
    u = torch.rand(50, 200, HORIZON, CHANNELS).sort(0).values
    x = mended(u)
    assert (x.diff(dim=0) >= 0).all() and float(x.min()) == -1


def test_laws_of_few_levels_get_those_of_the_grid():
    y, time = truth(600)
    coarse = law(torch.zeros_like(y), 0.5).resample(tuple(i / 10 for i in range(1, 10)))
    mended = fitted(coarse, y, time).apply(coarse)
    assert mended.levels.tolist() == list(LEVELS) and mended.values.isfinite().all()
    assert coverage(mended, truth(600)[0]) == pytest.approx(0.8, abs=0.02)


def test_hopelessly_narrow_laws_stay_finite():
    y, time = truth(100)
    margins = law(torch.zeros_like(y), 1e-3)
    mended = fitted(margins, y, time).apply(margins)
    assert mended.values.isfinite().all() and (mended.variance > margins.variance).all()


def test_missing_outcomes_are_skipped():
    y, time = truth(600)
    y[torch.rand_like(y) < 0.4] = math.nan
    y[..., 2] = math.nan
    margins = law(torch.zeros_like(y), 0.5)
    mended = fitted(margins, y, time).apply(margins)
    assert mended.values.isfinite().all()
    assert coverage(mended[..., :2], truth(600)[0][..., :2]) == pytest.approx(0.8, abs=0.03)


def test_all_missing_is_the_identity():
    pits = torch.full((50, HORIZON, CHANNELS), math.nan)
    assert Recalibration.fit(pits, BLOCKS, times(np.arange(50) * HORIZON)).maps is None


def test_state_makes_it_again_and_a_fit_repeats_it():
    y, time = truth(100)
    margins = law(torch.zeros_like(y), 0.5)
    pits = margins.pit(y)
    a, b = (Recalibration.fit(pits, BLOCKS, time) for _ in range(2))
    again = Recalibration.from_state(a.state())
    assert torch.equal(again.apply(margins).values, b.apply(margins).values)
    assert Recalibration.from_state(Recalibration.identity().state()).maps is None


PHASES = 4


def phase_of(origin):
    return (torch.as_tensor(origin)[:, None] + torch.arange(HORIZON)) % PHASES


class TestSeason:
    def outcomes(self, number):
        r"""Outcomes that lie a deviation too high in one phase, and are twice too wide in another, of channel 0."""
        origin = np.arange(number) * (HORIZON + 1)  # every phase at every lead
        y, phase = torch.randn(number, HORIZON, CHANNELS), phase_of(origin)
        y[..., 0] += (phase == 1).float()
        y[..., 0] *= 1 + (phase == 2).float()
        return y, times(origin), phase

    def test_each_phase_is_mended_alone(self):
        y, time, phase = self.outcomes(800)
        margins = law(torch.zeros_like(y), 1.0)
        mended = Recalibration.fit(margins.pit(y), BLOCKS, time, season_index=phase, num_seasons=PHASES).apply(
            margins, phase
        )
        median, width = mended.at((0.5,))[..., 0], mended.at((0.1, 0.9)).diff(dim=-1)[..., 0] / 2.563
        for one, (shift, wide) in enumerate(((0.0, 1.0), (1.0, 1.0), (0.0, 2.0), (0.0, 1.0))):
            torch.testing.assert_close(median[..., 0][phase == one].mean(), torch.tensor(shift), atol=0.12, rtol=0)
            torch.testing.assert_close(width[..., 0][phase == one].mean(), torch.tensor(wide), atol=0.2, rtol=0)
        torch.testing.assert_close(median[..., 1:], torch.zeros_like(median[..., 1:]), atol=0.12, rtol=0)

    def test_adapted_pits_are_those_of_the_recalibrated_law(self):
        y, time, phase = self.outcomes(300)
        margins = law(torch.zeros_like(y), 0.7)
        found = Recalibration.fit(margins.pit(y), BLOCKS, time, season_index=phase, num_seasons=PHASES)
        assert found.seasonal
        told = found.adapted(margins.pit(y), phase)
        torch.testing.assert_close(told, found.apply(margins, phase).pit(y), atol=0.01, rtol=0)
        far = 1 - torch.logspace(-7, -3, 50).view(-1, 1, 1).expand(-1, HORIZON, CHANNELS)  # none is like another
        assert len(found.adapted(far, phase[:1].expand(50, -1))[:, 0, 0].unique()) == len(far[:, 0, 0].unique())
        y[0, 0, 0] = math.nan
        assert bool(found.adapted(margins.pit(y), phase)[0, 0, 0].isnan())

    def test_the_season_is_chosen_where_it_tells_something_and_nothing_where_nothing_does(self):
        y, time, phase = self.outcomes(300)
        margins = law(torch.zeros_like(y), 1.0)
        season = {"season_index": phase, "num_seasons": PHASES}
        found, said = Recalibration.select(margins.pit(y), BLOCKS, time, **season)
        assert found.seasonal and "the season" in said
        wide, _ = Recalibration.select(margins.pit(2 * torch.randn_like(y)), BLOCKS, time, **season)
        assert wide.maps is not None and coverage(wide.apply(margins), 2 * y[..., 1:2].expand_as(y)) > 0.77
        left = [Recalibration.select(torch.rand_like(y), BLOCKS, time, **season)[0].maps is None for _ in range(20)]
        assert sum(left) >= 17

    def test_what_helped_once_and_harms_since_is_left_out(self):
        y, time = truth(300)
        margins = law(torch.zeros_like(y), 1.0)
        turning = y * torch.linspace(2.0, 0.5, 300).view(-1, 1, 1)
        found, said = Recalibration.select(margins.pit(turning), BLOCKS, time)
        assert found.maps is None and said == "left out: no significant gain"

    def test_many_items_of_short_time_are_foretold_from_one_another(self):
        origin = np.zeros(60, dtype=int)
        pits = law(torch.zeros(60, HORIZON, CHANNELS), 0.5).pit(torch.randn(60, HORIZON, CHANNELS))
        assert Recalibration.select(pits, BLOCKS, times(origin, np.arange(60)))[0].maps is not None
        found, said = Recalibration.select(pits, BLOCKS, times(origin))
        assert found.maps is None and said == "left out: too few windows"

    def test_crossed_maps_did_not_see_their_span(self):
        y, time, phase = self.outcomes(300)
        pits = law(torch.zeros_like(y), 0.7).pit(y)
        season = {"season_index": phase, "num_seasons": PHASES}
        found = Recalibration.cross_fitted(pits, BLOCKS, time, **season)
        assert sorted(np.concatenate([inside for inside, _ in found])) == list(range(300))
        changed = pits.clone()
        changed[found[2][0]] = torch.rand(len(found[2][0]), HORIZON, CHANNELS)
        again = Recalibration.cross_fitted(changed, BLOCKS, time, **season)
        assert torch.equal(found[2][1].maps, again[2][1].maps) and not torch.equal(found[1][1].maps, again[1][1].maps)

    def test_log_score_is_the_mean_log_of_how_much_likelier_the_outcomes_were(self):
        u = torch.rand(2000, HORIZON, CHANNELS).square()
        grid = torch.tensor([0.0, *LEVELS, 1.0], dtype=torch.float64)
        right = Recalibration(grid[1:-1].square().expand(4, 1, CHANNELS, -1), BLOCKS)
        share = grid.sqrt().diff()  # of the outcomes between each two levels
        known = float((share * (share / grid.diff()).log()).sum())
        assert float(right.log_score(u).mean()) == pytest.approx(known, abs=0.01)
        assert float(Recalibration.identity().log_score(u).abs().max()) == 0
        u[0] = math.nan
        assert bool(right.log_score(u)[0].isnan())


class TestConformal:
    @pytest.mark.parametrize("number", [19, 39])
    def test_coverage_is_at_least_nominal_for_few_windows_and_a_wrong_law(self, number):
        inside = []
        for _ in range(60):
            y, _ = truth(number)
            margins = law(torch.full_like(y, 0.5), 0.6)
            later, _ = truth(200)
            margins_later = law(torch.full_like(later, 0.5), 0.6)
            mapped = Recalibration.conformal(margins.pit(y)).apply(margins_later)
            inside.append(((later >= mapped(0.1)) & (later <= mapped(0.9))).double().mean())
        assert 0.79 < float(torch.stack(inside).mean()) < 0.83

    def test_the_rank_is_the_finite_sample_one(self):
        pits = (torch.arange(1.0, 10.0) / 10).square().view(-1, 1, 1)  # of nine, the 9th stands for .9
        mapped = Recalibration.conformal(pits)
        assert float(mapped.maps[0, 0, 0, LEVELS.index(0.9)]) == pytest.approx(0.81)
        assert float(mapped.maps[0, 0, 0, LEVELS.index(0.1)]) == pytest.approx(0.01)

    def test_levels_that_few_windows_do_not_tell_of_go_with_their_neighbours(self):
        mapped = Recalibration.conformal(torch.rand(5, HORIZON, CHANNELS).square())
        assert (mapped.maps.diff(dim=-1) >= 0).all() and mapped.maps.isfinite().all()
        z = torch.special.ndtri(mapped.maps) - torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
        torch.testing.assert_close(z[..., -1], z[..., LEVELS.index(0.8)])

    def test_nothing_seen_and_one_window(self):
        pits = torch.rand(30, HORIZON, CHANNELS)
        pits[..., 0] = math.nan
        mapped = Recalibration.conformal(pits).maps[:, 0, 0]
        torch.testing.assert_close(mapped, torch.tensor(LEVELS, dtype=torch.float64).expand_as(mapped))
        assert Recalibration.conformal(pits[:1]).maps is None


class TestAtoms:
    r"""Rain: laws that give the bound more or less weight, window by window, all of them less than it has."""

    DRY = 0.9  # how often the bound comes true

    def windows(self, number, seed):
        generator = torch.Generator().manual_seed(seed)
        doubt = torch.rand(number, 1, 1, generator=generator).expand(-1, HORIZON, CHANNELS)
        margins = law(2 * doubt - 0.5, 1.0, support=(0.0, math.inf))  # P(0) from .69 down to .07
        wet = torch.rand(number, HORIZON, CHANNELS, generator=generator) > self.DRY
        size = torch.randn(number, HORIZON, CHANNELS, generator=generator).abs()
        return margins, torch.where(wet, size, 0.0), times(np.arange(number) * HORIZON)

    def test_a_law_recalibrated_is_calibrated(self):
        margins, y, time = self.windows(1500, 0)
        maps = Recalibration.fit(margins.pits(y), BLOCKS, time)
        later, truth, _ = self.windows(1500, 1)
        before, after = (pit_ece(each.pit(truth).flatten(0, 1)) for each in (later, maps.apply(later)))
        assert float(before.min()) > 0.25
        assert float(after.max()) < 0.02
        drawn = Recalibration.fit(margins.pits(y).values, BLOCKS, time)  # what quantiles of drawn levels give
        assert float(pit_ece(drawn.apply(later).pit(truth).flatten(0, 1)).min()) > 0.08

    def test_a_bound_that_always_comes_true_gets_all_weight(self):
        margins, y, time = self.windows(600, 0)
        mended = Recalibration.fit(margins.pits(torch.zeros_like(y)), BLOCKS, time).apply(margins)
        assert float((mended(0.9) == 0).double().mean()) > 0.99
        upper = QuantileFunction(LEVELS, -margins.values.flip(-1), (-math.inf, 0.0))
        mirrored = Recalibration.fit(upper.pits(torch.zeros_like(y)), BLOCKS, time).apply(upper)
        torch.testing.assert_close(mirrored(0.3), -mended(0.7), atol=1e-5, rtol=0)

    def test_pits_of_mapped_levels_are_those_of_the_mapped_law(self):
        margins, y, time = self.windows(600, 0)
        found = Recalibration.fit(margins.pits(y), BLOCKS, time)
        told = margins.pits(y, torch.Generator().manual_seed(3)).through(found.adapted)
        held = found.apply(margins).pits(y, torch.Generator().manual_seed(3))
        torch.testing.assert_close(told.upper, held.upper, atol=5e-3, rtol=0)
        torch.testing.assert_close(told.values, held.values, atol=5e-3, rtol=0)

    def test_the_log_score_of_an_atom_is_its_weight(self):
        margins, y, _ = self.windows(50, 0)
        pits = margins.pits(torch.zeros_like(y))
        grid = torch.tensor(LEVELS, dtype=torch.float64)
        half = Recalibration(torch.special.ndtr(torch.special.ndtri(grid) - 1).expand(4, 1, CHANNELS, -1), BLOCKS)
        expected = (torch.special.ndtr(torch.special.ndtri(pits.upper) + 1) / pits.upper).log().mean((1, 2))
        torch.testing.assert_close(half.log_score(pits), expected.double(), atol=1e-4, rtol=0)

    def test_the_choice_takes_it_up(self):
        margins, y, time = self.windows(600, 0)
        found, said = Recalibration.select(margins.pits(y), BLOCKS, time)
        assert found.maps is not None
        assert "log score" in said

    def test_a_level_that_may_be_any_tells_nothing(self):
        _, y, time = self.windows(600, 0)
        certain = QuantileFunction(LEVELS, torch.zeros(600, HORIZON, CHANNELS, len(LEVELS)), (0.0, math.inf))
        assert Recalibration.fit(certain.pits(torch.zeros_like(y)), BLOCKS, time).maps is None

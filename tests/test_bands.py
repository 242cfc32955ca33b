r"""Joint bands: coverage of whole paths on simulated exchangeable data, and the law's own copula where windows lack."""

import math

import numpy as np
import pytest
import torch

from adapts.distribution import LEVELS, GaussianCopula, Independent, Law, QuantileFunction
from adapts.distribution.bands import JOINT, JointBands
from adapts.distribution.pits import Pits

HORIZON, CHANNELS = 8, 3
TIME = 0.8 ** (torch.arange(HORIZON)[:, None] - torch.arange(HORIZON)).abs().float()


def copula():
    return GaussianCopula(0.5 * torch.eye(CHANNELS) + 0.5, TIME)


def normal_law(windows, dependence):
    quantiles = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
    return Law(QuantileFunction(LEVELS, quantiles.expand(windows, HORIZON, CHANNELS, -1)), dependence)


@pytest.mark.parametrize("joint", JOINT)
class TestCoverage:
    def test_whole_paths_are_covered_whatever_the_law(self, joint):
        covered = []
        law = normal_law(1, Independent(HORIZON, CHANNELS))  # wrong dependence, and margins half as wide as the truth
        for seed in range(40):
            truth = torch.special.ndtri(copula().uniforms(1, torch.Generator().manual_seed(seed), windows=300)[0]) * 2
            pits = law.marginals[torch.zeros(300, dtype=torch.long)].pit(truth)
            low, high = JointBands.fit(pits[:100]).band(law, 0.9, joint)
            inside = ((truth[100:] >= low) & (truth[100:] <= high)).float()
            covered.append(inside.amin(JOINT[joint]).mean())
        assert 0.87 < float(torch.stack(covered).mean()) < 0.93

    def test_too_few_windows_read_the_copula(self, joint):
        law = normal_law(1, copula())
        truth = law.sample(1000, torch.Generator().manual_seed(1))[:, 0]
        for bands in (JointBands(), JointBands.fit(torch.full((3, HORIZON, CHANNELS), 0.5))):
            low, high = bands.band(law, 0.9, joint, torch.Generator().manual_seed(0))
            inside = ((truth >= low[0]) & (truth <= high[0])).float().amin([axis for axis in JOINT[joint]])
            assert 0.86 < float(inside.mean()) < 0.94

    def test_wider_than_the_intervals_of_single_cells(self, joint):
        law = normal_law(2, copula())
        low, high = JointBands().band(law, 0.8, joint, torch.Generator().manual_seed(0))
        assert low.shape == (2, HORIZON, CHANNELS) and bool((high > law.marginals(0.9)).all())
        assert bool((low < law.marginals(0.1)).all())


def test_missing_outcomes_are_left_out():
    pits = torch.rand(200, HORIZON, CHANNELS)
    law = normal_law(1, copula())
    some = pits.clone()
    some[:50], some[50:, 0, 0] = math.nan, math.nan
    a = JointBands.fit(some).levels(law, 0.9, "channels")
    assert a.shape == (HORIZON, 1) and torch.equal(a[1:], JointBands.fit(pits[50:]).levels(law, 0.9, "channels")[1:])


def test_the_rank_is_the_finite_sample_one():
    pits = 0.5 + torch.arange(1.0, 10.0).view(-1, 1, 1).expand(-1, HORIZON, CHANNELS) / 20  # scores .1, .2, ... .9
    level = JointBands.fit(pits).levels(normal_law(1, copula()), 0.9, "all")
    assert float(level) == pytest.approx(0.9)  # ceil(10 * .9) = 9th of 9


def test_state_makes_them_again():
    bands = JointBands.fit(torch.rand(20, HORIZON, CHANNELS))
    law = normal_law(1, copula())
    again = JointBands.from_state(bands.state())
    assert torch.equal(bands.levels(law, 0.8, "all"), again.levels(law, 0.8, "all"))
    assert not JointBands.from_state(JointBands().state()).scores


def test_errors():
    law = normal_law(1, copula())
    with pytest.raises(ValueError, match="jointly over 'time', 'channels' or 'all', got 'leads'"):
        JointBands().band(law, 0.9, "leads")
    with pytest.raises(ValueError, match="levels lie within"):
        JointBands().band(law, np.float64(90), "all")


def test_many_items_are_remembered_by_dates():
    bands = JointBands.fit(torch.rand(300, HORIZON, CHANNELS), memory=200)
    for _ in range(3):
        bands = bands.follow(torch.rand(50, HORIZON, CHANNELS))
    assert len(bands.scores["all"]) == 450  # all of them: fewer than 100 dates of 50 items
    one = JointBands.fit(torch.rand(300, HORIZON, CHANNELS), memory=200).follow(torch.rand(1, HORIZON, CHANNELS))
    assert len(one.scores["all"]) == 200


def test_certain_channels_widen_no_band():
    truth = normal_law(200, copula()).sample(1, torch.Generator().manual_seed(0))[0]  # (n, H, D)
    law = normal_law(1, Independent(HORIZON, CHANNELS))
    pits = law.marginals[torch.zeros(200, dtype=torch.long)].pits(truth)
    nothing = QuantileFunction(LEVELS, torch.zeros(200, HORIZON, CHANNELS, len(LEVELS)))  # nights
    sure = nothing.pits(torch.zeros(200, HORIZON, CHANNELS))
    both = Pits(*(torch.cat([getattr(pits, end), getattr(sure, end)], 2) for end in ("lower", "upper", "place")))
    for joint in ("channels", "all"):  # whose levels are of no channel
        assert torch.equal(JointBands.fit(both).levels(law, 0.9, joint), JointBands.fit(pits).levels(law, 0.9, joint))


def test_bands_of_laws_with_atoms_cover_as_they_say():
    generator, covered = torch.Generator().manual_seed(0), []
    middle = 2 * torch.rand(400, 1, 1, generator=generator).expand(-1, HORIZON, CHANNELS) - 1.5
    grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
    margins = QuantileFunction(LEVELS, middle.unsqueeze(-1) + grid, (0.0, torch.inf))
    for _ in range(20):
        levels = copula().uniforms(1, generator, windows=400)[0]
        truth = (middle + torch.special.ndtri(levels)).clamp(min=0)
        bands = JointBands.fit(margins[slice(200)].pits(truth[:200], generator))
        low, high = bands.band(Law(margins[slice(200, None)], copula()), 0.9, "all", generator)
        covered.append(((truth[200:] >= low) & (truth[200:] <= high)).float().amin((1, 2)).mean())
    assert 0.88 < float(torch.stack(covered).mean()) < 0.93

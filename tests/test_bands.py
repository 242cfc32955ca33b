r"""Joint bands: coverage of whole paths on simulated exchangeable data, and the law's own copula where windows lack."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from adapts.calibration.joint_bands import JOINT, JointBands, least_tail_scale
from adapts.copulas.gaussian import GaussianCopula
from adapts.copulas.independent import Independent
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction

HORIZON, CHANNELS = 8, 3
TIME = 0.8 ** (torch.arange(HORIZON)[:, None] - torch.arange(HORIZON)).abs().float()


def copula():
    return GaussianCopula(0.5 * torch.eye(CHANNELS) + 0.5, TIME)


def normal_law(windows, dependence):
    quantiles = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
    return JointDistribution(QuantileFunction(LEVELS, quantiles.expand(windows, HORIZON, CHANNELS, -1)), dependence)


def uniform_law(channels):
    return JointDistribution(
        QuantileFunction((0.1, 0.9), torch.tensor([0.1, 0.9]).expand(1, 2, channels, -1)), Independent(2, channels)
    )


@pytest.mark.parametrize("joint", JOINT)
class TestCoverage:
    def test_whole_paths_are_covered_whatever_the_law(self, joint):
        covered = []
        law = normal_law(1, Independent(HORIZON, CHANNELS))  # wrong dependence, and margins half as wide as the truth
        for seed in range(40):
            truth = torch.special.ndtri(copula().uniforms(1, torch.Generator().manual_seed(seed), windows=300)[0]) * 2
            scores = law.marginals[torch.zeros(100, dtype=torch.long)].nonconformity(truth[:100])
            low, high = JointBands.fit(scores).band(law, 0.9, joint)
            inside = ((truth[100:] >= low) & (truth[100:] <= high)).float()
            covered.append(inside.amin(JOINT[joint]).mean())
        assert 0.87 < float(torch.stack(covered).mean()) < 0.93

    def test_too_few_windows_read_the_copula(self, joint):
        law = normal_law(1, copula())
        truth = law.sample(1000, torch.Generator().manual_seed(1))[:, 0]
        for bands in (JointBands(), JointBands.fit(torch.zeros(3, HORIZON, CHANNELS))):
            low, high = bands.band(law, 0.9, joint, torch.Generator().manual_seed(0))
            inside = ((truth >= low[0]) & (truth <= high[0])).float().amin([axis for axis in JOINT[joint]])
            assert 0.86 < float(inside.mean()) < 0.94

    def test_wider_than_the_intervals_of_single_cells(self, joint):
        law = normal_law(2, copula())
        low, high = JointBands().band(law, 0.8, joint, torch.Generator().manual_seed(0))
        assert low.shape == (2, HORIZON, CHANNELS) and bool((high > law.marginals(0.9)).all())
        assert bool((low < law.marginals(0.1)).all())


def test_missing_outcomes_are_left_out():
    scores = torch.rand(200, HORIZON, CHANNELS)
    law = normal_law(1, copula())
    some = scores.clone()
    some[:50], some[50:, 0, 0] = math.nan, math.nan
    a = JointBands.fit(some).score(law, 0.9, "channels")
    assert a.shape == (HORIZON, 1) and torch.equal(a[1:], JointBands.fit(scores[50:]).score(law, 0.9, "channels")[1:])
    some[..., 0] = math.nan  # a channel of which nothing is known reaches as far as the others do on the mean
    each = JointBands.fit(some).score(law, 0.9, "all")[0]
    assert float(each[0]) == pytest.approx(float(each[1:].mean()))


def test_no_band_is_narrower_than_one_of_a_lower_level_or_than_intervals():
    law = normal_law(1, copula())
    for scores in (3 * torch.rand(60, HORIZON, CHANNELS), torch.zeros(5, HORIZON, CHANNELS)):
        for joint in JOINT:
            widths = []
            for level in (0.9, 0.97, 0.99, 0.999, 0.99999):
                low, high = JointBands.fit(scores).band(law, level, joint, torch.Generator().manual_seed(0))
                widths.append(high - low)
            assert all(bool((more >= less - 1e-6).all()) for less, more in pairwise(widths))
            assert bool((widths[-1] >= law.marginals(0.999995) - law.marginals(0.000005) - 1e-4).all())


@pytest.mark.parametrize("items", [1, 3])
def test_bands_that_were_not_fitted_wait_for_dates_without_overlap(items):
    law, bands = normal_law(items, copula()), JointBands()
    for number in range(1, 8 * HORIZON + 1):
        bands = bands.follow(law.marginals, torch.full((items, HORIZON, CHANNELS), 0.1))
        far = float(bands.score(law, 0.8, "all", torch.Generator().manual_seed(0)).max())
        assert (far < 0.2) == (number == 8 * HORIZON)


@pytest.mark.parametrize(("windows", "channels"), [(30, 40), (100, 40), (400, 3)])
def test_bands_of_many_channels_hold_of_few_windows_too(windows, channels):
    inside = []
    for seed in range(60):
        scores = (
            torch.rand(windows + 200, 2, channels, generator=torch.Generator().manual_seed(seed)).neg().log1p().neg()
        )
        far = JointBands.fit(scores[:windows]).score(uniform_law(channels), 0.9, "all")
        inside.append((scores[windows:] <= far).flatten(1).all(1).float().mean())
    assert 0.88 < float(torch.stack(inside).mean()) < 0.93


def test_the_rank_is_the_finite_sample_one():
    scores = torch.arange(1.0, 10.0).view(-1, 1, 1).expand(-1, HORIZON, CHANNELS) / 10
    for joint in JOINT:
        far = JointBands.fit(scores).score(normal_law(1, copula()), 0.9, joint)
        assert far.numpy() == pytest.approx(0.9)  # ceil(10 * .9) = 9th of 9


def test_state_makes_them_again():
    law = normal_law(1, copula())
    margins, truth = law.marginals[torch.zeros(20, dtype=torch.long)], law.sample(20)[:, 0]
    for bands in (JointBands.fit(margins.nonconformity(truth)), JointBands().follow(margins, truth)):
        again = JointBands.from_state(bands.state())
        for joint in JOINT:
            ends = [each.band(law, 0.8, joint, torch.Generator().manual_seed(0)) for each in (bands, again)]
            assert torch.equal(ends[0][0], ends[1][0]) and torch.equal(ends[0][1], ends[1][1])
    assert not JointBands.from_state(JointBands().state()).scores


def test_errors():
    law = normal_law(1, copula())
    with pytest.raises(ValueError, match="joint to be 'time', 'channels' or 'all', got 'leads'"):
        JointBands().band(law, 0.9, "leads")
    with pytest.raises(ValueError, match="levels lie within"):
        JointBands().band(law, np.float64(90), "all")


def test_many_items_are_remembered_by_dates():
    law, scores = normal_law(50, copula()), torch.rand(300, HORIZON, CHANNELS)
    bands = JointBands.fit(scores, memory=200)
    for _ in range(3):
        bands = bands.follow(law.marginals, law.sample(1)[0])
    assert len(bands.scores["time"]) == 450  # all of them: fewer than 100 dates of 50 items
    one = JointBands.fit(scores, memory=200).follow(law.marginals[[0]], law.sample(1)[0, :1])
    assert len(one.scores["time"]) == 200


def test_later_windows_move_all_channels_together():
    r"""How channels compare is that of the fit, so that few later windows tell one number, not one a channel."""
    law, truth = normal_law(400, copula()), normal_law(400, copula()).sample(1)[0]
    fitted = JointBands.fit(law.marginals.nonconformity(truth) * torch.tensor([1.0, 2.0, 3.0]))
    later = fitted
    for number in range(150):
        later = later.follow(law.marginals[[number]], 3 * truth[[number]])
    usual, excess = fitted.units
    for bands in (fitted, later):
        far = (bands.score(law, 0.8, "all")[0] - usual) / excess
        assert far.numpy() == pytest.approx(float(far[0]))
    assert bool((later.score(law, 0.8, "all") != fitted.score(law, 0.8, "all")).all())


def test_certain_channels_widen_no_band():
    law = normal_law(200, Independent(HORIZON, CHANNELS))
    scores = law.marginals.nonconformity(normal_law(200, copula()).sample(1, torch.Generator().manual_seed(0))[0])
    nothing = QuantileFunction(LEVELS, torch.zeros(200, HORIZON, CHANNELS, len(LEVELS)))  # nights
    sure = nothing.nonconformity(torch.zeros(200, HORIZON, CHANNELS))
    assert not bool(sure.any())
    for joint in ("channels", "all"):
        far, own = (JointBands.fit(some).score(law, 0.9, joint) for some in (torch.cat([scores, sure], 2), scores))
        assert torch.equal(far[:, : own.shape[1]], own)


def test_one_channel_that_errs_far_does_not_widen_the_others():
    generator = torch.Generator().manual_seed(0)
    grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
    margins = QuantileFunction(LEVELS, grid.expand(400, HORIZON, CHANNELS + 1, -1))
    inside, widths, plain = [], [], []
    for _ in range(20):
        truth = torch.randn(800, HORIZON, CHANNELS + 1, generator=generator)
        far = torch.rand(800, 1, generator=generator) < 0.05  # now and then, by a hundred deviations
        truth[:, :, 0] += 100 * far * torch.randn(800, 1, generator=generator)
        bands = JointBands.fit(margins.nonconformity(truth[:400]))
        low, high = bands.band(JointDistribution(margins[[0]], Independent(HORIZON, CHANNELS + 1)), 0.9)
        inside.append(((truth[400:] >= low) & (truth[400:] <= high)).all(2).all(1).float().mean())
        widths.append((high - low)[..., 1:].mean())
        plain.append(2 * truth[400:, :, 1:].abs().amax((1, 2)).quantile(0.95))  # the band of the others alone
    assert 0.88 < float(torch.stack(inside).mean()) < 0.92
    assert float(torch.stack(widths).mean()) < 1.15 * float(torch.stack(plain).mean())


def test_laws_that_are_at_times_too_sure_keep_bands_finite_and_narrow():
    # Half of the windows say that nothing will happen, in which something does one time in twenty.
    generator, covered = torch.Generator().manual_seed(0), []
    sure = torch.arange(400) % 2 == 0
    spread = torch.where(sure, 1e-6, 1.0).view(-1, 1, 1, 1)
    grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
    margins = QuantileFunction(LEVELS, (spread * grid).expand(-1, HORIZON, CHANNELS, -1), (0.0, torch.inf))
    least = least_tail_scale(margins.tail_scale, np.zeros(400))
    for _ in range(20):
        truth = torch.randn(400, HORIZON, CHANNELS, generator=generator)
        seen = (torch.rand(400, 1, 1, generator=generator) < 0.05) | ~sure.view(-1, 1, 1)
        truth = (truth * seen).clamp(min=0)
        bands = JointBands.fit(margins[slice(200)].nonconformity(truth[:200], least), least)
        low, high = bands.band(JointDistribution(margins[slice(200, None)], Independent(HORIZON, CHANNELS)), 0.9)
        covered.append(((truth[200:] >= low) & (truth[200:] <= high)).float().amin((1, 2)).mean())
        assert float(high.max()) < 15 and float(low.min()) == 0
    assert 0.88 < float(torch.stack(covered).mean()) < 0.94


def test_tails_are_least_as_those_of_an_item_with_small_ones():
    scale = torch.tensor([1.0, 10.0, 100.0])[[0, 0, 1, 2, 2, 2]].view(-1, 1, 1).expand(-1, HORIZON, 1)
    assert float(least_tail_scale(scale, np.array([0, 0, 1, 2, 2, 2]))) == pytest.approx(2.8)  # 1 + .2 * 9
    assert float(least_tail_scale(scale[:2], np.zeros(2))) == 1


def test_bands_of_laws_with_atoms_cover_as_they_say():
    generator, covered = torch.Generator().manual_seed(0), []
    middle = 2 * torch.rand(400, 1, 1, generator=generator).expand(-1, HORIZON, CHANNELS) - 1.5
    grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
    margins = QuantileFunction(LEVELS, middle.unsqueeze(-1) + grid, (0.0, torch.inf))
    for _ in range(20):
        levels = copula().uniforms(1, generator, windows=400)[0]
        truth = (middle + torch.special.ndtri(levels)).clamp(min=0)
        bands = JointBands.fit(margins[slice(200)].nonconformity(truth[:200]))
        low, high = bands.band(JointDistribution(margins[slice(200, None)], copula()), 0.9, "all", generator)
        covered.append(((truth[200:] >= low) & (truth[200:] <= high)).float().amin((1, 2)).mean())
    assert 0.88 < float(torch.stack(covered).mean()) < 0.93

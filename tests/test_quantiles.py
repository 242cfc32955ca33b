r"""Quantile functions: closed forms, inverses, probability integral transforms, noise, mixtures."""

import math

import numpy as np
import pytest
import torch

from adapts.distribution.levels import LEVELS, nonconformity_of_levels, segment_of
from adapts.distribution.quantile_function import QuantileFunction

GRID = torch.tensor(LEVELS, dtype=torch.float64)
NORMAL = torch.special.ndtri(GRID)
DECILES = torch.arange(1, 10, dtype=torch.float64) / 10
INF = math.inf


def uniform(support=None, batch=()):
    r"""Uniform on [0, 1] between the outer deciles, with exponential tails of scale .1 beyond them."""
    return QuantileFunction(DECILES, DECILES.expand(*batch, -1), support)


def middles(number):
    return (torch.arange(number, dtype=torch.float64) + 0.5) / number


def kolmogorov(x):
    r"""The Kolmogorov-Smirnov distance to uniformity, in units of 1 / sqrt(n)."""
    x = x.flatten().sort().values
    return float((x - middles(len(x))).abs().max()) * math.sqrt(len(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [LEVELS, (0.0001, 0.0002, 0.0003, 0.25, 0.5, 0.5001, 0.9999), (0.4, 0.6)])
def test_segments_are_found_as_by_a_search(levels, dtype):
    grid = torch.tensor(levels, dtype=torch.float64)
    exact = grid.to(dtype)
    u = torch.cat([torch.rand(10_000).to(dtype), exact, torch.nextafter(exact, exact - 1), torch.tensor([2.0**-24]),
                   torch.arange(1024) / 1024]).to(dtype)  # fmt: skip
    expected = torch.searchsorted(exact, u, right=True).sub(1).clamp(0, len(levels) - 2)
    assert torch.equal(segment_of(grid, u), expected)


def test_levels_that_variables_share():
    law = QuantileFunction(LEVELS, torch.randn(5, 4, 3, len(LEVELS)))
    for shape in ((7, 1, 4, 3), (7, 5, 1, 1), (1, 4, 3), (2, 6, 1, 4, 3)):
        u = torch.rand(shape)
        assert torch.equal(law(u), law(u.expand(*shape[:-3], 5, 4, 3)))
    with pytest.raises(ValueError, match=r"shape \(S, 5, 4, 3\), got \(7, 2, 4, 3\)"):
        law(torch.rand(7, 2, 4, 3))


@pytest.mark.parametrize("number", [1, 7, 20, 100, 200])
@pytest.mark.parametrize("support", [None, (-0.5, 1.0)])
def test_strata_are_read_as_their_levels(number, support):
    law = QuantileFunction(LEVELS, torch.randn(5, 2, len(LEVELS), dtype=torch.float64), support)
    place = torch.rand(5, 2, number, dtype=torch.float64)
    place[0, 0] = 0.0
    levels = (torch.arange(number) + place) / number
    torch.testing.assert_close(law.stratified(place), law(levels.movedim(-1, 0)).movedim(0, -1), rtol=0, atol=1e-12)


class TestQuantiles:
    def test_gives_back_its_own_values_exactly(self):
        values = torch.randn(5, 3, len(LEVELS)).sort(-1).values
        law = QuantileFunction(LEVELS, values)
        assert torch.equal(law.at(LEVELS), values)
        assert torch.equal(law.resample(LEVELS).values, values)
        assert torch.equal(law(0.9), values[..., LEVELS.index(0.9)])

    def test_is_linear_in_the_level_between_the_deciles(self):
        law = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([0.0, 4.0, 6.0]))
        torch.testing.assert_close(law.at((0.3, 0.7, 0.8)), torch.tensor([2.0, 5.0, 5.5]))

    def test_tail_is_exponential_with_a_continuous_density(self):
        law = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64))
        # density .1 at the decile, so Q(u) = 4 - (.1 / .1) ln((1 - u) / .1) beyond
        for u in (0.95, 0.99, 0.9999):
            assert float(law(u)) == pytest.approx(4 - math.log((1 - u) / 0.1), rel=1e-9)
            assert float(law(1 - u)) == pytest.approx(-float(law(u)), rel=1e-9)
        inside, outside = ((law(0.9 + h) - law(0.9)) / h for h in (-1e-7, 1e-7))
        assert float(inside) == pytest.approx(float(outside), rel=1e-4)

    def test_finer_levels_lose_nothing(self):
        deciles = tuple(i / 10 for i in range(1, 10))
        law = QuantileFunction(deciles, torch.randn(4, 9, dtype=torch.float64))
        fine = law.resample(LEVELS)
        u = torch.rand(1000, 4, dtype=torch.float64)
        torch.testing.assert_close(fine(u), law(u))
        torch.testing.assert_close(fine.mean, law.mean)
        torch.testing.assert_close(fine.variance, law.variance)

    def test_crossing_quantiles_are_sorted(self):
        law = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([3.0, 1.0, 2.0]))
        assert law.values.tolist() == [1.0, 2.0, 3.0]

    def test_shapes(self):
        law = QuantileFunction(LEVELS, torch.randn(2, 3, len(LEVELS)), (torch.zeros(3), INF))
        assert law.shape == (2, 3) and law(torch.rand(7, 2, 3)).shape == (7, 2, 3)
        assert law(torch.rand(2, 3)).shape == (2, 3) and law.at((0.2, 0.4)).shape == (2, 3, 2)
        assert law[0].shape == (3,) and law[:, 1:].shape == (2, 2) and law[torch.tensor([1, 1])].shape == (2, 3)
        assert torch.equal(law[1].at((0.3,)), law.at((0.3,))[1])

    def test_many_samples_are_evaluated_in_pieces(self, monkeypatch):
        law = QuantileFunction(LEVELS, torch.randn(3, len(LEVELS)))
        u = torch.rand(10, 3)
        whole = law(u)
        monkeypatch.setattr("adapts.distribution.quantile_function._CHUNK", 7)
        assert torch.equal(law(u), whole)

    def test_extreme_levels_stay_finite(self):
        law = QuantileFunction(LEVELS, NORMAL.float())
        assert law(torch.tensor([0.0, 1.0])).isfinite().all()

    def test_gradients_reach_the_values(self):
        values = torch.randn(len(LEVELS)).sort().values.requires_grad_()
        QuantileFunction(LEVELS, values)(torch.rand(50)).sum().backward()
        assert float(values.grad.sum()) == pytest.approx(50, rel=1e-5)

    @pytest.mark.parametrize(
        ("levels", "values", "message"),
        [
            ((0.0, 0.5), torch.zeros(2), r"within \(0, 1\)"),
            ((0.5,), torch.zeros(1), "two or more"),
            ((0.5, 0.2), torch.zeros(2), "must increase"),
            ((0.2, 0.5), torch.zeros(2, 3), r"one quantile for each of the 2 levels, got shape \(2, 3\)"),
        ],
    )
    def test_errors(self, levels, values, message):
        with pytest.raises(ValueError, match=message):
            QuantileFunction(levels, values)

    def test_error_on_a_support_upside_down(self):
        with pytest.raises(ValueError, match="lower bound"):
            QuantileFunction((0.2, 0.5), torch.zeros(2), (1.0, 0.0))


class TestMoments:
    def test_uniform(self):
        # about .5: twice the integral of t^2 over [0, .4], and two tails .4 + .1 E with E exponential, of mass .1 each
        assert float(uniform().mean) == pytest.approx(0.5, abs=1e-12)
        assert float(uniform().variance) == pytest.approx(2 * 0.4**3 / 3 + 0.2 * (0.16 + 0.08 + 0.02), abs=1e-12)

    def test_one_long_tail(self):
        # 0 up to the ninth decile, then steeper: 0 + .1 * s * E beyond it with mass .1, s the slope of the last segment
        law = QuantileFunction((0.1, 0.8, 0.9), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        # int_{.8}^{.9} 10 (u - .8) du = .05; the tail is 1 + E, of mean 2 and mean square 1 + 2 + 2
        assert float(law.mean) == pytest.approx(0.05 + 0.1 * 2, abs=1e-12)
        assert float(law.variance) == pytest.approx(0.1 / 3 + 0.1 * 5 - 0.25**2, abs=1e-12)

    def test_normal_within_the_error_of_its_interpolation(self):
        law = QuantileFunction(LEVELS, 3 + 2 * NORMAL)
        assert float(law.mean) == pytest.approx(3, abs=1e-9)
        assert float(law.variance) == pytest.approx(4, rel=0.01)

    def test_atoms_of_a_support(self):
        # U(0, 1) clipped to [.2, .7]: atoms .2 and .3; mean .04 + .225 + .21
        law = uniform((0.2, 0.7))
        second = 0.2 * 0.04 + (0.7**3 - 0.2**3) / 3 + 0.3 * 0.49
        assert float(law.mean) == pytest.approx(0.475, abs=1e-12)
        assert float(law.variance) == pytest.approx(second - 0.475**2, abs=1e-12)

    def test_a_support_beyond_the_tail_and_a_support_far_away(self):
        # P(X > .9 + .1 t) = .1 exp(-t); clipped at .9 + .1 ln 10: E (X - high)^+ = .1 * .1 * .1
        assert float(uniform((-INF, 0.9 + 0.1 * math.log(10))).mean) == pytest.approx(0.5 - 0.001, abs=1e-12)
        far = uniform((50.0, 60.0))
        assert float(far.mean) == pytest.approx(50.0) and float(far.variance) == pytest.approx(0.0, abs=1e-9)

    @pytest.mark.parametrize("levels", [LEVELS, tuple(i / 10 for i in range(1, 10)), (0.25, 0.5, 0.75), (0.01, 0.05)])
    @pytest.mark.parametrize("support", [None, (-0.5, 0.8), (0.0, INF), (-INF, 0.1), (0.9, 1.0)])
    def test_agree_with_a_fine_sum_over_levels(self, levels, support):
        u = torch.tensor(levels, dtype=torch.float64)
        law = QuantileFunction(levels, torch.stack([torch.special.ndtri(u), -torch.log1p(-u)]), support)
        x = law(middles(200_000).unsqueeze(-1).expand(-1, 2))
        torch.testing.assert_close(law.mean, x.mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(law.variance, x.var(0, correction=0), rtol=2e-4, atol=1e-7)

    def test_agree_with_samples_within_their_standard_errors(self):
        values = torch.randn(6, len(LEVELS)).sort(-1).values * 2
        law = QuantileFunction(LEVELS, values, (torch.tensor([-INF, -2, -1, 0, -INF, -1]), 1.5))
        x = law(torch.rand(40_000, 6)).double()
        error = x.std(0) / math.sqrt(len(x))
        assert ((x.mean(0) - law.mean).abs() < 4.5 * error).all()
        square = (x - law.mean).square()
        assert ((square.mean(0) - law.variance).abs() < 4.5 * square.std(0) / math.sqrt(len(x))).all()

    def test_large_offsets_in_single_precision(self):
        law = QuantileFunction(LEVELS, (1e4 + NORMAL).float())
        assert float(law.variance) == pytest.approx(1.0, rel=0.02)


class TestConstant:
    law = QuantileFunction(LEVELS, torch.full((4, len(LEVELS)), 3.7))

    def test_has_no_width(self):
        assert torch.equal(self.law(torch.rand(50, 4)), torch.full((50, 4), 3.7))
        assert torch.allclose(self.law.mean, torch.full((4,), 3.7)) and float(self.law.variance.max()) < 1e-12

    def test_probabilities(self):
        assert self.law.cdf(torch.tensor([3.6, 3.7, 3.8, math.nan])).nan_to_num(9).tolist() == [0.0, 0.5, 1.0, 9.0]

    def test_pit_is_spread_over_the_atom(self):
        # a rounding error beside the atom still counts as on it
        y = torch.full((20_000, 4), 3.7 * (1 + 1e-7))
        assert kolmogorov(self.law.pit(y)) < 1.63

    def test_with_a_support(self):
        law = QuantileFunction(LEVELS, torch.zeros(len(LEVELS)), (0.0, INF))
        assert float(law.mean) == 0 and float(law.variance) == 0 and float(law.cdf(torch.tensor(0.0))) == 0.5


class TestProbabilities:
    @pytest.mark.parametrize("support", [None, (-0.7, 1.1)])
    def test_cdf_inverts_the_quantile(self, support):
        law = QuantileFunction(LEVELS, torch.randn(50, len(LEVELS), dtype=torch.float64).sort(-1).values, support)
        u = torch.rand(200, 50, dtype=torch.float64)
        x = law(u)
        inside = torch.ones_like(x, dtype=torch.bool) if support is None else (x > support[0]) & (x < support[1])
        torch.testing.assert_close(law.cdf(x)[inside], u[inside], atol=1e-7, rtol=0)
        torch.testing.assert_close(law(law.cdf(x))[inside], x[inside], atol=1e-7, rtol=0)

    def test_cdf_of_atoms_is_the_middle_of_the_jump(self):
        law = uniform((0.2, 0.7))
        y = torch.tensor([0.1, 0.2, 0.5, 0.7, 0.8], dtype=torch.float64)
        torch.testing.assert_close(
            uniform((0.2, 0.7), batch=(5,)).cdf(y),
            torch.tensor([0.0, 0.1, 0.5, 0.85, 1.0], dtype=torch.float64),
            atol=1e-9,
            rtol=0,
        )
        assert float(law.cdf(torch.tensor(0.3))) == pytest.approx(0.3, abs=1e-6)

    def test_equal_quantiles_are_an_atom(self):
        law = QuantileFunction((0.1, 0.3, 0.6, 0.9), torch.tensor([0.0, 1.0, 1.0, 2.0]))
        assert float(law.cdf(torch.tensor(1.0))) == pytest.approx(0.45, abs=1e-6)
        law = QuantileFunction((0.1, 0.3, 0.6, 0.9), torch.tensor([1.0, 1.0, 1.5, 2.0]))  # down to the level 0
        assert float(law.cdf(torch.tensor(1.0))) == pytest.approx(0.15, abs=1e-6)
        assert float(law.cdf(torch.tensor(0.99))) == 0

    @pytest.mark.parametrize("support", [None, (0.0, INF), (-0.5, 0.2), (-INF, -0.3)])
    def test_pit_of_the_true_law_is_uniform(self, support):
        law = QuantileFunction(LEVELS, (NORMAL * 0.7 + 0.1).float(), support)
        y = law(torch.rand(20_000))
        assert kolmogorov(law.pit(y)) < 1.63  # the 1 % point

    def test_pit_of_a_narrow_law_is_not(self):
        law = QuantileFunction(LEVELS, NORMAL.float() / 2)
        assert kolmogorov(law.pit(torch.randn(20_000))) > 10

    def test_pit_is_reproducible_and_keeps_missing(self):
        law = uniform((0.5, 1.0))
        y = torch.full((10,), 0.5)
        y[3] = math.nan
        a, b = (law.pit(y, torch.Generator().manual_seed(1)) for _ in range(2))
        assert a[3].isnan() and torch.equal(a.nan_to_num(), b.nan_to_num()) and a.nan_to_num().unique().numel() == 10

    def test_error_on_a_foreign_shape(self):
        law = QuantileFunction(LEVELS, torch.zeros(2, 3, len(LEVELS)))
        with pytest.raises(ValueError, match=r"outcomes must have shape \(2, 3\), got \(3, 2\)"):
            law.cdf(torch.zeros(3, 2))
        with pytest.raises(ValueError, match=r"shape \(S, 2, 3\), got \(5, 3, 2\)"):
            law(torch.rand(5, 3, 2))


class TestReach:
    def test_it_is_the_central_probability_up_to_the_outer_deciles_and_log_beyond(self):
        law = QuantileFunction(GRID, NORMAL.expand(5, -1))
        levels = torch.tensor([0.5, 0.25, 0.9, 0.95, 0.999], dtype=torch.float64)
        outer = [0.8 + 0.2 * math.log(0.1 / tail) for tail in (0.05, 0.001)]
        expected = torch.tensor([0.0, 0.5, 0.8, *outer], dtype=torch.float64)
        torch.testing.assert_close(law.nonconformity(law(levels)), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(nonconformity_of_levels(levels), expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_intervals_end_where_outcomes_reach(self, dtype):
        law = QuantileFunction(GRID, torch.randn(40, len(GRID), generator=torch.Generator().manual_seed(0)).to(dtype))
        for least in (None, torch.tensor(0.3)):
            far = torch.tensor([0.1, 0.7, 0.9, 3.0, 50.0]).repeat(8)
            for end in law.central(far, least):
                torch.testing.assert_close(law.nonconformity(end, least), far.to(dtype), atol=1e-4, rtol=1e-4)

    def test_outcomes_are_told_apart_however_far_they_lie(self):
        scores = uniform(batch=(4,)).nonconformity(torch.tensor([10.0, 20.0, -20.0, 1e9], dtype=torch.float64))
        assert scores.tolist() == pytest.approx([0.8 + 2 * 9.1, 0.8 + 2 * 19.1, 0.8 + 2 * 20.1, 1000])

    def test_an_atom_reaches_no_farther_than_the_interval_that_holds_it(self):
        law = uniform((0.3, 0.95), batch=(4,))
        scores = law.nonconformity(torch.tensor([0.3, 0.95, 0.2, INF], dtype=torch.float64))
        assert scores.tolist()[:2] == pytest.approx([0.4, 0.8 + 0.2 * 0.5])  # level .1 exp(-.5) beyond .9
        assert scores.tolist()[2:] == [1000, 1000]  # no such outcome
        low, high = uniform((0.3, 0.95)).central(torch.tensor(0.5))
        assert (float(low), float(high)) == (0.3, 0.75)
        nights = QuantileFunction(GRID, torch.zeros(2, len(GRID)))
        assert nights.nonconformity(torch.tensor([0.0, math.nan])).tolist() == [0, pytest.approx(math.nan, nan_ok=True)]

    def test_tails_are_taken_to_be_no_thinner_than_told(self):
        thin = QuantileFunction(DECILES, 1e-6 * DECILES)
        assert float(uniform().tail_scale) == pytest.approx(0.1) and float(thin.tail_scale) == pytest.approx(1e-7)
        least = torch.tensor(0.1)
        assert float(thin.nonconformity(torch.tensor(1.0, dtype=torch.float64), least)) == pytest.approx(2.8, abs=1e-5)
        assert float(thin.central(torch.tensor(2.8), least)[1]) == pytest.approx(1.0, abs=1e-5)
        inner = 1e-6 * torch.tensor(0.7, dtype=torch.float64)  # within the outer quantiles nothing changes
        assert float(thin.nonconformity(inner, least)) == pytest.approx(0.4)
        wide = uniform().nonconformity(torch.tensor(3.0, dtype=torch.float64))
        assert float(uniform().nonconformity(torch.tensor(3.0, dtype=torch.float64), torch.tensor(0.01))) == float(wide)


class TestFromSamples:
    def test_known_answer(self):
        # of 1..5, i stands at (i - .5) / 5
        law = QuantileFunction.from_samples(torch.tensor([5.0, 3, 1, 2, 4]), (0.1, 0.3, 0.5, 0.6, 0.99))
        torch.testing.assert_close(law.values, torch.tensor([1.0, 2.0, 3.0, 3.5, 5.0]))

    def test_recovers_a_law(self):
        law = QuantileFunction(LEVELS, torch.stack([NORMAL, 3 + 2 * NORMAL]).float())
        again = QuantileFunction.from_samples(law(middles(2000).float().unsqueeze(-1).expand(-1, 2)))
        torch.testing.assert_close(again.values, law.values, atol=0.01, rtol=0)

    def test_one_sample_is_a_constant(self):
        assert float(QuantileFunction.from_samples(torch.tensor([2.0])).variance) == pytest.approx(0)


class TestNoise:
    @pytest.mark.parametrize("deviation", [0.05, 0.3, 1.0, 3.0, 30.0])
    def test_normal_plus_normal_is_normal(self, deviation):
        total = math.sqrt(1 + deviation**2)
        values = QuantileFunction(LEVELS, NORMAL.float()).add_noise(deviation**2).values
        # the base law itself is a normal one only up to its interpolation, of .8 % at the outer levels
        torch.testing.assert_close(values / total, NORMAL.float(), atol=0.01, rtol=0)
        torch.testing.assert_close(values[4:-4] / total, NORMAL[4:-4].float(), atol=0.005, rtol=0)

    def test_constant_plus_normal_is_normal(self):
        values = QuantileFunction(LEVELS, torch.full((len(LEVELS),), 5.0)).add_noise(4.0).values
        torch.testing.assert_close(values, 5 + 2 * NORMAL.float(), atol=3e-3, rtol=0)

    @pytest.mark.parametrize("deviation", [0.2, 0.7, 2.0])
    def test_skewed_plus_normal_agrees_with_a_fine_sum(self, deviation):
        law = QuantileFunction(LEVELS, -torch.log1p(-GRID))
        x, e = law(middles(3000)), deviation * torch.special.ndtri(middles(500))
        total = (x.unsqueeze(-1) + e).flatten()
        expected = QuantileFunction.from_samples(total, LEVELS).values
        torch.testing.assert_close(
            law.add_noise(deviation**2).values, expected, atol=0.015 * float(total.std()), rtol=0
        )

    def test_two_clusters(self):
        law = QuantileFunction((0.1, 0.45, 0.55, 0.9), torch.tensor([0.0, 0.0, 100.0, 100.0], dtype=torch.float64))
        values = law.resample((0.2, 0.8)).values
        assert values.tolist() == [0.0, 100.0]
        noisy = law.resample(LEVELS).add_noise(1.0).at((0.225, 0.775))
        torch.testing.assert_close(noisy, torch.tensor([0.0, 100.0], dtype=torch.float64), atol=0.1, rtol=0)

    def test_none_changes_nothing(self):
        law = QuantileFunction(LEVELS, torch.randn(3, 2, len(LEVELS)), (0.0, INF))
        assert torch.equal(law.add_noise(0.0).values, law.values)
        part = law.add_noise(torch.tensor([[0.0, 1.0]]))
        assert torch.equal(part.values[:, 0], law.values[:, 0]) and not torch.equal(part.values[:, 1], law.values[:, 1])
        assert part.support is not None

    def test_adds_its_variance(self):
        law = QuantileFunction(LEVELS, (torch.rand(50, 1) * 3 + 0.1) * NORMAL.float() + torch.randn(50, 1))
        noisy = law.add_noise(torch.full((50,), 2.0))
        torch.testing.assert_close(noisy.mean, law.mean, atol=0.02, rtol=0)
        torch.testing.assert_close(noisy.variance, law.variance + 2, rtol=0.02, atol=0)

    def test_error_on_a_negative_variance(self):
        with pytest.raises(ValueError, match="negative"):
            uniform().add_noise(-1.0)


class TestMix:
    a = QuantileFunction(LEVELS, torch.randn(3, len(LEVELS)).sort(-1).values, (0.0, INF))
    b = QuantileFunction(LEVELS, torch.randn(3, len(LEVELS)).sort(-1).values, (0.0, INF))

    def test_ends_are_exact(self):
        assert torch.equal(QuantileFunction.mix(1.0, self.a, self.b).values, self.a.values)
        assert torch.equal(QuantileFunction.mix(0.0, self.a, self.b).values, self.b.values)
        mixed = QuantileFunction.mix(torch.tensor([0.0, 0.5, 1.0]), self.a, self.b)
        assert torch.equal(mixed.values[0], self.b.values[0]) and torch.equal(mixed.values[2], self.a.values[2])
        assert mixed.support is not None and mixed.support[0].tolist() == [0, 0, 0]

    def test_mixes_paths_of_common_ranks(self):
        free_a, free_b = (QuantileFunction(LEVELS, law.values) for law in (self.a, self.b))
        u = torch.rand(100, 3)
        mixed = QuantileFunction.mix(0.25, free_a, free_b)
        torch.testing.assert_close(mixed(u), 0.25 * free_a(u) + 0.75 * free_b(u))

    def test_laws_of_other_levels_meet_at_those_of_both(self):
        deciles = tuple(i / 10 for i in range(1, 10))
        coarse = QuantileFunction(deciles, torch.randn(3, 9).sort(-1).values)
        fine = QuantileFunction(LEVELS, self.a.values)
        u = torch.rand(100, 3)
        mixed = QuantileFunction.mix(0.5, fine, coarse)
        assert mixed.levels.tolist() == list(LEVELS)
        torch.testing.assert_close(mixed(u), (fine(u) + coarse(u)) / 2)

    def test_error_on_other_shapes(self):
        with pytest.raises(ValueError, match=r"the same shape, got \(3,\) and \(2,\)"):
            QuantileFunction.mix(0.5, self.a, self.b[:2])


def test_rescaling_moves_values_and_support():
    law = QuantileFunction(LEVELS, NORMAL.float().expand(2, -1), (torch.tensor([-1.0, -INF]), INF))
    other = law.rescaled(torch.tensor([10.0, 20.0]), torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(other.mean, torch.tensor([10.0, 20.0]) + torch.tensor([2.0, 3.0]) * law.mean)
    torch.testing.assert_close(other.variance, torch.tensor([4.0, 9.0]) * law.variance)
    assert other.support is not None and other.support[0].tolist() == [8.0, -INF]
    with pytest.raises(ValueError, match="positive"):
        law.rescaled(0.0, 0.0)


def test_supported_replaces_the_support():
    law = uniform((0.4, 0.5)).supported(0.0, 0.7)
    assert float(law(0.99)) == pytest.approx(0.7) and float(law(0.45)) == pytest.approx(0.45)


def test_levels_in_single_precision_mean_their_decimals():
    law = QuantileFunction(torch.tensor([0.1, 0.5, 0.9]), torch.arange(3.0))
    assert law.levels.tolist() == [0.1, 0.5, 0.9]
    assert np.allclose(law.at(torch.tensor([0.1])), 0)

r"""Tails beyond the outer quantiles: right where past exceedances tell them, the law's own where they do not."""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pytest
import torch

from adapts import Adapter
from adapts.calibration.tails import Tails
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.foundation import FoundationModel

DECILES = [i / 10 for i in range(1, 10)]
NORMAL = NormalDist()


class Distribution(NamedTuple):
    r"""A law by its quantile and its distribution function, of arrays."""

    ppf: Callable[..., np.ndarray]
    cdf: Callable[..., np.ndarray]


def student(x):
    r"""The distribution function of Student's law with three degrees of freedom."""
    x = np.asarray(x) / 3**0.5
    return 0.5 + (x / (1 + x**2) + np.arctan(x)) / np.pi


def student_quantile(u):
    grid = np.sinh(np.linspace(-8, 8, 200_001))
    return np.interp(u, student(grid), grid)


LAWS = {
    "normal": Distribution(np.vectorize(NORMAL.inv_cdf), np.vectorize(NORMAL.cdf)),
    "t3": Distribution(student_quantile, student),
    "laplace": Distribution(
        lambda u: -np.sign(u - 0.5) * np.log1p(-2 * np.abs(np.asarray(u) - 0.5)),
        lambda x: 0.5 + np.sign(x) * (1 - np.exp(-np.abs(x))) / 2,
    ),
    "logistic": Distribution(lambda u: np.log(np.asarray(u) / (1 - np.asarray(u))), lambda x: 1 / (1 + np.exp(-x))),
    "uniform": Distribution(lambda u: np.asarray(u, dtype=float), lambda x: np.clip(x, 0, 1)),
    "gumbel": Distribution(lambda u: -np.log(-np.log(u)), lambda x: np.exp(-np.exp(-np.asarray(x)))),
}


def told(law, windows=400, horizon=4, channels=2, levels=DECILES, seed=0):
    r"""Laws that have the true quantiles at some levels, and outcomes."""
    quantiles = torch.tensor(law.ppf(np.array(levels))).float().expand(windows, horizon, channels, -1)
    outcomes = law.ppf(np.random.default_rng(seed).uniform(size=(windows, horizon, channels)))
    return QuantileFunction(levels, quantiles), torch.tensor(outcomes).float()


@pytest.mark.parametrize("name", LAWS)
def test_what_exceeds_the_quantiles_is_what_they_say(name):
    truth = LAWS[name]
    law, outcomes = told(truth, windows=3000)
    tails = Tails.fit(law, outcomes, 3000)
    mended = law[:1] if tails is None else tails.apply(law[:1])
    quantiles = mended.at((0.001, 0.01, 0.025, 0.975, 0.99, 0.999))[0, 0, 0].double().numpy()
    below = truth.cdf(quantiles)
    assert below[1] == pytest.approx(0.01, rel=0.15)
    assert 1 - below[4] == pytest.approx(0.01, rel=0.15)
    assert below[[2, 3]] == pytest.approx([0.025, 0.975], abs=0.003)
    if name != "uniform":  # whose ends are met within a hundredth of its width
        assert below[[0, 5]] == pytest.approx([0.001, 0.999], abs=0.0006)


def test_quantiles_within_the_outer_ones_stay():
    law, outcomes = told(LAWS["t3"])
    mended = Tails.fit(law, outcomes, 400).apply(law)
    inside = [0.1, 0.123, 0.3, 0.5, 0.9]
    torch.testing.assert_close(mended.at(inside), law.at(inside), rtol=0, atol=1e-6)
    assert (mended.values.diff(dim=-1) >= 0).all()


def test_tails_of_two_kinds_are_told_apart():
    law, outcomes = told(LAWS["gumbel"], windows=3000)
    tails = Tails.fit(law, outcomes, 3000)
    assert bool((tails.values[:, 1, 1] > tails.values[:, 0, 1] + 0.1).all())  # heavier above
    quantiles = tails.apply(law[:1]).at((0.01, 0.99))[0, 0, 0].double().numpy()
    assert LAWS["gumbel"].cdf(quantiles) == pytest.approx([0.01, 0.99], abs=0.002)


def test_tails_that_are_right_and_those_that_are_few_stay():
    law = QuantileFunction(DECILES, torch.special.ndtri(torch.tensor(DECILES)).expand(1000, 2, 1, -1))
    drawn = law(torch.rand(1, 1000, 2, 1, generator=torch.Generator().manual_seed(5)))[0]  # of these very tails
    assert Tails.fit(law, drawn, 1000) is None
    heavy, outcomes = told(LAWS["t3"], windows=20)
    assert Tails.fit(heavy, outcomes, 20) is None


def test_windows_that_repeat_each_other_are_no_more_evidence():
    law, outcomes = told(LAWS["t3"], windows=15)
    many = QuantileFunction(law.levels, law.values.repeat(40, 1, 1, 1))
    assert Tails.fit(many, outcomes.repeat(40, 1, 1), 15) is None
    assert Tails.fit(many, outcomes.repeat(40, 1, 1), 600) is not None


def test_missing_outcomes_atoms_and_units_change_nothing():
    law, outcomes = told(LAWS["laplace"], windows=1000)
    plain = Tails.fit(law, outcomes, 1000).values
    units = Tails.fit(law.rescaled(5.0, 100.0), 5 + 100 * outcomes, 1000).values
    torch.testing.assert_close(units, plain, rtol=1e-3, atol=1e-3)
    half = outcomes.masked_fill(torch.arange(1000)[:, None, None] % 2 == 0, torch.nan)
    assert Tails.fit(law, half, 500).values == pytest.approx(plain, abs=0.3)
    never_negative = law.supported(0.0, torch.inf)
    upper = Tails.fit(never_negative, outcomes.clamp(min=0), 1000).values[:, 1]
    assert upper.numpy() == pytest.approx(plain[:, 1].numpy(), abs=0.3)


class Known(FoundationModel):
    r"""The true quantiles of independent outcomes, at some levels."""

    def __init__(self, law, levels, location=0.0, scale=1.0):
        super().__init__(name="known", quantile_levels=levels, context_length=32, prediction_length=4)
        self.quantiles = torch.tensor((law.ppf(np.array(levels)) - location) / scale).float()
        self.freeze()

    def _forecast(self, context):
        return self.quantiles[None, :, None].expand(len(context), -1, 4)


@pytest.mark.parametrize("levels", [DECILES, list(LEVELS)], ids=["deciles", "more levels"])
def test_an_adapter_learns_tails_and_keeps_them(levels, tmp_path):
    random = np.random.default_rng(1)
    series = random.standard_t(3, (8000, 4))
    train = series[:1400, 0]  # the same values in all channels, in other orders: one unit for all
    series[:1400] = np.stack([random.permutation(train) for _ in range(4)], 1)
    model = Known(LAWS["t3"], levels, train.mean(), train.std())
    adapter = Adapter("identity", foundation_model=model, prediction_length=4).fit(series[:2000])
    panel = Panel.of(series)
    origin = np.arange(2000, 7990, 4)
    windows = Windows(panel, np.zeros(len(origin), int), origin, adapter.context_length_, 4)
    quantiles = adapter.joint_distribution(windows).marginals.at((0.01, 0.99))
    future = windows.future(torch.float64)
    assert float((future > quantiles[..., 1]).float().mean()) == pytest.approx(0.01, abs=0.0035)
    assert float((future < quantiles[..., 0]).float().mean()) == pytest.approx(0.01, abs=0.0035)
    assert "tails of shape" in adapter.summary().stages["confirmation"]
    adapter.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved", foundation_model=model)
    again = loaded.joint_distribution(windows[:5]).marginals.at((0.001, 0.99))
    torch.testing.assert_close(
        again, adapter.joint_distribution(windows[:5]).marginals.at((0.001, 0.99)), rtol=0, atol=0
    )


def test_an_adapter_that_was_saved_without_tails_loads(tmp_path):
    series = np.random.default_rng(0).standard_normal((600, 1))
    adapter = Adapter("identity", foundation_model=Known(LAWS["normal"], DECILES), prediction_length=4).fit(series)
    adapter.fitted_.tails = None  # as of an earlier version
    adapter.save(tmp_path / "saved")
    assert "tails" not in (tmp_path / "saved" / "config.json").read_text().split('"tensors"')[1]
    loaded = Adapter.load(tmp_path / "saved", foundation_model=Known(LAWS["normal"], DECILES))
    np.testing.assert_array_equal(loaded.predict().quantile(0.999), adapter.predict().quantile(0.999))


@pytest.mark.parametrize("values", [[[0.0, 0.0], [0.0, 1.0]], [[0.0, -1.0], [0.0, 1.0]]])
def test_saved_tails_without_a_positive_scale_are_refused(values):
    series = np.random.default_rng(0).standard_normal((600, 1))
    fitted = (
        Adapter("identity", foundation_model=Known(LAWS["normal"], DECILES), prediction_length=4).fit(series).fitted_
    )
    with pytest.raises(ValueError, match="'tails'"):
        fitted.restore({**fitted.state(), "tails": torch.tensor(values, dtype=torch.float64)})


def test_scales_that_move_by_chance_give_no_tail_that_loses():
    # The law's own scale says nothing of the outcomes, which are bounded: in units of it, excesses are heavy-tailed.
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(1.5 * torch.randn(300, 4, 2, 1, generator=generator))
    levels = torch.arange(1, 10) / 10
    law = QuantileFunction(levels, scale * (levels - 0.5))
    future = 2 * torch.rand(300, 4, 2, generator=generator) - 1
    tails = Tails.fit(law, future, 300)
    heavier = law if tails is None else tails.apply(law)
    for level in (0.02, 0.98, 0.995):
        losses = []
        for each in (law, heavier):
            error = future - each(level)
            losses.append(float(torch.maximum(level * error, (level - 1) * error).mean()))
        assert losses[1] <= losses[0] * 1.01


def test_a_channel_that_loses_by_the_tails_of_others_keeps_its_own():
    t3, even = (told(LAWS[name], windows=2000) for name in ("t3", "uniform"))
    law = QuantileFunction(t3[0].levels, torch.cat([t3[0].values, even[0].values], 2))
    future = torch.cat([t3[1], even[1]], 2)
    tails = Tails.fit(law, future, 2000)
    heavy, light = tails.values.chunk(2)
    assert float(heavy[:, :, 0].min()) > 0.1
    assert torch.equal(light, torch.tensor([[0.0, 1.0]] * 2, dtype=torch.float64).expand(2, 2, 2))


def test_adapters_that_were_saved_with_tails_for_all_channels_load():
    values = torch.tensor([[0.1, 1.2], [0.2, 1.3]], dtype=torch.float64)
    series = np.random.default_rng(0).laplace(size=(700, 2))
    fitted = (
        Adapter("identity", foundation_model=Known(LAWS["laplace"], DECILES), prediction_length=4).fit(series).fitted_
    )
    fitted.restore({**fitted.state(), "tails": values})
    assert torch.equal(fitted.tails.values, values.expand(2, 2, 2))

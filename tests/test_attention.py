r"""Cross-channel attention: what it keeps, what it is blind to, what it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import Bayesian, CrossChannelAttention, Ensemble
from adapts.adapters.attention import KNOTS, _knots
from adapts.testing.families import AdapterConformance

SMALL: dict[str, Any] = {"steps": 8, "width": 16, "heads": 2, "embedding": 4}
ROSTER: dict[str, Callable[[], CrossChannelAttention]] = {
    "default": CrossChannelAttention,
    "without attention": lambda: CrossChannelAttention(attends=False),
    "without embedding": lambda: CrossChannelAttention(embedding=0),
    "shifts alone": lambda: CrossChannelAttention(stretches=False),
}


class TestCrossChannelAttention(AdapterConformance):
    @pytest.fixture(params=ROSTER)
    def family(self, request: pytest.FixtureRequest) -> CrossChannelAttention:
        return ROSTER[request.param]()


def trained(channels: int = 4, **options: Any) -> CrossChannelAttention:
    r"""A family whose weights are random, so that it corrects."""
    torch.manual_seed(0)
    attention = CrossChannelAttention(**{**SMALL, **options}).build(channels).eval()
    for parameter in attention.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return attention


def windows(channels: int = 4, horizon: int = 6, count: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    past = torch.randn(count, 20, channels, generator=generator)
    middle = past[:, -1:] + torch.randn(count, horizon, channels, generator=generator)
    return past, middle.unsqueeze(-1) + torch.tensor([-1.3, -0.5, 0.0, 0.4, 1.1])


def decoded(attention: CrossChannelAttention, past: Tensor, quantiles: Tensor) -> Tensor:
    r"""The corrected quantiles, (B, H, D, Q)."""
    _, state = attention.encode(past)
    state.quantiles = quantiles
    with torch.no_grad():
        return attention.decode(quantiles.movedim(-1, 0), state).movedim(0, -1)


def test_untrained_it_is_the_frozen_model() -> None:
    past, quantiles = windows()
    attention = CrossChannelAttention().build(4).eval()
    assert torch.equal(decoded(attention, past, quantiles), quantiles)


def test_quantiles_keep_their_order() -> None:
    past, quantiles = windows()
    corrected = decoded(trained(), past, quantiles)
    assert (corrected.diff(dim=-1) > 0).all()
    assert (corrected - quantiles).abs().max() > 0.1


def test_without_stretching_distances_of_quantiles_stay() -> None:
    past, quantiles = windows()
    corrected = decoded(trained(stretches=False), past, quantiles)
    assert_close(corrected.diff(dim=-1), quantiles.diff(dim=-1))
    assert (corrected - quantiles).abs().max() > 0.1


def test_a_permutation_of_channels_permutes_the_forecasts() -> None:
    past, quantiles = windows()
    attention, order = trained(embedding=0), torch.tensor([2, 0, 3, 1])
    attention.channel_weight.data.zero_()
    attention.channel_bias.data.zero_()
    permuted = decoded(attention, past[..., order], quantiles[:, :, order])
    assert_close(permuted, decoded(attention, past, quantiles)[:, :, order])


def test_without_attention_a_channel_is_corrected_by_itself() -> None:
    past, quantiles = windows()
    other = past.clone()
    other[..., 1:] += torch.randn(5, 20, 3)
    for attends in (False, True):
        attention = trained(attends=attends)
        first, second = (decoded(attention, x, quantiles)[:, :, 0] for x in (past, other))
        assert torch.equal(first, second) != attends


def test_a_channel_without_observations_tells_nothing_and_keeps_its_forecast() -> None:
    past, quantiles = windows()
    attention = trained()
    past[..., 2] = torch.nan
    corrected = decoded(attention, past, quantiles)
    assert corrected.isfinite().all()
    assert torch.equal(corrected[:, :, 2], quantiles[:, :, 2])
    other = quantiles.clone()
    other[:, :, 2] += 5.0
    assert_close(decoded(attention, past, other)[:, :, [0, 1, 3]], corrected[:, :, [0, 1, 3]])


def test_a_constant_forecast_is_not_corrected() -> None:
    past, quantiles = windows()
    quantiles[:, :, 1] = past[:, -1:, 1, None]
    assert torch.equal(decoded(trained(), past, quantiles)[:, :, 1], quantiles[:, :, 1])


@pytest.mark.parametrize("channels", [256, 257])
def test_many_channels_attend_by_inducing_points(channels: int) -> None:
    past, quantiles = windows(channels, count=2)
    attention = trained(channels, inducing=5)
    assert any("points" in name for name, _ in attention.named_parameters()) == (channels > 256)
    corrected = decoded(attention, past, quantiles)
    other = past.clone()
    other[..., 0] += 1.0
    assert (decoded(attention, other, quantiles)[:, :, 1:] - corrected[:, :, 1:]).abs().max() > 1e-4


@pytest.mark.parametrize("horizon", [1, 7, KNOTS, 40, 96])
def test_knots_interpolate_functions_of_the_horizon_step(horizon: int) -> None:
    basis = _knots(horizon)
    assert_close(basis.sum(1), torch.ones(horizon))
    if horizon <= KNOTS:
        assert torch.equal(basis[:, :horizon], torch.eye(horizon)) and not basis[:, horizon:].any()
    else:  # a straight line is its own interpolation
        assert_close(basis @ torch.linspace(0, 1, KNOTS), torch.linspace(0, 1, horizon))


def lead_lag(rows: int = 700, seed: int = 0) -> np.ndarray:
    r"""The second channel repeats the first, six steps later."""
    first = np.random.default_rng(seed).standard_normal(rows + 6)
    return np.stack([first[6:], first[:-6]], 1)


def test_it_learns_what_a_channel_tells_of_another() -> None:
    rows = lead_lag()
    options = {"foundation_model": SeasonalModel(), "prediction_length": 6, "context_length": 24, "gate": False}
    losses = {}
    for name, family in (("attention", CrossChannelAttention(dropout=0.0)), ("frozen", "identity")):
        adapter = Adapter(family, **options)
        frame = adapter.backtest(rows, windows=20)
        overall = frame.query("channel == '1' and lead_block == 'all' and metric == 'crps' and model == 'adapter'")
        losses[name] = float(overall["value"].iloc[0])
    assert losses["attention"] < 0.5 * losses["frozen"]


@pytest.mark.parametrize("wrapper", ["ensemble", "mean-field", "laplace"])
def test_it_works_inside_of_other_families(wrapper: str) -> None:
    past, quantiles = windows()
    if wrapper == "ensemble":
        family: Any = Ensemble(member="attention", members=2, member_options=SMALL)
    else:
        sites = ["output.bias"]
        family = Bayesian(base="attention", base_options=SMALL, guide=wrapper, sites=sites)
    built = family.build(4)
    built.prepare(past.flatten(0, 1))
    built.before_training(past, quantiles)
    z, state = built.eval().encode(past, draws=4, generator=torch.Generator().manual_seed(0))
    state.quantiles = quantiles
    paths = z.new_zeros(state.draws, 5, 6, 4)
    assert built.decode(paths, state).shape == (state.draws, 5, 6, 4)
    assert built.capabilities.needs_quantiles and built.capabilities.observed_latents


def test_past_covariates_are_further_tokens() -> None:
    rows = pd.DataFrame(lead_lag(), columns=["leader", "follower"])
    options = {"foundation_model": SeasonalModel(), "prediction_length": 6, "context_length": 24, "gate": False}
    errors = {}
    for name, past_covariates in (("with", ["leader"]), ("without", [])):
        adapter = Adapter(CrossChannelAttention(dropout=0.0), **options)
        adapter.fit(rows.iloc[:600], target="follower", past_covariates=past_covariates)
        assert adapter.fitted_.module.channels == 1 + len(past_covariates)
        forecasts = [adapter.predict(rows.iloc[:stop]) for stop in range(600, 690, 10)]
        assert all(forecast.channels == ("follower",) for forecast in forecasts)
        truth = [rows["follower"].iloc[stop : stop + 6] for stop in range(600, 690, 10)]
        errors[name] = np.mean([np.abs(f.mean[:, 0] - y).mean() for f, y in zip(forecasts, truth, strict=True)])
    assert errors["with"] < 0.5 * errors["without"]


def test_it_is_trained_anew_on_all_splits_for_the_best_number_of_epochs() -> None:
    options = {"foundation_model": SeasonalModel(), "prediction_length": 6, "context_length": 24, "gate": False}
    adapter = Adapter(CrossChannelAttention(**SMALL), **options).fit(lead_lag())
    train, refit = (adapter.fitted_.decisions[name] for name in ("train", "refit"))
    assert 1 <= train.figures["best_epoch"] <= train.figures["epochs"]
    assert f"for {train.figures['best_epoch']:.0f} epochs" in refit.reason
    assert refit.figures["windows"] == sum(adapter.fitted_.windows.values()) > train.figures["windows"]

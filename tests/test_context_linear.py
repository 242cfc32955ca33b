r"""The linear map of the raw context: what it recovers, what it is blind to, its updates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapts.adapters import ContextLinear, RegressionData, State
from adapts.testing.families import AdapterConformance

LAGS, HORIZON, CHANNELS = 6, 3, 2


class TestContextLinear(AdapterConformance):
    improves = False

    @pytest.fixture
    def family(self) -> ContextLinear:
        return ContextLinear()


def regression(count: int = 400, *, missing: float = 0.0, noise: float = 0.0) -> tuple[RegressionData, Tensor]:
    r"""Windows whose targets are a linear map of differences from the last value, and the map (P, H)."""
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(count, LAGS, CHANNELS, generator=generator)
    truth = torch.randn(LAGS, HORIZON, generator=generator)
    truth[-1] = 0  # the difference of the last value from itself
    last = past[:, -1:]
    future = last + ((past - last).mT @ truth).mT
    future = future + noise * torch.randn(future.shape, generator=generator)
    forecast = last.expand(-1, HORIZON, -1).clone()
    future[torch.rand(future.shape, generator=generator) < missing] = torch.nan
    return RegressionData(past, future, forecast, torch.arange(count) * 5 // count), truth


def solved(data: RegressionData, **options: int) -> ContextLinear:
    family = ContextLinear(**options).build(CHANNELS)
    family.prepare(data.past.flatten(0, 1))
    family.solve(data, choose=True)
    return family.eval()


def decoded(family: ContextLinear, past: Tensor, quantiles: Tensor) -> Tensor:
    r"""The quantiles (B, H, D, Q)."""
    z, state = family.encode(past)
    state.forecast = quantiles[..., quantiles.shape[-1] // 2]
    return family.decode(quantiles.movedim(-1, 0), state).movedim(0, -1)


def test_a_linear_map_is_recovered() -> None:
    data, truth = regression()
    assert_close(solved(data).weights, truth, atol=1e-2, rtol=0)


def test_the_width_is_that_of_the_frozen_model_times_the_ratio_of_errors() -> None:
    data, _ = regression(noise=0.3)
    family = solved(data)
    quantiles = data.forecast.unsqueeze(-1) + torch.tensor([-1.0, 0.0, 1.0])
    out = decoded(family, data.past, quantiles)
    linear = (data.future - out[..., 1]).abs().mean((0, 1)) / (data.future - data.forecast).abs().mean((0, 1))
    assert_close(family.width, linear.clamp(0.5, 2.0))
    assert_close(out[..., 2] - out[..., 0], (2 * family.width).expand(len(out), HORIZON, CHANNELS))


def test_a_constant_context_keeps_its_zero_shot_forecast() -> None:
    data, _ = regression()
    past = data.past[:1].clone()
    past[..., 0] = 3.0
    quantiles = torch.randn(1, HORIZON, CHANNELS, 3).sort(-1).values
    family = solved(data)
    out = decoded(family, past, quantiles)
    assert_close(out[..., 0, 1], quantiles[..., 0, 1])
    assert (out[..., 1, 1] != quantiles[..., 1, 1]).all()


@pytest.mark.parametrize("lags", [None, 4])
def test_it_is_equivariant_to_scale_and_location(lags: int | None) -> None:
    data, _ = regression(noise=0.3)
    family = solved(data) if lags is None else solved(data, lags=lags)
    quantiles = torch.randn(400, HORIZON, CHANNELS, 3).sort(-1).values
    assert_close(
        decoded(family, 5 * data.past - 2, 5 * quantiles - 2), 5 * decoded(family, data.past, quantiles) - 2,
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip


def test_an_update_equals_one_solution_on_all_windows() -> None:
    data, _ = regression(noise=0.3)
    whole, updated = solved(data), solved(data)
    first, second = data[:250], data[250:]
    updated.solve(RegressionData(first.past, first.future, first.forecast, torch.empty(0)), choose=False)
    updated.partial_fit(second)
    updated.refit()
    assert_close(updated.weights, whole.weights)


def test_missing_targets_shrink_the_map_towards_the_frozen_model() -> None:
    full, truth = regression()
    half, _ = regression(missing=0.5)
    assert_close(solved(half).weights, truth / 2, atol=0.25, rtol=0)  # the frozen model's forecast is the last value
    nothing = RegressionData(full.past, full.future * torch.nan, full.forecast, full.fold)
    family = solved(nothing)
    assert not family.weights.any()
    assert (family.width == 1).all()


def test_an_unsolved_family_is_the_frozen_model() -> None:
    family = ContextLinear().build(CHANNELS)
    z = torch.randn(3, 4, HORIZON, CHANNELS)
    state = State(torch.randn(4, LAGS, CHANNELS), torch.zeros(4, 1, CHANNELS), torch.ones(4, 1, CHANNELS))
    assert torch.equal(family.decode(z, state), z)

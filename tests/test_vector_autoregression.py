r"""The vector autoregression: what it recovers, when it is stable, its width, its updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import RegressionData, State, VectorAutoregression
from adapts.adapters.vector_autoregression import growth_rate
from adapts.testing.families import AdapterConformance

CONTEXT, HORIZON, CHANNELS, STRIDE = 12, 4, 2, 4
#: A VAR(2) in levels: the second channel follows the first, two steps later. Its spectral radius is 0.7.
FIRST = torch.tensor([[0.7, 0.0], [0.0, 0.4]])
SECOND = torch.tensor([[0.0, 0.0], [0.6, 0.0]])
LEVEL = torch.tensor([0.5, -0.3])


class TestVectorAutoregression(AdapterConformance):
    improves = False

    @pytest.fixture
    def family(self) -> VectorAutoregression:
        return VectorAutoregression()


def simulated(rows: int, first: Tensor = FIRST, second: Tensor = SECOND, seed: int = 0) -> Tensor:
    r"""Rows (T, D) of a VAR(2) around a level, with independent standard normal shocks."""
    shocks = torch.randn(rows, len(first), generator=torch.Generator().manual_seed(seed))
    y = torch.zeros_like(shocks)
    for step in range(2, rows):
        y[step] = first @ y[step - 1] + second @ y[step - 2] + shocks[step]
    return y + LEVEL[: len(first)]


def expected(past: Tensor, first: Tensor = FIRST, second: Tensor = SECOND) -> Tensor:
    r"""The conditional mean (B, H, D) of that VAR."""
    level = LEVEL[: len(first)]
    steps = list((past - level).unbind(1))
    for _ in range(HORIZON):
        steps.append(steps[-1] @ first.mT + steps[-2] @ second.mT)
    return torch.stack(steps[-HORIZON:], 1) + level


def windows(rows: Tensor, stride: int = STRIDE) -> RegressionData:
    r"""Windows of rows in five blocks of time; the frozen model forecasts the mean of all rows."""
    both = rows.unfold(0, CONTEXT + HORIZON, stride).mT  # (n, L + H, D)
    future = both[:, CONTEXT:]
    return RegressionData(
        both[:, :CONTEXT], future, rows.nanmean(0).expand_as(future), torch.arange(len(both)) * 5 // len(both)
    )


def solved(data: RegressionData, **options: int) -> VectorAutoregression:
    family = VectorAutoregression(**options).build(data.past.shape[-1])
    family.prepare(data.past.flatten(0, 1))
    family.solve(data, choose=True)
    return family.eval()


def decoded(family: VectorAutoregression, past: Tensor, quantiles: Tensor) -> Tensor:
    r"""The quantiles (B, H, D, Q)."""
    z, state = family.encode(past)
    state.forecast = quantiles[..., quantiles.shape[-1] // 2]
    return family.decode(quantiles.movedim(-1, 0), state).movedim(0, -1)


def median(family: VectorAutoregression, past: Tensor) -> Tensor:
    return decoded(family, past, torch.zeros(len(past), HORIZON, family.channels, 1))[..., 0]


# ------------------------------------------------------------------------------------------------- what it recovers


def test_the_coefficients_of_a_var_are_recovered() -> None:
    family = solved(windows(simulated(40_000)), lags=3)
    truth = torch.cat([torch.zeros(2, 2), SECOND.mT, FIRST.mT - torch.eye(2), (LEVEL - (FIRST + SECOND) @ LEVEL)[None]])
    assert_close(family.weights, truth, atol=0.03, rtol=0)


def test_forecasts_are_the_conditional_means() -> None:
    family, later = solved(windows(simulated(40_000))), windows(simulated(400, seed=1))
    assert_close(median(family, later.past), expected(later.past), atol=0.15, rtol=0)
    assert float((median(family, later.past) - expected(later.past)).square().mean()) < 3e-3


def test_the_width_is_that_of_the_frozen_model_times_the_ratio_of_errors() -> None:
    persistence = torch.tensor([[0.9]])
    data = windows(simulated(40_000, persistence, torch.zeros(1, 1)))
    family = solved(data)
    # The frozen model forecasts the mean; h steps ahead, an AR(1) leaves the share 1 - 0.9^(2h) of the variance.
    truth = (1 - 0.9 ** (2 * torch.arange(1, HORIZON + 1))).sqrt()
    assert_close(family.width[:, 0], truth, atol=0.02, rtol=0)
    quantiles = data.forecast.unsqueeze(-1) + torch.tensor([-1.0, 0.0, 1.0])
    out = decoded(family, data.past, quantiles)
    assert_close(out[..., 2] - out[..., 0], (2 * family.width).expand(len(out), HORIZON, 1))


def test_few_windows_do_not_narrow_forecasts() -> None:
    r"""Errors out of sample set the width: with nearly as many coefficients as pairs, those in sample are smaller."""
    rows = torch.randn(60, CHANNELS, generator=torch.Generator().manual_seed(0))
    data = windows(rows)
    assert float(solved(data).width.mean()) > 0.85  # white noise around the mean, which the frozen model forecasts


# ------------------------------------------------------------------------------------------------- stability


def companion(weights: Tensor) -> Tensor:
    r"""The companion matrix (P D, P D) of weights, for contexts with the oldest step first."""
    size, channels = len(weights) - 1, weights.shape[1]
    matrix = torch.eye(size).roll(channels, 1)
    matrix[-channels:] = weights[:-1].mT
    matrix[-channels:, -channels:] += torch.eye(channels)
    return matrix


@pytest.mark.parametrize(("lags", "channels"), [(1, 1), (1, 5), (6, 2), (24, 8)])
def test_the_growth_rate_is_the_spectral_radius(lags: int, channels: int) -> None:
    weights = torch.randn(lags * channels + 1, channels, generator=torch.Generator().manual_seed(lags)) / 4
    radius = float(torch.linalg.eigvals(companion(weights)).abs().max())
    assert growth_rate(weights) == pytest.approx(radius, rel=0.01)


def test_an_explosive_series_gets_a_stable_forecast() -> None:
    rows = 1.2 ** torch.arange(120.0)[:, None] * torch.tensor([1.0, -2.0]) / 1.2**120
    data = windows(rows, stride=1)
    family = solved(data)
    assert float(torch.linalg.eigvals(companion(family.weights)).abs().max()) < 1.03
    assert (data.future - data.past[:, -1:]).abs().mean() > 0.01  # so that no shrinkage would fit best
    assert median(family, data.past).isfinite().all()


def test_no_fit_gives_explosive_weights() -> None:
    family = solved(windows(simulated(400)))
    family.require_sound(CONTEXT, HORIZON)
    family.weights[-3:-1] += torch.eye(2)
    with pytest.raises(ValueError, match="expected to be stable"):
        family.require_sound(CONTEXT, HORIZON)


# ------------------------------------------------------------------------------------------------- invariances


def test_forecasts_are_equivariant_to_location_and_scale_of_the_series() -> None:
    rows = simulated(500).numpy().astype(np.float64)
    units, shifts = np.array([0.01, 300.0]), np.array([5.0, -2000.0])

    def forecast(series: np.ndarray) -> np.ndarray:
        adapter = Adapter("var", foundation_model=SeasonalModel(), prediction_length=6, context_length=24)
        values: np.ndarray = adapter.fit(series).predict().quantile(0.5)
        return values

    plain, changed = forecast(rows), forecast(rows * units + shifts)
    np.testing.assert_allclose((changed - shifts) / units, plain, atol=2e-3)


def test_a_constant_context_keeps_its_zero_shot_forecast() -> None:
    family = solved(windows(simulated(400)))
    past = simulated(CONTEXT, seed=1)[None].clone()
    past[..., 0] = 3.0
    quantiles = torch.randn(1, HORIZON, CHANNELS, 3).sort(-1).values
    out = decoded(family, past, quantiles)
    assert torch.equal(out[..., 0, :], quantiles[..., 0, :])
    assert (out[..., 1, 1] != quantiles[..., 1, 1]).all()


# ------------------------------------------------------------------------------------------------- updates, missing


def test_an_update_equals_one_solution_on_all_windows() -> None:
    data = windows(simulated(1200))
    whole, updated = solved(data), solved(data)
    whole.solve(RegressionData(data.past, data.future, data.forecast, torch.empty(0)), choose=False)
    first, second = data[:200], data[200:]
    updated.solve(RegressionData(first.past, first.future, first.forecast, torch.empty(0)), choose=False)
    updated.partial_fit(second)
    updated.refit()
    assert_close(updated.gram, whole.gram)
    assert_close(updated.weights, whole.weights, atol=1e-5, rtol=1e-4)


def test_a_fit_on_a_part_of_the_windows_counts_for_all() -> None:
    data = windows(simulated(40_000), stride=1)
    family = solved(data)
    assert float(family.gram[-1, -1]) == pytest.approx(len(data.past) * HORIZON)  # the constant counts the pairs


def test_steps_without_observations_are_left_out() -> None:
    rows = simulated(8000)
    rows[torch.rand(len(rows), generator=torch.Generator().manual_seed(1)) < 0.1] = torch.nan
    data = windows(rows)
    family = solved(data)
    seen = ~torch.cat([data.past[:, -1:], data.future], 1)[..., 0].isnan()
    assert float(family.gram[-1, -1]) == float((seen[:, 1:] & seen[:, :-1]).sum())
    complete = windows(simulated(400, seed=2)).past
    assert float((median(family, complete) - expected(complete)).square().mean()) < 0.05


def test_without_targets_it_continues_the_last_value() -> None:
    data = windows(simulated(400))
    family = solved(RegressionData(data.past, data.future * torch.nan, data.forecast, data.fold))
    assert not family.weights.any()
    assert (family.width == 1).all()
    assert_close(median(family, data.past), data.past[:, -1:].expand(-1, HORIZON, -1))


def test_a_fit_survives_a_save_and_learns_in_an_update(tmp_path: Path) -> None:
    rows = simulated(600).numpy()
    adapter = Adapter("var", foundation_model=SeasonalModel(), prediction_length=6, context_length=24, gate=False)
    adapter.fit(rows[:500]).save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel())
    np.testing.assert_array_equal(again.predict().samples, adapter.predict().samples)
    before = again.fitted_.module.state_dict()["weights"].clone()
    again.update(rows[500:])
    assert not torch.equal(again.fitted_.module.state_dict()["weights"], before)


# ------------------------------------------------------------------------------------------------- the frozen model


def test_an_unsolved_family_is_the_frozen_model() -> None:
    family = VectorAutoregression().build(CHANNELS)
    z = torch.randn(3, 4, HORIZON, CHANNELS)
    state = State(torch.randn(4, CONTEXT, CHANNELS), torch.zeros(4, 1, CHANNELS), torch.ones(4, 1, CHANNELS))
    assert torch.equal(family.decode(z, state), z)


def test_with_too_many_channels_it_stays_the_frozen_model() -> None:
    past, future = torch.randn(3, 2, 1537), torch.randn(3, 1, 1537)
    family = VectorAutoregression().build(1537)
    data = RegressionData(past, future, torch.zeros_like(future), torch.arange(3))
    family.solve(data, choose=True)
    family.partial_fit(data)
    family.refit()
    assert torch.equal(decoded(family, past, future.unsqueeze(-1))[..., 0], future)
    family.require_sound(2, 1)


def test_wrong_lags_are_refused() -> None:
    with pytest.raises(ValueError, match="VectorAutoregression expects lags"):
        VectorAutoregression(lags=0)


def test_a_window_far_from_the_train_windows_keeps_its_zero_shot_forecast() -> None:
    rows = np.random.default_rng(0).standard_normal((900, 2))
    for t in range(1, 900):
        rows[t] += 0.8 * rows[t - 1]
    fitted = Adapter("var", foundation_model=SeasonalModel(), prediction_length=6, context_length=24, gate=False)
    fitted.fit(rows)
    plain = Adapter("identity", foundation_model=SeasonalModel(), prediction_length=6, context_length=24).fit(rows)
    far = rows[-100:] + 100
    np.testing.assert_allclose(fitted.predict(far).mean.mean(), plain.predict(far).mean.mean(), atol=2.0)
    assert np.abs(fitted.predict(rows[-100:]).mean - plain.predict(rows[-100:]).mean).max() > 0.01

r"""Linear adapters: their closed forms against numpy and gradients, and sources that they must find."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from seasonal import LEVELS
from torch import Tensor

from adapts.adapters import AdapterModule, Identity, Linear, Projection, RegressionData, State
from adapts.adapters.base import window_statistics
from adapts.foundation import FoundationModel
from adapts.statistics.ridge import blocked_folds
from adapts.testing.families import AdapterConformance

VARIANTS = {
    "both": Linear(),
    "to two": Linear(latent_channels=2),
    "encoder": Linear(free="encoder"),
    "decoder": Linear(free="decoder"),
    "decoder of two": Linear(latent_channels=2, free="decoder"),
    "rank one": Linear(rank=1),
    "rank one of two": Linear(latent_channels=2, rank=1),
    "tied": Linear(tied=True),
    "affine": Linear(affine=True),
    "train statistics": Linear(normalisation="train", affine=True, latent_channels=2),
}


class TestLinear(AdapterConformance):
    @pytest.fixture(params=VARIANTS)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return VARIANTS[request.param]


class TestReducedRankDecoder(AdapterConformance):
    @pytest.fixture(params=["window", "train"])
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return Linear(free="decoder", rank=1, normalisation=request.param)

    def regression_data(self, adapter: AdapterModule) -> tuple[RegressionData, State]:
        windows, state = super().regression_data(adapter)  # all channels miss the same share of the first latent one
        return replace(windows, future=windows.future + 0.5 * windows.forecast[..., :1]), state


def regression_data(past: Tensor, future: Tensor, forecast: Tensor) -> RegressionData:
    origin = 10 * torch.arange(len(past))
    return RegressionData(past, future, forecast, blocked_folds(origin, torch.zeros_like(origin), 10, 5))


def minimise(loss, parameters: list[Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(step)


# ---------------------------------------------------------------------------------------------------- closed forms


def test_closed_form_decoder_finds_the_mixing_and_equals_a_long_gradient_run() -> None:
    mixing = torch.eye(4) + 0.3 * torch.randn(4, 4)
    past = torch.randn(300, 30, 4)
    location, scale = window_statistics(past)
    forecast = torch.randn(300, 10, 4)
    future = (forecast @ mixing + 0.05 * torch.randn(300, 10, 4)) * scale + location
    linear = Linear(free="decoder").build(channels=4)
    linear.solve(regression_data(past, future, forecast), choose=True)
    torch.testing.assert_close(torch.eye(4) + linear.decoder, mixing, atol=0.02, rtol=0)

    decoder = torch.eye(4, requires_grad=True)
    minimise(lambda: (forecast @ decoder * scale + location - future).square().mean(), [decoder])
    linear.strength.fill_(0.0)
    linear.solve(regression_data(past, future, forecast), choose=False)
    torch.testing.assert_close(torch.eye(4) + linear.decoder.data, decoder.data, atol=1e-3, rtol=0)


def problem(normalisation: str, latents: int = 4) -> tuple[Linear, RegressionData, Tensor, Tensor]:
    r"""A decoder to solve for, its data, and regressors and targets as they stand in its squared error."""
    past = torch.randn(60, 30, 4).cumsum(1) + 5
    future = past[:, -1:] + torch.randn(60, 10, 4)
    linear = Linear(free="decoder", normalisation=normalisation, latent_channels=latents).build(channels=4)
    linear.prepare(past.flatten(0, 1))
    forecast = torch.randn(60, 10, latents)
    location, scale = window_statistics(past) if normalisation == "window" else (torch.zeros(4), torch.ones(60, 1, 4))
    target = future - location - forecast @ linear.directions.mT * scale
    return linear, regression_data(past, future, forecast), forecast[..., None] * scale[..., None, :], target


@pytest.mark.parametrize("latents", [2, 4])
@pytest.mark.parametrize("normalisation", ["window", "train"])
def test_closed_form_decoder_equals_numpy(normalisation: str, latents: int) -> None:
    linear, windows, x, y = problem(normalisation, latents)
    linear.strength.fill_(0.3)
    linear.solve(windows, choose=False)
    for channel in range(4):
        a = x[..., channel].flatten(0, 1).double().numpy()  # (n*H, K)
        b = y[..., channel].flatten().double().numpy()
        gram = a.T @ a
        expected = np.linalg.solve(gram + 0.3 * np.trace(gram) / latents * np.eye(latents), a.T @ b)
        torch.testing.assert_close(
            linear.decoder[:, channel].data, torch.from_numpy(expected).float(), atol=1e-4, rtol=0
        )


def test_closed_form_decoder_of_reduced_rank_equals_its_svd_solution() -> None:
    linear, windows, x, y = problem("train")
    reduced = Linear(free="decoder", normalisation="train", rank=2).build(channels=4)
    reduced.strength.fill_(0.3)
    reduced.solve(windows, choose=False)
    a, b = x[..., 0].flatten(0, 1).double().numpy(), y.flatten(0, 1).double().numpy()
    strength = 0.3 * np.trace(a.T @ a) / 4
    augmented = np.vstack([a, np.sqrt(strength) * np.eye(4)])
    full = np.linalg.lstsq(augmented, np.vstack([b, np.zeros((4, 4))]), rcond=None)[0]
    right = np.linalg.svd(augmented @ full, full_matrices=False)[2][:2]
    expected = torch.from_numpy(full @ right.T @ right).float()
    torch.testing.assert_close(reduced.decoder.data, expected, atol=1e-5, rtol=0)
    assert int(torch.linalg.matrix_rank(reduced.decoder, atol=1e-4)) == 2


@pytest.mark.parametrize("normalisation", ["window", "train"])
def test_a_rank_that_binds_nothing_chooses_as_well_as_none(normalisation: str) -> None:
    mixing = torch.eye(4) + 0.5 * torch.outer(torch.randn(4), torch.randn(4))  # a correction of rank one
    past, forecast = torch.randn(300, 30, 4), torch.randn(300, 10, 4)
    location, scale = window_statistics(past) if normalisation == "window" else (0.0, 1.0)
    future = (forecast @ mixing + torch.randn(300, 10, 4)) * scale + location
    future[4, 3], future[5, :, 1] = torch.nan, torch.nan
    error = {}
    for rank in (None, 1, 4):
        linear = Linear(free="decoder", normalisation=normalisation, rank=rank).build(channels=4)
        linear.solve(regression_data(past, future, forecast), choose=True)
        error[rank] = float((torch.eye(4) + linear.decoder - mixing).square().sum())
    assert error[1] < error[None]  # what is known to be of rank one is found with less noise
    assert abs(error[4] - error[None]) < 0.2 * error[None]


@pytest.mark.parametrize("rank", [None, 2])
def test_closed_form_decoder_stays_at_identity_on_noise(rank: int | None) -> None:
    past, forecast = torch.randn(200, 30, 4), torch.randn(200, 10, 4)
    location, scale = window_statistics(past)
    future = forecast * scale + location + 3 * torch.randn(200, 10, 4)
    linear = Linear(free="decoder", rank=rank).build(channels=4)
    linear.solve(regression_data(past, future, forecast), choose=True)
    harm = (forecast @ linear.decoder * scale).square().mean() / (3**2)
    assert harm < 0.005


# ---------------------------------------------------------------------------------------------------- by gradient


def test_gradients_reach_the_reduced_rank_solution_through_its_factors() -> None:
    linear, windows, x, y = problem("train")
    reduced = Linear(normalisation="train", rank=2).build(channels=4)
    reduced.encoder.requires_grad_(False)
    reduced.prepare(windows.past.flatten(0, 1))
    assert not reduced.correction.any()
    state = reduced.encode(windows.past)[1]

    def loss() -> Tensor:
        return (reduced.decode(windows.forecast[None], state)[0] - windows.future).square().mean()

    minimise(loss, [reduced.left, reduced.right])
    closed = Linear(free="decoder", normalisation="train", rank=2).build(channels=4)
    closed.strength.fill_(0.0)
    closed.solve(windows, choose=False)
    torch.testing.assert_close(reduced.correction.data, closed.decoder.data, atol=5e-3, rtol=0)
    assert int(torch.linalg.matrix_rank(reduced.correction, atol=1e-4)) == 2


def test_a_tied_decoder_is_the_encoder_transposed() -> None:
    tied = Linear(tied=True, normalisation="train", latent_channels=2).build(channels=4)
    tied.prepare(torch.randn(100, 4))
    tied.encoder.data = torch.randn(4, 2)
    matrix = tied.encode(torch.eye(4)[None])[0][0, 0]  # (D, K)
    state = tied.encode(torch.zeros(1, 3, 4))[1]
    torch.testing.assert_close(tied.decode(torch.eye(2)[None, None], state)[0, 0], matrix.mT)
    assert [name for name, _ in tied.named_parameters()] == ["encoder"]


def test_what_does_not_go_together_is_refused() -> None:
    for options, message in (
        ({"free": "decoder", "affine": True}, "trains no gain and offset"),
        ({"free": "encoder", "tied": True}, "pass free='both'"),
        ({"free": "decoder", "tied": True}, "pass free='both'"),
        ({"free": "encoder", "rank": 2}, "pass rank=None"),
        ({"tied": True, "rank": 2}, "pass rank=None"),
        ({"rank": 0}, "positive integer"),
        ({"tied": "yes"}, "True or False"),
        ({"free": "decodr"}, "did you mean 'decoder'"),
    ):
        with pytest.raises(ValueError, match=message):
            Linear(**options)


# ---------------------------------------------------------------------------------------------------- known sources


class Oscillator(FoundationModel):
    r"""Continues the sinusoid :math:`x_{t + 1} = c x_t - x_{t - 1}` that fits best: exact for one, wrong for a sum."""

    def __init__(self, prediction_length: int) -> None:
        super().__init__(
            name="oscillator", version="1", quantile_levels=LEVELS, context_length=96,
            prediction_length=prediction_length,
        )  # fmt: skip
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        ends, middle = context[:, 2:] + context[:, :-2], context[:, 1:-1]
        factor = ((ends * middle).sum(-1) / (middle.square().sum(-1) + 1e-6)).clamp(-2, 2)
        steps = [context[:, -2], context[:, -1]]
        for _ in range(self.prediction_length):
            steps.append(factor * steps[-1] - steps[-2])
        return torch.stack(steps[2:], -1).unsqueeze(1).expand(-1, len(LEVELS), -1)


PERIODS = (7.0, 11.0, 16.0, 24.0, 40.0)


class Harmonics(FoundationModel):
    r"""Continues the sum of known harmonics that fits best: linear, and exact for every one and every sum."""

    def __init__(self, prediction_length: int) -> None:
        super().__init__(
            name="harmonics", version="1", quantile_levels=LEVELS, context_length=96,
            prediction_length=prediction_length,
        )  # fmt: skip
        angle = torch.arange(96 + prediction_length, dtype=torch.float64)[:, None] * 2 * math.pi / torch.tensor(PERIODS)
        basis = torch.cat([angle.sin(), angle.cos()], -1)
        self.register_buffer("map", (basis[96:] @ torch.linalg.pinv(basis[:96])).float())  # (H, L)
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        return (context @ self.map.mT).unsqueeze(1).expand(-1, len(LEVELS), -1)


LENGTH, HORIZON = 96, 12


def sinusoids() -> Tensor:
    r"""The paper's synthetic truth: five sinusoids, mixed into eight correlated channels of unit variance."""
    time = torch.arange(2000.0)[:, None]
    sources = math.sqrt(2) * torch.sin(2 * math.pi * time / torch.tensor(PERIODS) + 6 * torch.rand(5))
    mixing = torch.randn(5, 8)
    return sources @ (mixing / mixing.norm(dim=0))


def cut(rows: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
    past = torch.stack([rows[origin - LENGTH : origin] for origin in origins])
    return past, torch.stack([rows[origin : origin + HORIZON] for origin in origins])


def forecast(adapter: AdapterModule, model: FoundationModel, past: Tensor) -> Tensor:
    z, state = adapter.encode(past)
    quantiles = model(z[0].mT.flatten(0, 1), HORIZON, unroll="median")
    return adapter.decode(quantiles[:, model.median_index].unflatten(0, (len(past), -1)).mT.unsqueeze(0), state)[0]


def error(adapter: AdapterModule, model: FoundationModel, past: Tensor, truth: Tensor) -> float:
    with torch.no_grad():
        return float((forecast(adapter, model, past) - truth).square().mean())


def test_trained_on_mixed_sinusoids_it_finds_the_sources_that_the_frozen_model_can_follow() -> None:
    rows, model = sinusoids(), Oscillator(HORIZON)
    past, future = cut(rows, torch.arange(1600, 1980, 7))
    linear = Linear(latent_channels=5, normalisation="train").build(channels=8)
    linear.prepare(rows[:1500])
    start = error(linear, model, past, future)
    optimiser = torch.optim.Adam(linear.parameters(), lr=0.02)
    for _ in range(100):
        seen, truth = cut(rows, torch.randint(LENGTH, 1500, (32,)))
        loss = (forecast(linear, model, seen) - truth).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(linear.parameters(), 1.0)
        optimiser.step()
    frozen = Identity().build(channels=8)
    assert error(frozen, model, past, future) > 0.5
    assert start > 0.5
    assert error(linear, model, past, future) < 1e-3


@pytest.mark.parametrize(
    ("normalisation", "share"), [("train", 0.8), ("window", 0.9)], ids=["train", "window"]
)  # 5/8 of the frozen model's noise, and what window statistics add to both
@pytest.mark.parametrize(
    "family", [Projection(latent_channels=5), Linear(latent_channels=5, free="decoder"),
               Linear(latent_channels=5, free="decoder", rank=5)], ids=["projection", "decoder", "reduced rank"],
)  # fmt: skip
def test_five_latents_forecast_eight_channels_and_leave_out_the_noise_between_them(
    family: AdapterModule, normalisation: str, share: float
) -> None:
    truth, model = sinusoids(), Harmonics(HORIZON)
    rows = truth + 0.3 * torch.randn_like(truth)
    adapter = type(family)(**{**family.options(), "normalisation": normalisation}).build(channels=8)
    adapter.prepare(rows[:1500])
    if adapter.capabilities.closed_form:
        past, future = cut(rows, torch.arange(LENGTH, 1500, 5))
        latents = model.predict(adapter.encode(past)[0][0].mT.flatten(0, 1), HORIZON)[:, model.median_index]
        adapter.solve(regression_data(past, future, latents.unflatten(0, (len(past), -1)).mT), choose=True)
    origins = torch.arange(1600, 1980, 3)
    past, future = cut(rows, origins)[0], cut(truth, origins)[1]
    frozen = Projection(normalisation=normalisation).build(channels=8)  # of full rank: this model's own forecasts
    assert error(frozen, model, past, future) < 0.03  # of a variance of one
    assert error(adapter, model, past, future) < share * error(frozen, model, past, future)

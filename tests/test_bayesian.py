r"""Bayesian adapters: the conformance of every guide, and posteriors whose answers are known."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import Bayesian, RegressionData, make
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.foundation import FoundationModel
from adapts.prediction.marginals import MarginalPredictor
from adapts.statistics.bayesian import BayesianRegression
from adapts.testing.families import AdapterConformance
from adapts.training.module import AdapterTraining
from adapts.training.module import train as fit

ROSTER: dict[str, Callable[[], Bayesian]] = {
    "exact residual": Bayesian,
    "exact residual of a given prior": lambda: Bayesian(prior_scale=0.5, base_options={"lead_blocks": 2}),
    "exact linear decoder": lambda: Bayesian(base="linear", base_options={"free": "decoder"}, sites="decoder"),
    "laplace decoder": lambda: Bayesian(base="linear", sites=("decoder",), guide="laplace"),
    "laplace everything": lambda: Bayesian(base="linear", sites=("*",), guide="laplace"),
    "mean field": lambda: Bayesian(base="linear", sites=("*",), guide="mean-field"),
    "low rank of two latents": lambda: Bayesian(
        base="linear", base_options={"latent_channels": 2}, sites=("encoder",), guide="low-rank", rank=2
    ),
    "mean field of a decoder alone": lambda: Bayesian(
        base="linear", base_options={"free": "decoder"}, sites=("decoder.*",), guide="mean-field"
    ),
    "mean field of dropout": lambda: Bayesian(base="dropout", sites=("encoder",), guide="mean-field"),
    "mean field of a vae": lambda: Bayesian(base="vae", sites=("decoder*", "encoder.*"), guide="mean-field"),
}


class TestBayesian(AdapterConformance):
    starts_as_identity = False

    @pytest.fixture(params=ROSTER)
    def family(self, request: pytest.FixtureRequest) -> Bayesian:
        return ROSTER[request.param]()


def linear(guide: str, **options: Any) -> Bayesian:
    r"""A decoder that is linear regression: its latents are the channels as they stand."""
    base = {"free": "decoder", "normalisation": "train"}
    return Bayesian(base="linear", base_options=base, sites="decoder", guide=guide, **options).build(3)


def regression(*, orthogonal: bool, count: int = 100, horizon: int = 4) -> RegressionData:
    r"""Forecasts and the targets that a decoder of unit noise makes of them."""
    generator = torch.Generator().manual_seed(0)
    forecast = torch.randn(count * horizon, 3, generator=generator)
    if orthogonal:
        forecast = torch.linalg.qr(forecast).Q * torch.tensor([30.0, 20.0, 10.0])
    else:
        forecast = forecast + forecast[:, :1]
    correction = 0.1 * torch.randn(3, 3, generator=generator)
    future = forecast @ (torch.eye(3) + correction) + torch.randn(forecast.shape, generator=generator)
    forecast, future = forecast.unflatten(0, (count, horizon)), future.unflatten(0, (count, horizon))
    past = torch.randn(count, 8, 3, generator=generator)
    return RegressionData(past, future, forecast, torch.arange(count) * 4 // count)


def exact(data: RegressionData, prior_scale: float, noise: float | None = 1.0) -> tuple[Tensor, Tensor]:
    r"""Mean and variances of the decoder's correction, with shape (K, D), the noise known or integrated out."""
    x = data.forecast.double().flatten(0, 1)
    y = data.future.double().flatten(0, 1) - x
    if noise is None:
        posterior = BayesianRegression.fit(x, y, prior_scale**-2)
        return posterior.mean, posterior.covariance.diagonal(dim1=-2, dim2=-1).mT
    covariance = torch.linalg.inv(x.mT @ x / noise + torch.eye(3) / prior_scale**2)
    return covariance @ x.mT @ y / noise, covariance.diagonal().unsqueeze(-1).expand(3, 3)


def train(adapter: Bayesian, data: RegressionData, steps: int) -> None:
    r"""Minimises the negative evidence bound of all windows, the noise's variance being one."""
    free = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(free, lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    adapter.train()
    torch.manual_seed(0)
    for _ in range(steps):
        state = adapter.encode(data.past, draws=32)[1]
        paths = data.forecast.expand(state.draws, -1, -1, -1)
        error = (adapter.decode(paths, state) - data.future).square().sum() / state.draws
        optimiser.zero_grad()
        torch.autograd.backward(0.5 * error + adapter.weight_divergence())
        optimiser.step()
        schedule.step()
    adapter.eval()


def moments(adapter: Bayesian, draws: int = 20_000) -> tuple[Tensor, Tensor]:
    r"""Mean and variances of the drawn decoders' correction, with shape (K, D)."""
    drawn = adapter.posterior.draw(draws, torch.Generator().manual_seed(0)).double().unflatten(1, (3, 3))
    return drawn.mean(0) + adapter.inner.decoder.detach(), drawn.var(0)


def assert_approaches(adapter: Bayesian, mean: Tensor, variance: Tensor) -> None:
    ours, spread = moments(adapter)
    assert (ours - mean).norm() < 0.02 * mean.norm()
    assert_close(spread, variance, rtol=0.1, atol=0)


# ---------------------------------------------------------------------------------------------------- known answers


def test_mean_field_approaches_the_exact_posterior_on_an_orthogonal_design() -> None:
    data, adapter = regression(orthogonal=True), linear("mean-field", prior_scale=0.2)
    train(adapter, data, 400)
    assert_approaches(adapter, *exact(data, 0.2))


def test_low_rank_approaches_the_exact_posterior_on_a_correlated_design() -> None:
    data = regression(orthogonal=False)
    mean, variance = exact(data, 0.2)
    adapter = linear("low-rank", prior_scale=0.2, rank=6)
    train(adapter, data, 800)
    assert_approaches(adapter, mean, variance)
    narrow = linear("mean-field", prior_scale=0.2)
    train(narrow, data, 400)
    assert (moments(narrow)[1] < 0.9 * variance).any()  # what a diagonal law cannot hold


def test_laplace_is_the_exact_posterior_where_all_is_linear_and_normal() -> None:
    data, adapter = regression(orthogonal=False), linear("laplace", prior_scale=0.2)
    train(adapter, data, 300)
    assert not adapter.capabilities.stochastic
    adapter.after_training(data)
    assert adapter.capabilities.stochastic
    assert_approaches(adapter, *exact(data, 0.2))
    pieces = copy.deepcopy(adapter)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapts.adapters.bayesian.MAX_NUMBERS", 1)  # a window at a time
        pieces.after_training(data)
    assert_close(pieces.state_dict(), adapter.state_dict())


def test_the_diagonal_of_the_curvature_is_estimated_without_bias() -> None:
    data, adapter = regression(orthogonal=True, count=3000), linear("laplace", prior_scale=0.2)
    train(adapter, data, 50)
    adapter.after_training(data)
    full = moments(adapter)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapts.adapters.bayesian.FULL", 1)
        adapter.after_training(data)
    assert adapter.posterior.factor.ndim == 1
    assert_close(moments(adapter)[1], full, rtol=0.25, atol=0)


def test_laplace_reaches_encoders_through_the_frozen_model() -> None:
    r"""Of a frozen model that repeats the last value, an encoder's posterior is that of regression on it."""
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(1000, 8, 3, generator=generator)
    future = past[:, -1:] + torch.randn(1000, 1, 3, generator=generator)
    adapter = Bayesian(base="linear", base_options={"free": "encoder", "normalisation": "train"}, sites="encoder",
                       guide="laplace", prior_scale=0.2).build(3)  # fmt: skip
    data = RegressionData(past, future, past[:, -1:], torch.zeros(1000))
    with pytest.raises(ValueError, match="needs the frozen model, .*: pass it as 'through'"):
        adapter.after_training(data)
    adapter.after_training(data, lambda z: z[:, -1:])
    variance = 1 / (past[:, -1].square().sum(0) + 1 / 0.2**2)
    drawn = adapter.posterior.draw(20_000, torch.Generator().manual_seed(0)).unflatten(1, (3, 3))
    assert_close(drawn.var(0), variance.unsqueeze(-1).expand(3, 3), rtol=0.3, atol=0)


def test_the_exact_guide_is_the_solver_s_posterior() -> None:
    data, adapter = regression(orthogonal=False), linear("exact", prior_scale=0.2).eval()
    adapter.solve(data, choose=True)
    mean, variance = exact(data, 0.2, noise=None)
    assert_close(adapter.inner.decoder.double(), mean, rtol=1e-4, atol=1e-5)
    ours, spread = moments(adapter, 100_000)
    assert_close(ours, mean, rtol=0, atol=1e-3)
    assert_close(spread, variance, rtol=0.03, atol=0)
    x = data.forecast.double().flatten(0, 1)
    divergence = BayesianRegression.fit(x, data.future.double().flatten(0, 1) - x, 25.0).divergence.sum()
    assert_close(adapter.weight_divergence().double(), divergence, rtol=1e-4, atol=0)


@pytest.mark.parametrize("prior_scale", [None, 0.3])
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_exact_residual_draws_about_the_ridge_as_its_hessian_says(blocks: int, prior_scale: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(400, 24, 2, generator=generator)
    forecast = past[:, -1:].expand(-1, 6, -1)
    future = forecast + 0.5 * past[:, -2:-1] + 0.5 * torch.randn(400, 6, 2, generator=generator)
    data = RegressionData(past, future, forecast, torch.arange(400) * 5 // 400)
    options = {"lags": 4, "components": 3, "lead_blocks": blocks}
    adapter = Bayesian(base_options=options, prior_scale=prior_scale).build(2).eval()
    adapter.solve(data, choose=True)
    if prior_scale is None:
        family = make("residual", options).build(2)
        family.solve(data, choose=True)
        family.solve(data, choose=False)
        assert_close(adapter.inner.state_dict(), family.state_dict())
    inner = adapter.inner
    own, joint, _ = inner.regressors(past, forecast)
    draws = adapter.posterior.draw(5000, generator).unflatten(1, inner.weights.shape)  # (M, D, p, H)
    assert_close(draws.mean(0), torch.zeros_like(inner.weights), rtol=0, atol=0.1 * float(draws.std()))
    for channel in range(2):
        scale = past.std(1, correction=0)[:, channel].double()
        x = torch.cat([own[channel], joint @ inner.basis], -1).double() * scale.sqrt().unsqueeze(-1)
        unit = (x.mT @ x).diagonal()[: own.shape[-1]].mean()
        for lead in (0, 5):
            block = lead * blocks // 6
            share = torch.full((x.shape[1],), float(inner.share[channel, block]), dtype=torch.float64)
            share[: own.shape[-1]] = 1
            precision = (inner.strength[channel, block] * unit / share.square()).clamp(max=1e12)
            y = (future - forecast)[:, lead, channel].double() / scale.sqrt()
            weights = inner.weights[channel, :, lead].double()
            system = x.mT @ x + precision.diag()
            assert_close(weights, torch.linalg.solve(system, x.mT @ y), rtol=1e-3, atol=1e-4)
            noise = ((y - x @ weights).square().sum() + (precision * weights.square()).sum()) / (400 - 2)
            expected = noise * torch.linalg.inv(system).diagonal()
            assert_close(draws[:, channel, :, lead].var(0).double(), expected, rtol=0.12, atol=1e-7)


@pytest.mark.parametrize("guide", ["mean-field", "low-rank"])
def test_wide_priors_make_one_posterior_and_narrow_ones_hold(guide: str) -> None:
    data, found = regression(orthogonal=True), {}
    for scale in (0.001, 0.01, 1.0, 100.0):
        adapter = linear(guide, prior_scale=scale)
        assert moments(adapter)[1].max().sqrt() < min(0.2 * scale, 0.02)  # starts narrow
        train(adapter, data, 200)
        found[scale] = moments(adapter)
        assert all(moment.isfinite().all() for moment in found[scale])
    assert found[0.001][0].abs().max() < 0.003
    assert (found[0.001][1] < 0.0015**2).all()
    assert (found[0.01][1] < 0.015**2).all()
    (mean, variance), (other, spread) = found[1.0], found[100.0]
    assert (other - mean).norm() < 0.03 * mean.norm()
    assert_close(spread, variance, rtol=0.1, atol=0)


def test_laplace_stands_at_the_mode_of_its_own_law_wherever_training_stops() -> None:
    r"""Trained as `Adapter` does, by few epochs of any objective: the exact posterior at the noise that is found."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 9 * 600, generator=generator).mT.unflatten(0, (600, 9)).clone()
    rows[..., 1] += rows[..., 0]
    weights = torch.eye(3) + 0.1 * torch.randn(3, 3, generator=generator)
    rows[:, 8] = rows[:, 7] @ weights + torch.randn(600, 3, generator=generator)
    windows = Windows(Panel.of(rows.flatten(0, 1).double().numpy()), np.zeros(600, int), 8 + 9 * np.arange(600), 8, 1)
    past, model = windows.past(), LastValue()
    data = RegressionData(past, windows.future(), past[:, -1:], torch.zeros(600))
    known = {"latents": past[:, -1:, :, None] + model.width}
    x, y = past[:, -1].double(), (windows.future() - past[:, -1:])[:, 0].double()
    for scale, objective in ((0.001, "elbo"), (0.05, "elbo"), (0.05, "huber"), (100.0, "elbo")):
        adapter = linear("laplace", prior_scale=scale)
        assert adapter.objective == "elbo"
        training = AdapterTraining(adapter, model, loss=objective, windows=600)
        options = {"max_epochs": 2, "enable_progress_bar": False}
        fit(training, windows, windows, batch_size=100, seed=0, precomputed=(known, known), options=options)
        adapter.after_training(data)
        mean, noise = torch.zeros(3, 3).double(), torch.ones(3).double()
        for _ in range(30):  # both where the other has them
            covariance = torch.linalg.inv(x.mT @ x / noise[:, None, None] + torch.eye(3) / scale**2)  # (D, K, K)
            mean = (covariance @ (x.mT @ y / noise).mT.unsqueeze(-1)).squeeze(-1).mT
            noise = (y - x @ mean).square().mean(0)
        assert_approaches(adapter, mean, covariance.diagonal(dim1=-2, dim2=-1).mT)
        if scale == 0.001:
            assert moments(adapter)[0].abs().max() < 0.001


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_laplace_finds_the_mode_whatever_is_missing(missing: float) -> None:
    r"""As far from the start as no slope at all would leave it: cells that are missing count for nothing."""
    data, adapter = regression(orthogonal=False), linear("laplace", prior_scale=0.2)
    data.future[torch.rand(data.future.shape, generator=torch.Generator().manual_seed(1)) < missing] = math.nan
    adapter.after_training(data)
    ours, spread = moments(adapter)
    x = data.forecast.double().flatten(0, 1)
    y = data.future.double().flatten(0, 1) - x
    for channel in range(3):
        seen = ~y[:, channel].isnan()
        own, target, noise = x[seen], y[seen, channel], torch.ones(()).double()
        for _ in range(30):
            covariance = torch.linalg.inv(own.mT @ own / noise + torch.eye(3) / 0.2**2)
            mean = covariance @ own.mT @ target / noise
            noise = (target - own @ mean).square().mean()
        assert ((ours[:, channel] - mean) / covariance.diagonal().sqrt()).abs().max() < 0.05
        assert_close(spread[:, channel], covariance.diagonal(), rtol=0.05, atol=0)


def test_laplace_weighs_leads_as_training_does() -> None:
    r"""Of two leads that say opposite things the one that counts is believed; what counts for little tells little."""
    generator = torch.Generator().manual_seed(0)
    forecast = torch.randn(400, 2, 3, generator=generator)
    noise = torch.randn(400, 2, 3, generator=generator)
    future = forecast * torch.tensor([1.3, 0.7]).view(2, 1) + noise
    data = RegressionData(torch.randn(400, 8, 3, generator=generator), future, forecast, torch.zeros(400))
    for share in (1.0, 0.2, 1e-4):
        adapter = linear("laplace", prior_scale=10.0)
        adapter.after_training(data, horizon_weights=share)
        leads = torch.tensor([1.0, share]).double() * 2 / (1 + share)
        x, y = forecast.double(), (future - forecast).double()
        weighed = (leads.view(2, 1) * x).flatten(0, 1)
        x, y, mean = x.flatten(0, 1), y.flatten(0, 1), torch.zeros(3, 3).double()
        ours, spread = moments(adapter)
        for channel in range(3):
            for _ in range(30):
                error = (y[:, channel] - x @ mean[:, channel]).square().unflatten(0, (400, 2))
                precision = 1 / (leads * error).mean()
                covariance = torch.linalg.inv(precision * weighed.mT @ x + torch.eye(3) / 100)
                mean[:, channel] = precision * covariance @ weighed.mT @ y[:, channel]
            assert_close(ours[:, channel], mean[:, channel], rtol=0, atol=0.002)
            assert_close(spread[:, channel], covariance.diagonal(), rtol=0.05, atol=0)
        assert_close(mean.diagonal().mean(), 0.3 * (leads[0] - leads[1]) / 2, rtol=0, atol=0.1)


def test_the_weights_of_leads_reach_laplace_through_an_adapter() -> None:
    rows = np.random.default_rng(0).standard_normal((400, 2)).cumsum(0)
    found = []
    for share in (1.0, 0.1):
        family = Bayesian(base="linear", base_options={"free": "decoder"}, sites="decoder", guide="laplace")
        adapter = Adapter(
            family, foundation_model=SeasonalModel(), prediction_length=4, context_length=24, max_windows=60,
            horizon_weights=share, trainer_options={"max_epochs": 1, "enable_progress_bar": False},
        ).fit(rows)  # fmt: skip
        module = adapter.fitted_.module
        found.append(module.posterior.factor.diagonal())
    assert (found[1] < 0.97 * found[0]).all()  # the first lead of a walk errs least, and tells most


@pytest.mark.parametrize("guide", ["mean-field", "low-rank"])
def test_the_divergence_is_its_monte_carlo_estimate(guide: str) -> None:
    import pyro

    adapter = linear(guide, prior_scale=0.2)
    with torch.no_grad():
        for parameter in adapter.posterior.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    draws = adapter.posterior.draw(100_000, torch.Generator().manual_seed(0)) / adapter.posterior.unit
    prior = torch.distributions.Normal(0.0, 0.2 / adapter.posterior.unit).log_prob(draws).sum(-1)
    estimate = (adapter.posterior.guide.get_posterior().log_prob(draws) - prior).detach()
    error = float(estimate.std()) / math.sqrt(len(draws))
    assert abs(float(adapter.weight_divergence().detach() - estimate.mean())) < 4 * error
    assert len(pyro.get_param_store()) == 0


def test_the_divergence_of_laplace_is_that_of_its_normal_law() -> None:
    data, adapter = regression(orthogonal=False), linear("laplace", prior_scale=0.2)
    train(adapter, data, 20)
    adapter.after_training(data)
    law = torch.distributions.MultivariateNormal(
        adapter.posterior.location, adapter.posterior.factor @ adapter.posterior.factor.mT
    )
    width = 0.2 / adapter.posterior.unit
    prior = torch.distributions.MultivariateNormal(torch.zeros(9), width**2 * torch.eye(9))
    assert_close(adapter.weight_divergence(), torch.distributions.kl_divergence(law, prior), rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------------------------------------------- a known law


class LastValue(FoundationModel):
    r"""Knows the law of a random walk of step 0.5: the last value, and what it is multiplied by."""

    def __init__(self) -> None:
        levels = tuple(round(0.02 * level, 2) for level in range(1, 50))
        super().__init__(name="last", version="1", quantile_levels=levels, context_length=8, prediction_length=1)
        self.register_buffer("width", 0.5 * torch.special.ndtri(torch.tensor(levels)))
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        return context[:, -1:, None] + self.width[:, None]


def test_the_predictive_law_is_right_where_it_is_known() -> None:
    r"""Mean, variance and coverage of the pipeline are those of the Student-t law, weights and noise together."""
    generator = torch.Generator().manual_seed(0)
    model, covered, means, variances, posteriors = LastValue(), [], [], [], []
    for _ in range(20):
        rows = torch.randn(2, 9 * 220, generator=generator).mT.unflatten(0, (220, 9)).clone()  # a window each
        weights = torch.eye(2) + 0.5 * torch.randn(2, 2, generator=generator)
        rows[:, 8] = (rows[:, 7] + 0.5 * torch.randn(220, 2, generator=generator)) @ weights
        panel = Panel.of(rows.flatten(0, 1).double().numpy())
        windows = Windows(panel, np.zeros(220, int), 8 + 9 * np.arange(220), 8, 1)
        seen, new = windows[:20], windows[20:]
        module = Bayesian(base="linear", base_options={"free": "decoder", "normalisation": "train"}, sites="decoder",
                          prior_scale=1.0).build(2).eval()  # fmt: skip
        bound = torch.full((2,), torch.inf)
        pipeline = MarginalPredictor(module, model, (-bound, bound), 64, 0, posterior_draws=256)
        forecast = seen.past()[:, -1:]  # what the frozen model says of the median
        module.solve(RegressionData(seen.past(), seen.future(), forecast, torch.zeros(20)), choose=True)
        law, parts = pipeline.predict(new)
        x, y = forecast[:, 0].double(), seen.future()[:, 0].double()
        last = new.past()[:, -1].double()
        exact = BayesianRegression.fit(x, y, 1.0, prior=torch.eye(2).double())
        expected = exact.predict(last)
        of_weights = torch.einsum("np,qpr,nr->nq", last, exact.covariance, last)
        posteriors.append((parts.posterior[:, 0].mean(0) / of_weights.mean(0)).log())
        means.append(((law.mean[:, 0] - expected.location) / expected.scale).square().mean())
        variances.append((law.variance[:, 0].mean(0) / expected.variance.mean(0)).log())
        pit = law.pit(new.future(), torch.Generator().manual_seed(0))
        covered.append(((pit > 0.1) & (pit < 0.9)).double().mean())
    assert torch.stack(means).mean().sqrt() < 0.1
    assert torch.stack(variances).mean().abs() < 0.1
    assert torch.stack(posteriors).mean().abs() < 0.1
    assert abs(float(torch.stack(covered).mean()) - 0.8) < 0.03


# ---------------------------------------------------------------------------------------------------- the family


@pytest.mark.parametrize("name", [name for name in ROSTER if "dropout" not in name and "vae" not in name])
def test_no_width_of_the_prior_is_the_frozen_model(name: str) -> None:
    family = ROSTER[name]()
    adapter = type(family)(**{**family.options(), "prior_scale": 1e-7}).build(3).eval()
    past, future = torch.randn(60, 20, 3), torch.randn(60, 4, 3)
    adapter.prepare(past.flatten(0, 1))
    forecast = torch.randn(60, 4, adapter.latents)
    data = RegressionData(past, future, forecast, torch.arange(60) * 4 // 60)
    if adapter.capabilities.closed_form:
        adapter.solve(data, choose=True)
    adapter.after_training(data, lambda z: z[:, -4:])
    base = make(adapter.base, adapter.base_options).build(3).eval()
    base.prepare(past.flatten(0, 1))
    z, state = adapter.encode(past, draws=5)
    expected, other = base.encode(past)
    state.forecast = other.forecast = forecast if adapter.capabilities.needs_forecast else None
    assert_close(z, expected.expand_as(z), rtol=0, atol=1e-4)
    paths = torch.randn(2 * state.draws, 60, 4, adapter.latents)
    assert_close(adapter.decode(paths, state), base.decode(paths, other), rtol=0, atol=1e-4)


def test_few_draws_have_the_mean_of_all() -> None:
    data, adapter = regression(orthogonal=False), linear("exact", prior_scale=0.2).eval()
    adapter.solve(data, choose=True)
    state = adapter.encode(data.past, draws=4)[1]
    decoded = adapter.decode(data.forecast.expand(4, -1, -1, -1), state)
    assert (decoded.std(0) > 0).all()
    base = make("linear", adapter.base_options).build(3)
    base.load_state_dict(adapter.inner.state_dict())
    expected = base.decode(data.forecast.unsqueeze(0), base.encode(data.past)[1])[0]
    assert_close(decoded.mean(0), expected, rtol=1e-4, atol=1e-4)


def test_draws_at_once_are_the_draws_in_turn() -> None:
    for name in ("low rank of two latents", "mean field"):
        adapter = ROSTER[name]().build(3).eval()
        z, state = adapter.encode(torch.randn(4, 20, 3), draws=6)
        x = (state.past - state.location) / state.scale
        assert_close(z, torch.stack([adapter._call_draw("_encode", state, number, x) for number in range(6)]))
        paths = torch.randn(12, 4, 5, adapter.latents)
        each = [
            adapter._call_draw("_decode", state, number, own) for number, own in enumerate(paths.unflatten(0, (6, 2)))
        ]
        assert_close(adapter._decode(paths, state), torch.cat(each))
        assert z.std(0).max() > 0


def test_draws_of_a_base_that_writes_in_place_are_taken_in_turn() -> None:
    pytest.importorskip("zuko")
    for guide in ("mean-field", "low-rank", "laplace"):
        adapter = Bayesian(base="flow", sites="*", guide=guide, prior_scale=0.5).build(3).eval()
        past = torch.randn(40, 20, 3)
        data = RegressionData(past, torch.randn(40, 4, 3), past[:, -4:], torch.zeros(40))
        adapter.after_training(data, lambda z: z[:, -4:])
        z, state = adapter.encode(past, draws=6)
        assert z.shape == (6, 40, 20, 3)
        assert_close(adapter.decode(z, state), past.expand(6, -1, -1, -1), rtol=1e-3, atol=1e-3)  # a flow each
        assert adapter._stackable is False


def test_threads_do_not_meet() -> None:
    adapter = ROSTER["mean field"]().build(3).eval()
    past, paths = torch.randn(4, 20, 3), torch.randn(20, 4, 5, 3)

    def forecast(seed: int) -> Tensor:
        state = adapter.encode(past, draws=10, generator=torch.Generator().manual_seed(seed))[1]
        return adapter.decode(paths, state)

    alone = [forecast(seed % 3) for seed in range(60)]
    with ThreadPoolExecutor(4) as pool:
        for ours, theirs in zip(pool.map(forecast, (seed % 3 for seed in range(60))), alone, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ROSTER)
def test_copies_are_the_same(name: str) -> None:
    adapter = ROSTER[name]().build(3).eval()
    for other in (copy.deepcopy(adapter), pickle.loads(pickle.dumps(adapter))):
        assert_close(other.state_dict(), adapter.state_dict())
        assert other.names == adapter.names
        assert other.capabilities == adapter.capabilities


def test_latents_are_fixed_unless_training_or_drawing_changes_them() -> None:
    def found(**options: Any) -> tuple[bool, bool]:
        adapter = Bayesian(**options).build(3)
        return adapter.capabilities.fixed_latents, adapter.capabilities.stochastic_latents

    assert found() == (True, False)
    assert found(base="linear", sites="decoder", guide="laplace") == (False, False)
    assert found(base="linear", sites="encoder", guide="laplace") == (False, True)
    assert found(base="linear", base_options={"free": "decoder"}, sites="decoder", guide="laplace") == (True, False)
    assert found(base="dropout", sites="decoder", guide="laplace") == (False, True)


def test_global_generator_stays_where_it_was() -> None:
    state = torch.get_rng_state()
    for name in ROSTER:
        if "vae" not in name and "dropout" not in name:
            adapter = ROSTER[name]().build(3).eval()
            adapter.encode(torch.zeros(1, 4, 3), draws=3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "lineal"}, "no adapter is called 'lineal'; known: attention.*pca.*mean 'linear'"),
        ({"base": "bayesian"}, "Ensemble"),
        ({"base": "linear"}, r"exact guide needs weights that enter linearly.*got base='linear'"),
        ({"base": "linear", "base_options": {"free": "decoder", "rank": 2}}, "no rank"),
        ({"guide": "laplac"}, "no guide is called 'laplac'.*laplace"),
        ({"prior_scale": 0}, "prior_scale to be a positive number from 1e-9 to 1e6 or None, got 0"),
        ({"rank": 3}, "rank=3 with guide='exact'"),
        ({"sites": []}, "sites to be patterns"),
        ({"sites": None}, "sites to be patterns of names.*got None"),
        ({"sites": 3}, "sites to be patterns of names.*got 3"),
        ({"base_options": [1]}, r"base_options to be a mapping of names to values, got \[1\]"),
        ({"base": make("linear", {"free": "decoder"})}, r"pass base='linear', base_options=\{'free': 'decoder'\}"),
        ({"base": 3}, "base to be the name of a family, such as 'residual', got 3"),
        ({"base_options": {"lag": 3}}, "'lag'"),
    ],
)
def test_wrong_options_say_so(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bayesian(**options)


def test_a_pattern_that_matches_nothing_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"'decodr\*' matches no weight .*of 'linear'; these are: encoder, decoder"):
        Bayesian(base="linear", sites=("encoder", "decodr*"), guide="laplace").build(3)
    with pytest.raises(ValueError, match="'log_sigma' matches no .*'laplace' .*: log_latent_scale, encoder.*, decoder"):
        Bayesian(base="vae", sites="log_sigma", guide="laplace").build(3)  # forecasts say nothing of it
    assert "log_sigma" not in Bayesian(base="vae", sites="*", guide="laplace").build(3).names
    with pytest.raises(ValueError, match="these are: none"):
        Bayesian(base="identity", sites="*", guide="laplace").build(3)

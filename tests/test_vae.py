r"""The variational autoencoder: its latent law, its divergence, the law of its targets, its bound."""

from __future__ import annotations

import math

import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from adapts.adapters import VAE, AdapterModule, Autoencoder, Linear
from adapts.adapters.base import State, window_moments
from adapts.adapters.vae import LEAST_NOISE
from adapts.testing.families import AdapterConformance

FAMILIES = {
    "linear": VAE(),
    "to two": VAE(latent_channels=2),
    "deep": VAE(depth=2, hidden=16),
    "fixed scale": VAE(noise_scale="fixed", sigma=0.5),
    "input": VAE(noise_scale="input", depth=1, hidden=8),
    "student": VAE(noise="student-t", freedom=None, noise_scale="input"),
    "not drawn": VAE(beta=0, latent_scale=0),
    "train statistics": VAE(normalisation="train", noise="student-t"),
}


class TestVAE(AdapterConformance):
    starts_as_identity = False  # it draws from the start, if little

    @pytest.fixture(params=FAMILIES)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return FAMILIES[request.param]


def disturbed(family: VAE, channels: int = 3) -> VAE:
    adapter = family.build(channels).eval()
    adapter.prepare(torch.randn(200, channels).cumsum(0))
    for parameter in adapter.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return adapter


# ---------------------------------------------------------------------------------------------------- the latent law


@pytest.mark.parametrize("family", [VAE(), VAE(depth=1, hidden=8, latent_channels=2)])
def test_divergence_is_analytic_and_equals_its_monte_carlo_estimate(family: VAE) -> None:
    vae = disturbed(family)
    past = torch.randn(4, 12, 3)
    z, state = vae.encode(past, draws=4000)  # (M, B, L, K)
    mean, scale = state.drawn["mean"], state.drawn["log_scale"].exp()
    exact = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0)).sum((-2, -1))
    assert_close(vae.divergence(state), exact, rtol=1e-4, atol=1e-4)
    ratio = (Normal(mean, scale).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum((-2, -1))  # (M, B)
    error = ratio.std(0) / math.sqrt(len(z))
    assert ((ratio.mean(0) - exact).abs() < 4 * error).all()
    assert (error < 0.02 * exact).all()


def test_draws_have_the_law_that_the_encoder_says() -> None:
    vae = disturbed(VAE())
    past = torch.randn(3, 9, 3)
    z, state = vae.encode(past, draws=20000)
    mean, scale = state.drawn["mean"], state.drawn["log_scale"].exp()
    assert ((z.mean(0) - mean) / scale).abs().max() < 5 / math.sqrt(20000)
    assert_close(z.std(0), scale.expand_as(mean), rtol=0.04, atol=0)


def test_a_draw_serves_all_windows_in_forecasting_and_one_in_training() -> None:
    vae = VAE(latent_scale=0.5).build(3)
    past = torch.randn(1, 9, 3).expand(4, -1, -1)
    z, _ = vae.eval().encode(past, draws=7)
    assert torch.equal(z, z[:, :1].expand_as(z))
    assert not torch.equal(z[0], z[1])
    z, _ = vae.train().encode(past)
    assert z.shape == (1, 4, 9, 3)
    assert len(z[0].unique(dim=0)) == 4


def test_latent_targets_are_means_of_any_length() -> None:
    vae = disturbed(VAE())
    past = torch.randn(3, 9, 3)
    _, state = vae.encode(past, draws=5)
    torch.testing.assert_close(vae.encode_future(past, state), state.drawn["mean"])
    assert vae.encode_future(torch.randn(3, 4, 3), state).shape == (3, 4, 3)


def test_it_starts_near_the_frozen_model() -> None:
    past = torch.randn(6, 50, 4).cumsum(1)
    for family in (VAE(), VAE(depth=2)):
        vae = family.build(4).eval()
        z, state = vae.encode(past, draws=200)
        decoded = (vae.decode(z, state) - state.location) / state.scale
        assert_close(decoded.std(0).mean(), torch.tensor(0.05), rtol=0.05, atol=0)
        assert_close(decoded.mean(0), (past - state.location) / state.scale, rtol=0, atol=0.025)


# ---------------------------------------------------------------------------------------------------- its sisters


@pytest.mark.parametrize("latent_channels", [None, 2])
def test_without_noise_and_divergence_it_is_linear_step_by_step(latent_channels: int | None) -> None:
    r"""beta = 0 and zero noise: the same forecasts and the same gradient steps as Linear's."""
    model = SeasonalModel(season=6, prediction_length=5)
    rows, past, future = torch.randn(200, 3).cumsum(0), torch.randn(8, 24, 3).cumsum(1), torch.randn(8, 5, 3)
    vae = VAE(beta=0.0, latent_scale=0.0, latent_channels=latent_channels, noise_scale="fixed").build(3).train()
    linear = Linear(latent_channels=latent_channels).build(3)
    for adapter in (vae, linear):
        adapter.prepare(rows)

    def step(adapter: AdapterModule) -> Tensor:
        z, state = adapter.encode(past)
        median = model(z[0].mT.flatten(0, 1), 5)[:, model.median_index].unflatten(0, (8, -1)).mT
        forecast = adapter.decode(median.unsqueeze(0), state)
        law = adapter.likelihood(forecast, state) or Normal(
            forecast, (state.scale.square() + LEAST_NOISE**2).sqrt().expand_as(forecast)
        )
        loss = -law.log_prob(future).sum() + adapter.beta * adapter.divergence(state).sum()
        free = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
        grads = torch.autograd.grad(loss, free, allow_unused=True)
        for parameter, grad in zip(free, grads, strict=True):
            if grad is not None:
                parameter.data -= 0.01 * grad / (1 + grad.norm())
        return forecast.detach()

    linear.beta = 0.0
    for _ in range(5):
        assert_close(step(vae), step(linear), rtol=1e-4, atol=1e-4)
    latents = linear.latents
    assert_close(vae.encoder.weight.data[:latents].mT, linear.encoder.data, rtol=1e-3, atol=1e-5)
    assert_close(vae.decoder.weight.data.mT, linear.decoder.data, rtol=1e-3, atol=1e-5)
    assert linear.encoder.abs().max() > 1e-3


@pytest.mark.parametrize("latent_channels", [None, 2])
def test_without_noise_a_deep_one_is_the_autoencoder(latent_channels: int | None) -> None:
    options = {"latent_channels": latent_channels, "hidden": 8, "depth": 2}
    vae, sister = disturbed(VAE(beta=0.0, latent_scale=0.0, **options)), Autoencoder(**options).build(3).eval()
    state = vae.state_dict()
    for name, tensor in sister.state_dict().items():  # the mean is the first half of what its encoder says
        tensor.copy_(state[name][: len(tensor)])
    past = torch.randn(4, 20, 3)
    z, own = vae.encode(past, draws=20)
    same, other = sister.encode(past)
    assert_close(z, same)
    assert_close(vae.decode(z, own), sister.decode(z, other))
    assert (z - (past - own.location) / own.scale @ vae.directions).abs().max() > 0.1


# ---------------------------------------------------------------------------------------------------- the targets' law


def test_the_noise_is_a_share_of_the_windows_scale() -> None:
    past = torch.randn(4, 30, 3) * torch.tensor([0.5, 2.0, 10.0]).sqrt()
    prediction = torch.randn(6, 4, 5, 3)
    for noise in ("gaussian", "student-t"):
        vae = VAE(noise=noise, sigma=0.5, noise_scale="fixed", freedom=7.0).build(3)
        _, state = vae.encode(past)
        law = vae.likelihood(prediction, state)
        assert law.batch_shape == prediction.shape
        expected = (0.25 * state.scale.square() + LEAST_NOISE**2).sqrt()
        assert_close(law.scale, expected.expand_as(prediction))
        assert_close(law.mean, prediction)
        if noise == "student-t":
            assert_close(law.variance, (expected.square() * 7 / 5).expand_as(prediction))
        assert not vae.log_sigma.requires_grad


def test_learned_noise_finds_the_scale_and_the_tails() -> None:
    r"""Maximum likelihood of the global scale, and of the degrees of freedom, on residuals of a known law."""
    past = torch.randn(400, 30, 2)
    for noise in ("gaussian", "student-t"):
        vae = VAE(noise=noise, freedom=None).build(2)
        _, state = vae.encode(past)
        truth = torch.distributions.StudentT(4.0) if noise == "student-t" else Normal(0.0, 1.0)
        drawn = truth.sample((400, 20, 2)) * torch.tensor([0.4, 1.7]) * state.scale
        free = [vae.log_sigma] + ([vae.log_freedom] if noise == "student-t" else [])
        optimiser = torch.optim.LBFGS(free, max_iter=60, line_search_fn="strong_wolfe")

        def loss(vae: VAE = vae, drawn: Tensor = drawn, state: State = state, optimiser=optimiser) -> Tensor:
            optimiser.zero_grad()
            value = -vae.likelihood(torch.zeros(1, 400, 20, 2), state).log_prob(drawn).mean()
            value.backward(retain_graph=True)
            return value

        optimiser.step(loss)
        assert_close(vae.log_sigma.exp().data, torch.tensor([0.4, 1.7]), rtol=0.06, atol=0)
        if noise == "student-t":
            assert (2 + vae.log_freedom.exp() - 4).abs().max() < 1.0


def test_noise_that_depends_on_the_window_learns_what_calm_is_and_hands_it_to_the_law() -> None:
    r"""Targets are four times as noisy after windows that end in turmoil; `reference_variance` distinguishes them."""
    wild = (torch.arange(300) % 2).float()
    past = torch.randn(300, 60, 2)
    past[:, -12:] *= (1 + 5 * wild)[:, None, None]
    vae = VAE(noise_scale="input").build(2).eval()
    _, state = vae.encode(past)
    future = torch.randn(300, 10, 2) * (0.5 + 1.5 * wild)[:, None, None]
    optimiser = torch.optim.Adam([vae.log_sigma, *vae.noise_head.parameters()], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        (-vae.likelihood(torch.zeros(1, 300, 10, 2), state).log_prob(future).mean()).backward(retain_graph=True)
        optimiser.step()
    scale = vae.reference_variance(past).detach().sqrt()
    assert_close(scale[wild == 1].mean(), torch.tensor(2.0), rtol=0.15, atol=0)
    assert_close(scale[wild == 0].mean(), torch.tensor(0.5), rtol=0.15, atol=0)
    constant = torch.full((1, 60, 2), 3.0)
    assert not vae.reference_variance(constant).any()
    assert_close(VAE().build(2).reference_variance(past), window_moments(past)[1][:, 0])


# ---------------------------------------------------------------------------------------------------- the bound


def test_the_objective_bounds_the_evidence_where_that_is_known() -> None:
    r"""One step, y = z + noise, z ~ N(0, 1): at the posterior the bound is log N(y; 0, 1 + sigma^2), elsewhere less."""
    sigma, y = 0.7, torch.tensor(1.3)
    evidence = Normal(0.0, math.sqrt(1 + sigma**2)).log_prob(y)

    def bound(mean: Tensor, log_scale: Tensor) -> Tensor:
        vae = VAE(beta=1.0).build(1)
        state = State(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
        state.drawn = {"mean": mean.view(1, 1, 1), "log_scale": log_scale.view(1, 1, 1)}
        z = Normal(mean, log_scale.exp()).sample((200000,))
        return Normal(z, sigma).log_prob(y).mean() - vae.beta * vae.divergence(state)[0].detach()

    scale = torch.tensor(sigma**2 / (1 + sigma**2)).sqrt()
    assert_close(bound(y / (1 + sigma**2), scale.log()), evidence, rtol=0, atol=0.01)
    assert bound(y, scale.log()) < evidence - 0.05
    assert bound(y / (1 + sigma**2), torch.tensor(0.0)) < evidence - 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": -1}, "depth to be an integer of at least 0"),
        ({"hidden": 0}, "hidden to be a positive integer"),
        ({"beta": -1}, "beta to be 0 or a number from 1e-6 to 1e6, got -1"),
        ({"latent_scale": -1}, "latent_scale to be 0 or a number from 1e-6 to 1e6, got -1"),
        ({"latent_scale": 0}, "latent_scale=0 has .* beta=0, got beta=0.001: pass beta=0"),
        ({"noise": "cauchy"}, "known: gaussian, student-t"),
        ({"noise_scale": "learnt"}, "did you mean 'learned'"),
        ({"freedom": 2}, "freedom to be a number above 2 and at most 1e6 or None"),
        ({"sigma": float("nan")}, "sigma to be"),
        ({"latent_channels": 1.5}, "latent_channels to be"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(**options)

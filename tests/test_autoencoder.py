r"""Autoencoders: they start as the frozen model, and unbend what no linear adapter can."""

from __future__ import annotations

import math

import pytest
import torch
from test_linear import HORIZON, LENGTH, Oscillator, cut, error, forecast

from adapts.adapters import AdapterModule, Autoencoder, Identity, Linear, Projection
from adapts.adapters.autoencoder import perceptron
from adapts.testing.families import AdapterConformance

VARIANTS = {
    "all": Autoencoder(),
    "to two": Autoencoder(latent_channels=2, hidden=5, depth=2),
    "relu": Autoencoder(activation="relu", hidden=3),
    "train statistics": Autoencoder(normalisation="train"),
}


class TestAutoencoder(AdapterConformance):
    @pytest.fixture(params=VARIANTS)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return VARIANTS[request.param]


def test_it_starts_as_the_pca_adapter() -> None:
    rows, past = torch.randn(300, 5) @ torch.randn(5, 5), torch.randn(4, 40, 5).cumsum(1)
    rows = rows - rows.mean(0)
    ours, theirs = Autoencoder(latent_channels=2).build(channels=5), Projection(latent_channels=2).build(channels=5)
    for adapter in (ours, theirs):
        adapter.prepare(rows)
    (z, state), (expected, _) = ours.encode(past), theirs.encode(past)
    torch.testing.assert_close(z, expected, atol=1e-4, rtol=1e-4)
    paths = torch.randn(3, 4, 6, 2)
    torch.testing.assert_close(ours.decode(paths, state), theirs.decode(paths, state), atol=1e-4, rtol=1e-4)


def test_a_perceptron_has_the_layers_that_were_asked_for_and_gives_zero() -> None:
    network = perceptron([4, 8, 8, 2], "tanh")
    assert [type(layer).__name__ for layer in network] == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert not network(torch.randn(3, 4)).any()
    assert network[0].weight.any()


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="no activation is called 'rleu'.*did you mean 'relu'"):
        Autoencoder(activation="rleu")
    with pytest.raises(ValueError, match="hidden to be a positive integer, got 0"):
        Autoencoder(hidden=0)
    with pytest.raises(ValueError, match=r"depth to be a positive integer, got 1\.5"):
        Autoencoder(depth=1.5)


def train(adapter: AdapterModule, model: Oscillator, rows: torch.Tensor, steps: int = 100) -> AdapterModule:
    adapter.prepare(rows)
    optimiser = torch.optim.Adam(adapter.parameters(), lr=0.02)
    for _ in range(steps):
        past, future = cut(rows, torch.randint(LENGTH, len(rows) - HORIZON, (32,)))
        loss = (forecast(adapter, model, past) - future).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimiser.step()
    return adapter


def bent() -> torch.Tensor:
    r"""Two sinusoids, the second bent by the first: no linear mixture of the channels is one sinusoid alone."""
    angle = 2 * math.pi * torch.arange(2000.0)[:, None] / torch.tensor([11.0, 24.0])
    one, other = (math.sqrt(2) * angle.sin()).unbind(-1)
    return torch.stack([one, (other + 0.5 * (one.square() - 1)) / math.sqrt(1.5)], -1)


def test_it_unbends_a_mixture_that_no_linear_adapter_can() -> None:
    rows, model = bent(), Oscillator(HORIZON)
    past, future = cut(rows, torch.arange(1600, 1980, 7))
    nonlinear = train(Autoencoder(normalisation="train", hidden=32).build(channels=2), model, rows[:1500])
    linear = train(Linear(normalisation="train").build(channels=2), model, rows[:1500])
    frozen = error(Identity().build(channels=2), model, past, future)
    assert error(linear, model, past, future) > 0.3 * frozen
    assert error(nonlinear, model, past, future) < 0.02 * frozen

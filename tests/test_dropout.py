r"""Monte Carlo dropout: a draw of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapts.adapters import AdapterModule, Dropout, Linear
from adapts.testing.families import AdapterConformance

FAMILIES = {
    "both": Dropout(),
    "encoder": Dropout(where="encoder"),
    "decoder": Dropout(where="decoder", p=0.4),
    "to two": Dropout(latent_channels=2),
    "no dropping": Dropout(p=0.0),
    "train statistics": Dropout(normalisation="train"),
}


class TestDropout(AdapterConformance):
    @pytest.fixture(params=FAMILIES)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return FAMILIES[request.param]


class TestWholeWeights(AdapterConformance):
    starts_as_identity = False  # whole channels fall from the start

    @pytest.fixture(params=["both", "decoder"])
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return Dropout(drops="weights", where=request.param)


def trained(family: Dropout | Linear, channels: int = 4) -> Dropout | Linear:
    r"""The family with corrections as if it was trained; the same for each."""
    adapter = family.build(channels).eval()
    generator = torch.Generator().manual_seed(0)
    adapter.prepare(torch.randn(100, channels, generator=generator).cumsum(0))
    adapter.encoder.data = torch.randn(adapter.encoder.shape, generator=generator)
    adapter.decoder.data = torch.randn(adapter.decoder.shape, generator=generator)
    return adapter


def forecasts(adapter: AdapterModule, past: Tensor, draws: int, seed: int = 0) -> Tensor:
    r"""Each draw's decoded latents of the last eight steps, (M, B, 8, D)."""
    z, state = adapter.encode(past, draws=draws, generator=torch.Generator().manual_seed(seed))
    return adapter.decode(z[:, :, -8:].expand(state.draws, -1, -1, -1), state)


@pytest.mark.parametrize("drops", ["corrections", "weights"])
@pytest.mark.parametrize("latent_channels", [None, 2])
def test_nothing_dropped_is_linear(drops: str, latent_channels: int | None) -> None:
    past = torch.randn(5, 30, 4).cumsum(1)
    dropout = trained(Dropout(p=0.0, drops=drops, latent_channels=latent_channels))
    linear = trained(Linear(latent_channels=latent_channels))
    for mode in (True, False):
        z, state = dropout.train(mode).encode(past, draws=20)
        expected, linear_state = linear.encode(past)
        assert state.draws == 1
        assert torch.equal(z, expected)
        assert torch.equal(dropout.decode(z, state), linear.decode(z, linear_state))


@pytest.mark.parametrize("drops", ["corrections", "weights"])
def test_mean_and_variance_of_the_draws_are_known(drops: str) -> None:
    p, past = 0.3, torch.randn(2, 20, 4)
    dropout = trained(Dropout(where="encoder", drops=drops, p=p))
    z, state = dropout.encode(past, draws=20000, generator=torch.Generator().manual_seed(1))
    x = (past - state.location) / state.scale
    whole = dropout.directions + dropout.encoder
    falling = whole if drops == "weights" else dropout.encoder
    variance = p / (1 - p) * x.square() @ falling.square()
    assert ((z.mean(0) - x @ whole) / (variance / len(z)).sqrt()).abs().max() < 5
    assert_close(z.var(0), variance, rtol=0.06, atol=1e-3)


def test_a_draw_holds_for_all_steps_and_in_forecasting_for_all_windows() -> None:
    dropout = trained(Dropout(where="encoder"))
    past = torch.randn(1, 10, 4).expand(60, -1, -1)  # one window, sixty times
    z, _ = dropout.encode(past, draws=50)
    assert z.shape == (50, 60, 10, 4)
    assert torch.equal(z, z[:, :1].expand_as(z))
    assert len(z[:, 0].unique(dim=0)) > 3
    z, state = dropout.train().encode(past)
    assert z.shape == (1, 60, 10, 4)
    assert len(z[0].unique(dim=0)) > 3  # in training each window has its own
    x = ((past - state.location) / state.scale)[0]
    for row, mask in zip(z[0], state.drawn["encoder"][0], strict=True):
        assert_close(row, x @ (dropout.directions + mask.mT * dropout.encoder), rtol=1e-5, atol=1e-5)


def test_a_dropping_decoder_needs_one_frozen_pass() -> None:
    past = torch.randn(3, 30, 4)
    dropout = trained(Dropout(where="decoder", p=0.4))
    assert dropout.capabilities.stochastic
    assert not dropout.capabilities.stochastic_latents
    z, state = dropout.encode(past, draws=20)
    assert len(z) == 1
    assert state.draws == 20
    decoded = dropout.decode(z.expand(20, -1, -1, -1), state)
    assert len(decoded.unique(dim=0)) > 1
    linear = trained(Linear())
    same, linear_state = linear.encode(past)
    assert_close(z, same)
    for draw in range(20):  # each is Linear with rows of its decoder gone
        mask = state.drawn["decoder"][draw, 0]
        linear.decoder.data = dropout.decoder * mask.mT
        assert_close(decoded[draw], linear.decode(z, linear_state)[0], rtol=1e-5, atol=1e-5)


def test_untrained_draws_are_the_frozen_model_unless_whole_weights_fall() -> None:
    past = torch.randn(3, 30, 4).cumsum(1)
    draws = forecasts(Dropout(p=0.5).build(4).eval(), past, 20)
    assert_close(draws, past[:, -8:].expand_as(draws), rtol=1e-4, atol=1e-4)
    draws = forecasts(Dropout(p=0.5, drops="weights").build(4).eval(), past, 20)
    assert (draws - past[:, -8:]).abs().max() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 1.0}, "p to be a probability below 1, got 1.0"),
        ({"p": -0.1}, "p to be a probability"),
        ({"p": True}, "p to be a number, got True"),
        ({"p": "a lot"}, "p to be a probability"),
        ({"where": "decodr"}, "did you mean 'decoder'"),
        ({"drops": "rows"}, "known: corrections, weights"),
        ({"latent_channels": 0}, "latent_channels to be a positive integer"),
        ({"normalisation": "none"}, "known: window, train"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dropout(**options)

r"""Pairs of surrogates: they give the channels back, and start as the sign-flip ensemble."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor

from adapts.adapters import AdapterModule, State, Weave
from adapts.data.panel import Panel
from adapts.data.splits import split_panel
from adapts.data.windows import Windows, split_windows
from adapts.foundation import load_foundation_model
from adapts.prediction.marginals import MarginalPredictor
from adapts.testing.families import AdapterConformance
from adapts.testing.rows import degenerate_rows
from adapts.testing.tiny import tiny_chronos_bolt

VARIANTS = {
    "mlp": Weave(),
    "conv": Weave(network="conv", hidden=5),
    "train statistics": Weave(normalisation="train"),
}


class TestWeave(AdapterConformance):
    starts_as_identity = False  # two latent channels each: what it starts as has tests of its own

    @pytest.fixture(params=VARIANTS)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return VARIANTS[request.param]


def shaken(weave: Weave, channels: int = 3) -> Weave:
    built = weave.build(channels)
    for parameter in built.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return built


def windows(rows: np.ndarray) -> Windows:
    panel = Panel.of(rows)
    return split_windows(
        panel, split_panel(panel)["train"], context_length=40, prediction_length=11, max_windows=12
    )  # fmt: skip


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("normalisation", ["window", "train"])
def test_at_the_start_each_level_is_that_of_the_sign_flip_ensemble(network: str, normalisation: str) -> None:
    model = load_foundation_model(tiny_chronos_bolt(), device="cpu")
    cut = windows(np.random.default_rng(0).standard_normal((400, 3)).cumsum(0))
    weave = Weave(network=network, normalisation=normalisation).build(channels=3)
    weave.prepare(torch.randn(100, 3))
    unbounded = torch.full((3,), -torch.inf), torch.full((3,), torch.inf)
    pipeline = MarginalPredictor(weave.eval(), model, unbounded, batch_size=5, seed=0)
    law = pipeline.adapted(cut, pipeline.zero_shot(cut))

    def quantiles(past: Tensor) -> Tensor:
        return model.predict(past.mT.flatten(0, 1), 11).unflatten(0, (-1, 3)).permute(0, 3, 1, 2)  # (n, H, D, Q)

    positive, negative = quantiles(cut.past()), quantiles(-cut.past())
    size = float(positive.abs().max())
    expected = (positive - negative.flip(-1)) / 2  # F_tau(X) - F_(1 - tau)(-X)
    for number, level in enumerate(model.quantile_levels):
        found = law(torch.full(expected.shape[:-1], level)[None])[0]
        torch.testing.assert_close(found, expected[..., number], rtol=0, atol=1e-4 * size)
        assert not torch.allclose(found, positive[..., number], atol=0.02 * size)  # the model takes sides


def test_where_the_frozen_model_takes_no_side_it_starts_as_that() -> None:
    model, cut = SeasonalModel(), windows(np.random.default_rng(0).standard_normal((400, 3)))
    unbounded = torch.full((3,), -torch.inf), torch.full((3,), torch.inf)
    pipeline = MarginalPredictor(Weave().build(channels=3).eval(), model, unbounded, batch_size=5, seed=0)
    frozen = pipeline.zero_shot(cut)
    law = pipeline.adapted(cut, frozen)
    torch.testing.assert_close(law.values, frozen.values, atol=1e-4, rtol=0)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_surrogates_give_the_channels_back_whatever_the_weights(network: str) -> None:
    weave, x = shaken(Weave(network=network)), torch.randn(4, 40, 3)
    z, state = weave.encode(x)
    assert z.shape == (1, 4, 40, 6)
    torch.testing.assert_close(weave.decode(z, state)[0], x, atol=1e-5, rtol=1e-5)
    a, b = weave.log_a.exp(), weave.log_b.exp()
    normal = (x - state.location) / state.scale
    woven = z[0, ..., :3] - a * normal  # the same f in both, and a function of all channels
    torch.testing.assert_close(z[0, ..., 3:], -b * normal + woven, atol=1e-5, rtol=1e-5)
    other = x.clone()
    other[..., 2] += torch.randn(4, 40)
    assert not torch.allclose(weave.encode(other)[0][..., 0], z[..., 0], atol=1e-3)


def test_levels_of_the_pair_run_against_each_other() -> None:
    levels = Weave().build(channels=2).latent_levels(torch.tensor([[0.1, 0.3], [0.5, 0.9]]))
    torch.testing.assert_close(levels, torch.tensor([[0.1, 0.3, 0.9, 0.7], [0.5, 0.9, 0.5, 0.1]]))
    weave = shaken(Weave(), 2)  # whatever the weights, a higher level is a higher forecast
    _, state = weave.encode(torch.randn(3, 20, 2))
    latent = torch.linspace(-1, 1, 9)[:, None, None, None].expand(-1, 3, 5, 4).clone()
    latent[..., 2:] *= -1
    assert (weave.decode(latent, state).diff(dim=0) > 0).all()


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_surrogates_of_the_future_follow_those_of_the_past(network: str) -> None:
    weave = shaken(Weave(network=network, normalisation="train"))
    x = torch.randn(4, 50, 3)
    _, state = weave.encode(x[:, :40])
    whole = weave.encode(x)[0][0]
    torch.testing.assert_close(weave.encode_future(x[:, 40:], state), whole[:, 40:], atol=1e-5, rtol=1e-5)
    gap = x[:, 40:].clone()
    gap[1, 3, 0] = torch.nan
    z = weave.encode_future(gap, state)
    assert z[1, 3].isnan().all() and int(z.isnan().sum()) == 6
    past_alone = weave.encode(x[:, :40])[0][0]
    torch.testing.assert_close(past_alone, whole[:, :40], atol=1e-5, rtol=1e-5)  # nothing looks ahead


# ---------------------------------------------------------------------------------------------------- the penalty


def penalised(weave: Weave, past: Tensor, future: Tensor, latent: Tensor, raw: Tensor) -> tuple[Tensor, State]:
    _, state = weave.encode(past)
    state.forecast = raw
    return weave.penalty(latent[None], future, state), state


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_penalty_equals_its_formula(network: str) -> None:
    weave = shaken(Weave(network=network, regularisation=0.7))
    past, future, raw = torch.randn(6, 40, 3), torch.randn(6, 8, 3), torch.randn(6, 8, 3)
    latent = torch.randn(6, 8, 6)
    penalty, state = penalised(weave, past, future, latent, raw)
    errors = (latent - weave.encode_future(future, state)).square().mean((0, 1))
    first, second = errors[:3], errors[3:]
    alone = ((raw - future) / state.scale).square().mean((0, 1))
    a, b = weave.log_a.exp(), weave.log_b.exp()
    terms = [
        (first[d] + second[d]) / 2 + max(2 * (first[d] + second[d]) / (a[d] + b[d]) ** 2, alone[d]) for d in range(3)
    ]
    torch.testing.assert_close(penalty, 0.7 * sum(terms) / 3)
    # the quotient bounds the squared error of what is decoded
    decoded = weave.decode(latent[None], state)[0]
    mse = ((decoded - future) / state.scale).square().mean((0, 1))
    assert (mse <= 2 * (first + second) / (a + b) ** 2 + 1e-5).all()


def test_penalty_forbids_the_collapse_that_its_first_term_rewards() -> None:
    past, model = torch.randn(16, 48, 3), SeasonalModel()
    future = torch.randn(16, 24, 3)
    raw = model.predict(past.mT.flatten(0, 1), 24)[:, 4].unflatten(0, (16, 3)).mT

    def loss(size: float) -> tuple[float, float]:
        weave = Weave().build(channels=3)
        weave.log_a.data += np.log(size)
        weave.log_b.data += np.log(size)
        z, _ = weave.encode(past)
        latent = model.predict(z[0].mT.flatten(0, 1), 24)[:, 4].unflatten(0, (16, 6)).mT
        penalty, state = penalised(weave, past, future, latent, raw)
        return float(penalty.detach()), float((latent - weave.encode_future(future, state)).detach().square().mean())

    (small, easy), (start, hard) = loss(0.1), loss(1.0)
    assert easy < 0.02 * hard  # small surrogates are easy ...
    assert 0.4 * start < small < start  # ... but what the channels lose by them is counted, down to what l_orig allows
    twisted = Weave().build(channels=3)  # surrogates that the frozen model follows worse cost more
    torch.nn.init.normal_(twisted.weaver[-1].weight)
    z, _ = twisted.encode(past)
    latent = model.predict(z[0].mT.flatten(0, 1), 24)[:, 4].unflatten(0, (16, 6)).mT
    assert penalised(twisted, past, future, latent, raw)[0] > start


@pytest.mark.parametrize("name", degenerate_rows(8))
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_penalty_has_finite_gradients(network: str, name: str) -> None:
    weave = shaken(Weave(network=network, normalisation="window")).train()
    past, future = torch.randn(4, 40, 3), torch.randn(4, 8, 3)
    past[1, :, 0] = degenerate_rows(40)[name]
    past[2] = degenerate_rows(40)[name].unsqueeze(-1)
    future[0, 2, 1], future[3] = torch.nan, torch.nan
    model = load_foundation_model(tiny_chronos_bolt(), device="cpu")
    z, state = weave.encode(past)
    latent = model(z[0].mT.flatten(0, 1), 8, unroll="median")[:, 4].unflatten(0, (4, 6)).mT
    state.forecast = model.predict(past.mT.flatten(0, 1), 8)[:, 4].unflatten(0, (4, 3)).mT
    penalty = weave.penalty(latent[None], future, state)
    assert penalty.isfinite()
    penalty.backward()
    for parameter in weave.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="no network of Weave is called 'cnn'"):
        Weave(network="cnn")
    with pytest.raises(ValueError, match="hidden to be a positive integer"):
        Weave(hidden=0)
    with pytest.raises(ValueError, match="regularisation to be a number from 0 to 1e6"):
        Weave(regularisation=-1.0)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_weights_of_its_networks_are_counted(network: str) -> None:
    weave = Weave(network=network).build(channels=7)
    matrices = [weight for weight in weave.weaver.parameters() if weight.ndim > 1]
    assert weave._count_weights(7) == sum(weight.numel() for weight in matrices)

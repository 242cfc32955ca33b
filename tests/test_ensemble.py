r"""Ensembles: each draw is a member; one pass or in turn, the numbers are the same."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor, nn
from torch.distributions import Normal
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import AdapterModule, Ensemble, RegressionData, State, make
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.testing.families import AdapterConformance
from adapts.training.module import AdapterTraining
from adapts.training.module import train as fit

FAMILIES = {
    "linear": Ensemble(member="linear", members=3),
    "linear to two": Ensemble(member="linear", members=2, member_options={"latent_channels": 2}),
    "linear decoder": Ensemble(member="linear", members=3, member_options={"free": "decoder"}),
    "residual": Ensemble(member="residual", members=3, member_options={"lags": 4}),
    "identity": Ensemble(member="identity", members=1),
    "random": Ensemble(member="projection", members=2, member_options={"method": "random"}),
    "one": Ensemble(member="linear", members=1),
    "dropout": Ensemble(member="dropout", members=2, member_options={"p": 0.3}),
    "dropout decoder": Ensemble(member="dropout", members=2, member_options={"p": 0.3, "where": "decoder"}),
    "vae": Ensemble(member="vae", members=2, member_options={"noise": "student-t", "depth": 1, "hidden": 8}),
    "in turn": Ensemble(member="vae", members=2, vectorised=False),
}

TRAINED = ["linear", "linear to two", "dropout", "dropout decoder", "vae"]


class TestEnsemble(AdapterConformance):
    starts_as_identity = False  # all members but the first start a little beside it

    @pytest.fixture(params=FAMILIES)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return FAMILIES[request.param]


def built(family: AdapterModule, channels: int = 3) -> AdapterModule:
    torch.manual_seed(4)
    adapter = family.build(channels).eval()
    adapter.prepare(torch.randn(200, channels, generator=torch.Generator().manual_seed(0)).cumsum(0))
    return adapter


def windows(count: int = 6, length: int = 24, channels: int = 3) -> Tensor:
    past = torch.randn(count, length, channels).cumsum(1)
    past[0, 3:5, 1] = torch.nan
    past[1] = 2.0
    return past


def forecast(adapter: AdapterModule, past: Tensor, draws: int = 1, seed: int = 0) -> tuple[Tensor, State]:
    r"""Median forecasts of a frozen model, decoded: (M, B, H, D)."""
    model = SeasonalModel(season=6, prediction_length=5)
    z, state = adapter.encode(past, draws=draws, generator=torch.Generator().manual_seed(seed))
    quantiles = model(z.mT.flatten(0, 2), 5)
    median = quantiles[:, model.median_index].reshape(*z.shape[:2], -1, 5).mT
    state.forecast = past[:, -1:].nan_to_num().expand(-1, 5, -1)
    return adapter.decode(median.expand(state.draws, -1, -1, -1), state), state


def loss_of(adapter: AdapterModule, past: Tensor, future: Tensor) -> Tensor:
    r"""The mean over the draws of each one's loss, all that a family can be asked for in it."""
    prediction, state = forecast(adapter, past)
    law = adapter.likelihood(prediction, state) or Normal(prediction, 1.0)
    loss = -law.log_prob(future).mean() + 0.01 * adapter.divergence(state).mean() + adapter.weight_divergence()
    assert isinstance(loss, Tensor)
    return loss


def train(adapter: AdapterModule, past: Tensor, future: Tensor, steps: int = 8, share: int = 1) -> None:
    torch.manual_seed(3)
    adapter.train()
    free = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(free, lr=0.02 * share)
    for _ in range(steps):
        optimiser.zero_grad()
        loss_of(adapter, past, future).backward()
        optimiser.step()
    adapter.eval()


def regression_data(count: int = 240) -> RegressionData:
    past = torch.randn(count, 24, 3)
    median = torch.randn(count, 5, 3)
    future = median @ (torch.eye(3) + 0.3 * torch.randn(3, 3)) + past[:, -1:] + 0.3 * torch.randn(count, 5, 3)
    fold = torch.arange(count) * 5 // count
    fold[::48] = -1
    return RegressionData(past, future, median, fold)


# ---------------------------------------------------------------------------------------------------- one, or several


@pytest.mark.parametrize("name", ["identity", "projection", "linear", "dropout", "vae", "residual"])
def test_an_ensemble_of_one_is_its_member(name: str) -> None:
    past, future, solved = windows(), torch.randn(6, 5, 3), regression_data()
    one, member = built(Ensemble(member=name, members=1)), built(make(name))
    for adapter in (one, member):
        if adapter.capabilities.closed_form:
            adapter.solve(solved, choose=True)
            adapter.solve(solved, choose=False)
        elif any(parameter.requires_grad for parameter in adapter.parameters()):
            train(adapter, past, future)
    for draws in (1, 6):
        (ours, state), (theirs, own) = (forecast(adapter, past, draws) for adapter in (one, member))
        assert state.draws == own.draws
        assert_close(ours, theirs)
        assert_close(one.divergence(state), member.divergence(own))
        assert_close(one.encode_future(future, state), member.encode_future(future, own))
    assert_close(one.reference_variance(past), member.reference_variance(past))
    for declared in ("latents", "objective", "beta"):
        assert getattr(one, declared) == getattr(member, declared), declared
    names = dict.fromkeys(("found_later", "undecayed", "of_likelihood"), ())  # these bear the prefixes of members
    assert replace(one.capabilities, **names) == replace(member.capabilities, **names)


def bayesian(guide: str, base: str = "linear", sites: str = "decoder*", **options: object) -> dict[str, object]:
    return {"base": base, "sites": sites, "guide": guide, "base_options": options}


MEMBERS: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in ("projection", "linear", "autoencoder", "vae", "weave", "residual")},
    "dropout": ("dropout", {"p": 0.2}),
    "flow": ("flow", {}),
    "decoder in closed form": ("linear", {"free": "decoder"}),
    "exact": ("bayesian", {}),
    "mean field": ("bayesian", bayesian("mean-field")),
    "low rank": ("bayesian", bayesian("low-rank", sites="*")),
    "laplace": ("bayesian", bayesian("laplace", free="decoder")),
    "laplace behind a trained encoder": ("bayesian", bayesian("laplace")),
    "laplace of encoders": ("bayesian", bayesian("laplace", sites="encoder")),
    "mean field of a weave": ("bayesian", bayesian("mean-field", "weave", "log_a")),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_an_ensemble_of_one_is_fitted_as_its_member(name: str) -> None:
    if name == "flow":
        pytest.importorskip("zuko")
    member, options = MEMBERS[name]
    generator = np.random.default_rng(0)
    rows = np.sin(np.arange(500)[:, None] / 4 + np.arange(2)) + 0.3 * generator.standard_normal((500, 2)).cumsum(0)
    rows[generator.random(rows.shape) < 0.02] = np.nan
    results = []
    for family in (make(member, options), Ensemble(member=member, members=1, member_options=options)):
        trained = not family.capabilities.closed_form and member != "projection"
        adapter = Adapter(
            family, foundation_model=SeasonalModel(), prediction_length=4, context_length=24, max_windows=40,
            gate=False, trainer_options={"max_epochs": 2, "enable_progress_bar": False} if trained else None,
        ).fit(rows[:450])  # fmt: skip
        before = adapter.predict()
        results.append((before, adapter.update(rows[450:]).predict()))
        assert trained == ("by gradient" in adapter.summary().stages.get("train", ""))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one.samples, other.samples, rtol=1e-3, atol=1e-3)
        for part in ("posterior", "noise", "total"):
            parts = one.variance_parts()[part], other.variance_parts()[part]
            np.testing.assert_allclose(*parts, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("free", ["decoder", "both"])
def test_every_member_has_the_posterior_of_its_own_latents(free: str) -> None:
    problem = regression_data()

    def through(z: Tensor) -> Tensor:  # a frozen model that repeats the last steps
        return z[:, -5:]

    options = bayesian("laplace", free=free)
    ensemble = built(Ensemble(member="bayesian", members=3, member_options=options, distance=0.3))
    assert isinstance(ensemble, Ensemble)
    alone = copy.deepcopy(ensemble.built_members)
    medians = [through(member.encode(problem.past)[0][0]) for member in alone]
    if free == "both":
        with pytest.raises(ValueError, match="each member has its own latent channels"):
            ensemble.after_training(problem)
    ensemble.after_training(replace(problem, forecast=medians[0].detach()), through)
    for number, (member, other) in enumerate(zip(ensemble.built_members, alone, strict=True)):
        other.after_training(replace(problem, forecast=medians[number].detach()), through)
        assert member.capabilities.stochastic
        assert_close(member.state_dict(), other.state_dict(), rtol=1e-3, atol=1e-4)
    assert ensemble.count_draws(20) == 18


def test_members_are_penalised_for_their_own_surrogates() -> None:
    past, future = windows(), torch.randn(6, 5, 3)
    ensemble = built(Ensemble(member="weave", members=2))
    assert isinstance(ensemble, Ensemble)
    z, state = ensemble.encode(past)
    state.forecast = torch.randn(6, 5, 3)
    medians = torch.randn(2, 6, 5, 6)
    each = []
    for member, own in zip(ensemble.built_members, medians, strict=True):
        _, alone = member.encode(past)
        alone.forecast = state.forecast
        each.append(member.penalty(own[None], future, alone))
    assert_close(ensemble.penalty(medians, future, state), torch.stack(each).mean())
    assert not built(Ensemble(member="weave", member_options={"regularisation": 0.0})).capabilities.penalised


def test_what_has_a_prior_of_its_own_is_not_decayed_in_members() -> None:
    options = bayesian("mean-field")
    ensemble = built(Ensemble(member="bayesian", members=2, member_options=options))
    kept = {name for name, _ in ensemble.named_parameters() if name.startswith(ensemble.capabilities.undecayed)}
    assert kept == {name for name, _ in ensemble.named_parameters() if ".posterior." in name} != set()


@pytest.mark.parametrize("name", TRAINED)
def test_one_pass_equals_members_in_turn(name: str) -> None:
    r"""Forecasts, losses and gradients, with the same draws; then as many steps of training."""
    past, future = windows(), torch.randn(6, 5, 3)
    options = FAMILIES[name].options()
    together, in_turn = (built(Ensemble(**{**options, "vectorised": way})) for way in (True, False))
    results = []
    for adapter in (together, in_turn):
        torch.manual_seed(1)
        adapter.train()
        prediction, state = forecast(adapter, past)
        loss = loss_of(adapter, past, future)
        loss.backward()
        results.append((prediction, loss, adapter.divergence(state), [p.grad for p in adapter.parameters()]))
        adapter.zero_grad()
        train(adapter, past, future)
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert_close(together.state_dict(), in_turn.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "linear to two"])
def test_trained_together_equals_each_trained_alone(name: str) -> None:
    past, future = windows(), torch.randn(6, 5, 3)
    ensemble = built(FAMILIES[name])
    assert isinstance(ensemble, Ensemble)
    alone = copy.deepcopy(ensemble.built_members)
    train(ensemble, past, future, share=ensemble.members)  # its loss is the members' mean
    for member, other in zip(ensemble.built_members, alone, strict=True):
        before = copy.deepcopy(other.state_dict())
        train(other, past, future)
        assert_close(member.state_dict(), other.state_dict(), rtol=1e-4, atol=1e-5)
        assert any(
            not torch.equal(old, new) for old, new in zip(before.values(), other.state_dict().values(), strict=True)
        )


def test_draw_m_is_member_m() -> None:
    past = windows()
    for name in ("linear", "linear to two"):
        ensemble = built(FAMILIES[name])
        assert isinstance(ensemble, Ensemble)
        decoded, state = forecast(ensemble, past, draws=20)
        assert state.draws == ensemble.members
        assert len(decoded.unique(dim=0)) == ensemble.members
        for number, member in enumerate(ensemble.built_members):
            assert_close(decoded[number], forecast(member, past)[0][0])


@pytest.mark.parametrize(
    ("name", "asked", "draws"), [("linear", 20, 3), ("dropout", 20, 20), ("vae", 5, 4), ("vae", 1, 2)]
)
def test_members_share_the_draws_out(name: str, asked: int, draws: int) -> None:
    ensemble = built(FAMILIES[name])
    assert ensemble.count_draws(asked) == draws
    assert len(ensemble.encode(windows(), draws=asked)[0]) == draws


def test_members_with_gains_of_their_own_normalise_for_themselves() -> None:
    past = windows()
    ensemble = built(Ensemble(members=3, member_options={"affine": True}, distance=0.3))
    assert isinstance(ensemble, Ensemble)
    gains = torch.stack([member.log_gain for member in ensemble.built_members])
    assert (gains[1:] != 0).all()
    past[0] = torch.randn(24, 3)  # missing cells are filled as the first member sees them
    for mode in (True, False):
        decoded, _ = forecast(ensemble.train(mode), past)
        for number, member in enumerate(ensemble.built_members):
            assert_close(decoded[number], forecast(member, past)[0][0], rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("name", ["linear decoder", "residual"])
def test_closed_form_members_differ_by_the_blocks_they_saw_and_need_one_pass(name: str) -> None:
    ensemble, problem = built(FAMILIES[name]), regression_data()
    assert isinstance(ensemble, Ensemble)
    for choose in (True, False):  # no folds are told where nothing is chosen
        ensemble.solve(problem if choose else replace(problem, fold=torch.empty(0)), choose=choose)
        assert not ensemble.capabilities.stochastic_latents
        decoded, _ = forecast(ensemble, windows())
        assert len(decoded.unique(dim=0)) == 3
        assert decoded.isfinite().all()
    ensemble.solve(problem, choose=True)
    again = copy.deepcopy(ensemble.state_dict())
    ensemble.solve(problem, choose=True)
    assert_close(ensemble.state_dict(), again, rtol=0, atol=0)


def test_the_spread_of_bootstrapped_members_is_the_standard_error() -> None:
    r"""A decoder regressed on independent windows: its members scatter as its estimate would."""
    count, scatter, errors = 400, [], []
    for _ in range(12):
        past, median = torch.randn(count, 24, 2), torch.randn(count, 4, 2)
        ensemble = Ensemble(members=24, member_options={"free": "decoder"}).build(2)
        _, state = ensemble.encode(past)
        future = (median + torch.randn(count, 4, 2)) * state.scale + state.location
        fold = torch.arange(count) * 5 // count
        for member in ensemble.built_members:
            member.strength.fill_(0.0)  # least squares
        ensemble.solve(RegressionData(past, future, median, fold), choose=False)
        weights = torch.stack([member.decoder.data for member in ensemble.built_members])
        scatter.append(weights.var(0))
        errors.append(weights[0].square())
    expected = 1 / (4 * count)  # the variance of a least squares coefficient
    assert_close(torch.stack(scatter).mean(), torch.tensor(expected), rtol=0.25, atol=0)


def test_a_few_windows_or_one_fold_are_no_trouble() -> None:
    for count, folds in ((3, 1), (8, 2), (30, 1)):
        whole = regression_data()
        fold = torch.arange(count) * folds // count
        part = RegressionData(whole.past[:count], whole.future[:count], whole.forecast[:count], fold)
        for name in ("linear decoder", "residual"):
            ensemble = built(FAMILIES[name])
            ensemble.solve(part, choose=True)
            ensemble.solve(part, choose=False)
            assert forecast(ensemble, windows())[0].isfinite().all()


# ---------------------------------------------------------------------------------------------------- the rest


def test_random_projections_have_seeds_of_their_own() -> None:
    options = {"method": "random", "latent_channels": 2}
    ensemble, past = built(Ensemble(member="projection", members=3, member_options={**options, "seed": 7})), windows()
    assert isinstance(ensemble, Ensemble)
    decoded, state = forecast(ensemble, past)
    assert state.draws == 3
    assert ensemble.capabilities.stochastic_latents
    for number in range(3):
        assert_close(decoded[number], forecast(built(make("projection", {**options, "seed": 7 + number})), past)[0][0])
    assert len(decoded.unique(dim=0)) == 3


def test_what_is_saved_restores_every_member() -> None:
    past, problem = windows(), regression_data()
    for name in ("linear", "linear decoder", "residual", "vae"):
        ensemble = built(FAMILIES[name])
        if ensemble.capabilities.closed_form:
            ensemble.solve(problem, choose=True)
        options = json.loads(json.dumps(ensemble.options()))
        again = make("ensemble", options).build(3).eval()
        again.load_state_dict({key: tensor.clone() for key, tensor in ensemble.state_dict().items()})
        assert torch.equal(forecast(again, past, draws=4)[0], forecast(ensemble, past, draws=4)[0])


def test_members_of_a_recipe_are_of_its_family_with_its_options() -> None:
    ensemble = Ensemble(member="pca", member_options={"latent_channels": 2})
    assert ensemble.member == "projection"
    assert ensemble.member_options == {"method": "pca", "latent_channels": 2}
    assert make("ensemble", ensemble.options()).options() == ensemble.options()


def test_options_are_the_ensembles_own_and_show_in_one_line() -> None:
    options = {"free": "decoder"}
    ensemble = Ensemble(member_options=options)
    options["free"] = "both"
    assert ensemble.capabilities.closed_form
    assert Ensemble().member_options == {}
    assert Ensemble(member_options=None).member_options == {}
    assert repr(Ensemble(members=2)) == (
        "Ensemble(member='linear', members=2, member_options={}, distance=0.02, vectorised=True)"
    )


def test_a_family_that_cannot_be_stacked_is_taken_in_turn() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2.0 * x if bool((x > 0).any()) else 1.0 * x

    past, future = windows(), torch.randn(6, 5, 3)
    results = []
    for way in (True, False):
        ensemble = built(Ensemble(member="autoencoder", members=2, vectorised=way))
        assert isinstance(ensemble, Ensemble)
        for member in ensemble.built_members:
            member.encoder.append(Branching())
        train(ensemble, past, future)
        results.append(ensemble.state_dict())
    assert_close(results[0], results[1], rtol=0, atol=0)


class Noting(nn.Module):
    r"""Notes whether all members passed together while training."""

    def __init__(self, together: set[bool]) -> None:
        super().__init__()
        self.together = together

    def __deepcopy__(self, memo: dict[int, object]) -> Noting:
        return Noting(self.together)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.together.add(torch._C._functorch.is_batchedtensor(x))
        return x


def test_members_are_trained_in_one_pass() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 2)).cumsum(0)
    windows = Windows(Panel.of(rows), np.zeros(40, int), np.arange(24, 64), 24, 5)
    ensemble, together = Ensemble(member="autoencoder", members=2).build(2).eval(), set[bool]()
    assert isinstance(ensemble, Ensemble)
    for member in ensemble.built_members:
        member.encoder.append(Noting(together))
    training = AdapterTraining(ensemble, SeasonalModel(season=6, prediction_length=5))
    options = {"max_epochs": 1, "enable_progress_bar": False}
    fit(training, windows, windows, batch_size=16, seed=0, options=options)
    assert together == {True}


def test_flows_are_taken_in_turn() -> None:
    pytest.importorskip("zuko")
    past, future = windows(), torch.randn(6, 5, 3)
    results = []
    for way in (True, False):
        ensemble = built(Ensemble(member="flow", members=2, vectorised=way))
        train(ensemble, past, future, steps=2)
        results.append(ensemble.state_dict())
    assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0}, "members to be a positive integer, got 0"),
        ({"members": 2.0}, "members to be a positive integer"),
        ({"member": "linaer"}, "did you mean 'linear'"),
        ({"member": "ensemble"}, "pass more members instead"),
        ({"member": "auto"}, "a member of one family, got member='auto'"),
        ({"member": make("vae", {"depth": 1})}, r"pass member='vae', member_options=\{'depth': 1\}"),
        ({"member": None}, "member to be the name of a family, such as 'linear', got None"),
        ({"member_options": {"fre": "both"}}, "no option of Linear is called 'fre'"),
        ({"member_options": 3}, "member_options to be a mapping"),
        ({"distance": -1.0}, "distance to be a number"),
        ({"vectorised": "yes"}, "vectorised to be True or False"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ensemble(**options)

r"""Portfolios: what they average, how weights are selected, what a fit makes of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import Portfolio, Residual
from adapts.calibration.selection import forward_selection
from adapts.distribution.quantile_function import QuantileFunction
from adapts.fitting.context import FitOptions, begin
from adapts.fitting.state import FitState
from adapts.fitting.train_members import before_split, train_members
from adapts.notices import FitWarning
from adapts.testing.families import AdapterConformance

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
NORMAL = torch.special.ndtri(torch.tensor(LEVELS))
SMALL: dict[str, Any] = {"attention": {"steps": 8, "width": 16, "heads": 2, "embedding": 4}}
ROSTER: dict[str, dict[str, Any]] = {
    "default": {"member_options": SMALL},
    "closed forms": {"members": ["residual", "residual"]},
    "one": {"members": ["attention"]},
}


class TestPortfolio(AdapterConformance):
    @pytest.fixture(params=ROSTER)
    def family(self, request: pytest.FixtureRequest) -> Portfolio:
        return Portfolio(**ROSTER[request.param])

    @pytest.fixture
    def adapter(self, family: Portfolio) -> Portfolio:
        adapter = family.build(self.channels)
        adapter.prepare(torch.randn(200, self.channels) @ torch.randn(self.channels, self.channels))
        adapter.weights.fill_(1 / len(adapter.weights))
        return adapter.eval()


# ------------------------------------------------------------------------------------------------- selection of weights


def marginals(mean: Tensor, scale: float = 1.0) -> QuantileFunction:
    return QuantileFunction(LEVELS, mean.unsqueeze(-1) + scale * NORMAL)


def outcomes(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    r"""Targets that are the sum of two signals and noise, and the signals."""
    generator = torch.Generator().manual_seed(seed)
    first, second, noise = (torch.randn(200, 6, 3, generator=generator) for _ in range(3))
    return first + second + noise, first, second


def test_all_weight_goes_to_the_one_that_is_right() -> None:
    y, first, second = outcomes()
    right = first + second
    weights = forward_selection([marginals(torch.zeros_like(y)), marginals(right), marginals(5 + right)], y)
    assert torch.equal(weights, torch.tensor([0.0, 1.0, 0.0]))


def test_the_average_of_the_selected_is_no_worse_than_the_best() -> None:
    y, first, second = outcomes()
    candidates = [marginals(torch.zeros_like(y)), marginals(2 * first), marginals(2 * second), marginals(2 * first + 9)]
    weights = forward_selection(candidates, y)
    assert_close(weights.sum(), torch.tensor(1.0))
    assert weights[1] > 0.3 and weights[2] > 0.3 and weights[3] == 0

    def loss(values: Tensor) -> float:
        error = y.unsqueeze(-1) - values
        levels = torch.tensor(LEVELS)
        return float(torch.maximum(levels * error, (levels - 1) * error).mean())

    average = sum(float(weight) * candidate.values for weight, candidate in zip(weights, candidates, strict=True))
    assert isinstance(average, Tensor)
    assert loss(average) < min(loss(candidate.values) for candidate in candidates)


def test_a_candidate_may_get_less_than_half_where_halves_are_worse() -> None:
    y, first, second = outcomes()
    noise = y - first - second
    candidates = [marginals(y - noise, 0.2), marginals(y + 4 * noise, 0.2)]  # halves err by 1.5 times the noise
    assert_close(forward_selection(candidates, y), torch.tensor([0.8, 0.2]), atol=0.051, rtol=0)


def test_missing_targets_and_equal_candidates() -> None:
    y, first, second = outcomes()
    y[3], y[4, :2, 1] = torch.nan, torch.nan
    candidate = marginals(first + second)
    assert torch.equal(forward_selection([candidate, candidate], y), torch.tensor([1.0, 0.0]))


def test_units_of_channels_do_not_matter() -> None:
    y, first, second = outcomes()
    units = torch.tensor([1.0, 100.0, 0.01])
    candidates = [marginals(2 * first), marginals(2 * second)]
    scaled = [QuantileFunction(LEVELS, each.values * units[:, None]) for each in candidates]
    assert torch.equal(forward_selection(candidates, y), forward_selection(scaled, y * units))


# ------------------------------------------------------------------------------------------------- the family


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": []}, "1 to 16 names of families"),
        ({"members": "residual"}, "1 to 16 names of families"),
        ({"members": ["residuel"]}, "no adapter is called 'residuel'.*did you mean 'residual'"),
        ({"members": ["linear"]}, "that keep the observed channels, such as residual and attention, got 'linear'"),
        ({"members": ["bayesian"]}, "deterministic members.*got 'bayesian'"),
        ({"member_options": {"linear": {}}}, "options by the name of a member"),
        ({"members": ["residual"], "shares": [1.0]}, "shares to be 2 non-negative numbers with the sum 1, of the froz"),
        ({"members": ["residual"], "shares": [0.5, 0.6]}, r"sum 1, of the frozen model, residual; got \[0.5, 0.6\]"),
        ({"members": ["residual"], "shares": [-1, 2]}, "non-negative numbers"),
        ({"members": ["residual"], "shares": "10"}, "non-negative numbers"),
    ],
)
def test_wrong_members_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Portfolio(**options)


def test_quantiles_are_averaged_with_the_weights() -> None:
    torch.manual_seed(0)
    portfolio = Portfolio(members=["attention", "attention"], member_options=SMALL).build(3).eval()
    for parameter in portfolio.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    past = torch.randn(5, 20, 3)
    quantiles = past[:, -1:, :, None] + torch.tensor([-1.0, 0.0, 1.0]).expand(5, 6, 3, 3)
    portfolio.weights.copy_(torch.tensor([0.25, 0.75, 0.0]))
    _, state = portfolio.encode(past)
    state.quantiles = quantiles
    paths = quantiles.movedim(-1, 0)
    first = portfolio.built_members[0].decode(paths, state)
    assert_close(portfolio.decode(paths, state), 0.25 * paths + 0.75 * first)


def test_members_with_one_name_start_apart() -> None:
    first, second = Portfolio(members=["attention", "attention"], member_options=SMALL).build(3).built_members
    assert not torch.equal(
        dict(first.named_parameters())["input.weight"], dict(second.named_parameters())["input.weight"]
    )


# ------------------------------------------------------------------------------------------------- a fit


def lead_lag(rows: int = 900, seed: int = 0) -> np.ndarray:
    r"""The second channel repeats the first, six steps later."""
    first = np.random.default_rng(seed).standard_normal(rows + 6)
    return np.stack([first[6:], first[:-6]], 1)


def fitted(family: Any, rows: np.ndarray, **options: Any) -> Adapter:
    return Adapter(
        family, foundation_model=SeasonalModel(), prediction_length=6, context_length=24,
        trainer_options={"enable_progress_bar": False}, **options,
    ).fit(rows)  # fmt: skip


def test_a_portfolio_of_one_closed_form_is_that_family() -> None:
    rows = lead_lag()
    portfolio, alone = fitted(Portfolio(members=["residual"]), rows), fitted(Residual(), rows)
    module = portfolio.fitted_.module
    assert isinstance(module, Portfolio) and module.capabilities.closed_form
    assert float(module.weights[1]) == 1.0
    np.testing.assert_array_equal(portfolio.predict().samples, alone.predict().samples)


def test_given_shares_are_the_weights_and_no_member_without_one_is_fitted() -> None:
    family = Portfolio(members=["residual", "attention"], member_options=SMALL, shares=[0.25, 0.75, 0.0])
    adapter, alone = fitted(family, lead_lag(), gate=False), fitted(Residual(), lead_lag(), gate=False)
    module, stages = adapter.fitted_.module, adapter.summary().stages
    assert isinstance(module, Portfolio) and module.weights.tolist() == [0.25, 0.75, 0.0]
    assert stages["train"] == "given weights: 0.25 the frozen model, 0.75 residual; attention left out: its share is 0"
    assert "weights" not in stages
    assert_close(module.state_dict()["stack.0.weights"], alone.fitted_.module.state_dict()["weights"])
    again = module.with_its_weights
    assert again.options() == {**family.options(), "shares": (0.25, 0.75, 0.0)} and not again.built_members


def test_the_summary_lists_members_and_two_fits_save_the_same_bytes(tmp_path: Any) -> None:
    adapters = [fitted(Portfolio(members=["residual"]), lead_lag()) for _ in range(2)]
    for number, adapter in enumerate(adapters):
        (member,) = adapter.summary().members
        assert member["family"] == "residual" and member["weight"] == 1.0 and member["seconds"] > 0
        assert f"member residual: weight 1.00, gain alone {100 * member['gain']:+.1f} %, " in str(adapter.summary())
        adapter.save(tmp_path / str(number))
    for name in ("config.json", "adapter.safetensors"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    (loaded,) = Adapter.load(tmp_path / "0", foundation_model=SeasonalModel()).summary().members
    assert loaded == {**adapters[0].summary().members[0], "seconds": None}


def test_networks_are_left_out_where_train_windows_are_few() -> None:
    adapter = fitted(Portfolio(member_options=SMALL), lead_lag(900)[:, :2], max_windows=30)
    module = adapter.fitted_.module
    assert isinstance(module, Portfolio) and not module.weights[4:].any()
    assert "attention left out: an effective sample size of" in adapter.fitted_.decisions["train"].reason


def test_a_network_with_a_given_share_is_trained_however_few_the_windows_are() -> None:
    family = Portfolio(members=["residual", "attention"], member_options=SMALL, shares=[0.0, 0.25, 0.75])
    adapter = fitted(family, lead_lag(), gate=False, max_windows=20)
    module = adapter.fitted_.module
    assert isinstance(module, Portfolio) and module.weights.tolist() == [0.0, 0.25, 0.75]
    assert float(module.built_members[1].state_dict()["output.weight"].abs().max()) > 0  # zero before training


def test_a_time_limit_that_changes_given_shares_is_announced() -> None:
    family = Portfolio(members=["residual", "context"], shares=[0.5, 0.25, 0.25])
    adapter = Adapter(family, foundation_model=SeasonalModel(), prediction_length=6, context_length=24, gate=False)
    with pytest.warns(FitWarning, match="leaves no time for 2 members of the portfolio: the forecast is the frozen"):
        adapter.fit(lead_lag(), time_limit=1e-3)
    assert "time" in [notice.kind for notice in adapter.predict().notices]  # type: ignore[union-attr]


def test_a_fit_says_weights_and_gains_and_survives_a_save(tmp_path: Any) -> None:
    adapter = fitted(Portfolio(members=["residual", "attention"], member_options=SMALL), lead_lag())
    decision = adapter.fitted_.decisions["train"]
    assert "% gain" in decision.reason and "weight of member 0" in decision.figures
    module, selected = adapter.fitted_.module, adapter.fitted_.decisions["weights"]
    assert isinstance(module, Portfolio) and "on validation and calibration windows" in selected.reason
    assert [selected.figures[f"weight of member {n}"] for n in (0, 1)] == pytest.approx(module.weights[1:].tolist())
    adapter.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel())
    np.testing.assert_array_equal(again.predict().samples, adapter.predict().samples)


def test_an_update_solves_closed_forms_again_and_leaves_networks() -> None:
    rows = lead_lag(1000)
    adapter = fitted(Portfolio(members=["residual", "attention"], member_options=SMALL), rows[:900], gate=False)
    before = copy.deepcopy(adapter.fitted_.module.state_dict())
    adapter.update(rows[900:])
    after = adapter.fitted_.module.state_dict()
    assert not torch.equal(before["stack.0.weights"], after["stack.0.weights"])
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("stack.1."))


def test_the_frozen_model_is_no_member() -> None:
    with pytest.raises(ValueError, match="Portfolio holds the frozen model beside its members: leave out 'identity'"):
        Portfolio(members=["residual", "identity"])


def test_a_closed_form_is_scored_on_a_split_as_solved_on_all_before_it() -> None:
    fit = fitted(Portfolio(members=["residual"]), lead_lag(), gate=False)
    options = FitOptions(None, 24, 6, None, fit.fitted_.support, fit.get_params(deep=False))
    module = Portfolio(members=["residual"]).build(2)
    context, begun = begin(fit.fitted_.panel, module, SeasonalModel(), options, checkpoint_dir=None)
    state = FitState.of(context, context.prepared(begun))
    train_members(state, module)
    (member,) = module.built_members
    before = copy.deepcopy(member.state_dict())
    assert before_split(state, module, 0, "validation") is member
    scored = before_split(state, module, 0, "calibration")
    alone = replace(state, fitted=replace(state.fitted, module=member))
    by_hand = copy.deepcopy(member)
    by_hand.solve(alone.regression_data(["train", "validation"], torch.empty(0)), choose=False)
    assert_close(scored.state_dict(), by_hand.state_dict())
    assert not torch.equal(scored.weights, member.weights)
    assert_close(member.state_dict(), before)  # the member itself stays as it is


@pytest.mark.parametrize("members", [["residual", "var"], ["var", "residual"], ["context", "residual"]])
def test_a_closed_form_without_a_share_is_never_solved(members: list[str]) -> None:
    rows = lead_lag(1000)
    fit = fitted(Portfolio(members=members, shares=[0.0, 1.0, 0.0]), rows[:940])
    alone = fitted(Portfolio(members=members[:1], shares=[0.0, 1.0]), rows[:940])
    np.testing.assert_allclose(fit.predict().samples, alone.predict().samples, rtol=1e-5, atol=1e-5)
    fit.update(rows[940:])
    assert np.isfinite(fit.predict().samples).all()
    assert not fit.fitted_.module.built_members[1].weights.numel()


def test_a_portfolio_is_no_member() -> None:
    with pytest.raises(ValueError, match="got 'auto': leave it out"):
        Portfolio(members=["residual", "auto"])

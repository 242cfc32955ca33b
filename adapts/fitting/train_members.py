r"""The members of a portfolio, and their weights."""

from __future__ import annotations

__all__ = ["LEAST_FOR_GRADIENT", "before_split", "refit_members", "train_members", "weights"]

import copy
import time
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..adapters import AdapterModule, FurtherModel, Portfolio
from ..batching import evenly_spaced
from ..calibration.selection import forward_selection
from ..copulas.selection import mean_pinball
from ..distribution.quantile_function import QuantileFunction
from .state import SUBSAMPLE, FitState, Step
from .train_gradient import allows_refit, by_gradient, refitted

#: The effective number of train windows below which members that are trained by gradient are left out.
LEAST_FOR_GRADIENT = 40
#: What checkpoints keep of a member's training, beside its tensors.
_TOLD = ("best_epoch", "stopped", "seconds")


def train_members(state: FitState, portfolio: Portfolio) -> Step:
    r"""Fit each member of a portfolio, and select their weights on the validation windows.

    A member that is trained by gradient is left out if the train windows have an effective sample size below 40, unless
    the option `shares` gives its weight. A member that the time limit leaves no time for is left out. Without any
    validation window, fitted members are weighted equally.

    Arguments:
        state: The fit before this stage.
        portfolio: The portfolio, which is fitted in place.

    Returns:
        What is fitted, and the decision with each member's weight and gain.
    """
    clauses: list[str] = []
    fitted: list[int] = []
    told: dict[str, float] = {}
    seconds: dict[str, float] = {}
    late = 0
    for split in ("train", "validation"):
        if len(state.windows[split]):
            state.zero_shot(split)  # which all members share
    for number, member in enumerate(portfolio.built_members):
        if why := _left_out(state, portfolio, number):
            clauses.append(f"{member.label} left out: {why}")
            late += why == str(state.time_limit)
            continue
        kept = dict(state.context.checkpoints.kept(f"member-{number}", partial(_fitted, state, portfolio, number)))
        best_epoch, stopped, seconds[f"member {number}"] = (float(kept.pop(name)) for name in _TOLD)
        if best_epoch:
            told[f"best epoch of member {number}"] = best_epoch
        if stopped:
            clauses.append(f"training of {member.label} stopped by {state.time_limit}")
        member.load_state_dict(kept)
        member.requires_grad_(False).eval()
        fitted.append(number)
    if portfolio.shares is None:
        reason, chosen = _weigh(state, portfolio, fitted, ["validation"])
    else:
        reason, chosen = _given(portfolio, fitted)
    state = replace(state, fitted=state.fitted.with_seconds(**seconds))
    if late and (portfolio.shares is not None or not fitted):
        told["members without time"] = late
    reason = "; ".join([reason, *clauses])
    return state.with_decision("kept", reason, windows=len(state.windows["train"]), **chosen, **told)


def _left_out(state: FitState, portfolio: Portfolio, number: int) -> str:
    r"""Return why a member is left out; empty if it is fitted."""
    if portfolio.shares is not None and not portfolio.shares[number + 1]:
        return "its share is 0"
    size = state.context.effective_size(state.windows["train"])
    by_gradient_alone = portfolio.shares is None and not portfolio.built_members[number].capabilities.closed_form
    if by_gradient_alone and size < LEAST_FOR_GRADIENT:
        return f"an effective sample size of {size:.0f}, {LEAST_FOR_GRADIENT} is required"
    return str(state.time_limit) if state.time_limit.training_ended else ""


def _given(portfolio: Portfolio, fitted: list[int]) -> tuple[str, dict[str, float]]:
    r"""Set the given weights of the frozen model and of fitted members, with the sum 1; return them as `_weigh`."""
    assert portfolio.shares is not None
    shares = torch.tensor(portfolio.shares, dtype=torch.float32)
    mask = torch.zeros_like(shares)
    mask[torch.tensor([0, *(number + 1 for number in fitted)])] = 1
    shares = shares * mask
    portfolio.weights.copy_(shares / shares.sum() if bool(shares.any()) else torch.eye(len(shares))[0])
    figures = {f"weight of member {number}": float(portfolio.weights[number + 1]) for number in fitted}
    listed = [f"{float(portfolio.weights[0]):.2f} the frozen model"]
    listed += [f"{figures[f'weight of member {n}']:.2f} {portfolio.built_members[n].label}" for n in fitted]
    return f"given weights: {', '.join(listed)}", figures


def weights(state: FitState) -> Step:
    r"""Select the weights of a portfolio once more, on validation and calibration windows together.

    On the validation windows alone, members whose training stops early by these windows look too good. A closed form
    is scored on calibration windows as it is once solved on train and validation windows, like the final refit.

    Arguments:
        state: The fit before this stage.

    Returns:
        What is fitted, and the decision; None for the decision if the family is no portfolio or nothing is added.
    """
    portfolio, figures = state.fitted.module, state.fitted.decisions["train"].figures
    if not isinstance(portfolio, Portfolio) or portfolio.shares is not None or not len(state.windows["calibration"]):
        return state.fitted, None
    if state.time_limit.spent(1.0):
        return state.skip_for_time()
    fitted = [number for number in range(len(portfolio.built_members)) if f"weight of member {number}" in figures]
    splits = [split for split in state.observed_splits if split in ("validation", "calibration")]
    reason, chosen = _weigh(state, portfolio, fitted, splits)
    return state.with_decision("kept", reason, **chosen)


def _weigh(state: FitState, portfolio: Portfolio, fitted: list[int], splits: list[str]) -> tuple[str, dict[str, float]]:
    r"""Select the weights of fitted members on splits; return the choice in words, and weights and gains by name."""
    portfolio.weights.zero_()
    gains: list[float] = []
    if any(len(state.windows[split]) for split in splits):
        selected, gains = _selected(state, portfolio, fitted, splits)
        portfolio.weights[torch.tensor([0, *(number + 1 for number in fitted)])] = selected.to(portfolio.weights)
        reason = f"weights selected on {' and '.join(splits)} windows"
    else:
        portfolio.weights[torch.tensor(fitted or [-1]) + 1] = 1 / max(1, len(fitted))
        reason = "equal weights, as there is no validation window to select on"
    listed, figures = [f"{float(portfolio.weights[0]):.2f} the frozen model"], {}
    for place, number in enumerate(fitted):
        name, weight = portfolio.built_members[number].label, float(portfolio.weights[number + 1])
        figures[f"weight of member {number}"] = weight
        listed.append(f"{weight:.2f} {name}")
        if gains:
            figures[f"gain of member {number}"] = gains[place]
            listed[-1] += f" (alone {100 * gains[place]:+.1f} % gain)"
    return f"{reason}: {', '.join(listed)}", figures


def refit_members(state: FitState, portfolio: Portfolio) -> Step:
    r"""Fit the members with a weight once more, on the windows of all splits.

    Closed forms are solved with the selected strengths, networks trained anew for as many epochs as were best. Members
    that the time limit leaves no time for stay as they are.

    Arguments:
        state: The fit before the stage "refit".
        portfolio: The portfolio, which is fitted in place.

    Returns:
        What is fitted, and the decision.
    """
    figures, splits = state.fitted.decisions["train"].figures, state.observed_splits
    unchanged: list[str] = []
    seconds: dict[str, float] = {}
    for number, member in enumerate(portfolio.built_members):
        if not float(portfolio.weights[number + 1]) or isinstance(member, FurtherModel):
            continue
        if not allows_refit(state, f"member {number}"):
            unchanged.append(member.label)
            continue
        began = time.monotonic()
        if member.capabilities.closed_form:
            alone = replace(state, fitted=replace(state.fitted, module=member))  # the data that this member reads
            member.solve(alone.regression_data(splits, torch.empty(0, dtype=torch.float32)), choose=False)
        elif member.optimisation.refits and (epochs := int(figures.get(f"best epoch of member {number}", 0))):
            compute = partial(refitted, state, member, epochs, f"refit-{number}.ckpt")
            if not (tensors := state.context.checkpoints.kept(f"refit-{number}", compute)):
                unchanged.append(member.label)
                continue
            member.load_state_dict(tensors)
        seconds[f"member {number}"] = time.monotonic() - began
    count = sum(len(state.windows[split]) for split in splits)
    how = "with the selected strengths, networks for the best number of epochs"
    reason = f"refit on the {count} windows of all splits, {how}"
    if unchanged:
        reason += f"; without {', '.join(unchanged)}: {state.time_limit}"
    if not seconds:
        return state.skip_for_time()
    state = replace(state, fitted=state.fitted.with_seconds(**seconds))
    return state.with_decision("kept", reason, windows=count)


def _selected(
    state: FitState, portfolio: Portfolio, fitted: list[int], splits: list[str]
) -> tuple[Tensor, list[float]]:
    r"""Return the weights of the frozen model and of fitted members, and each member's gain alone, on splits."""
    parts: list[list[QuantileFunction]] = []
    futures = []
    for split in splits:
        which = evenly_spaced(len(state.windows[split]), SUBSAMPLE)
        windows = state.windows[split][which]
        zero_shot = state.zero_shot(split)[torch.from_numpy(which)]
        futures.append(state.truth(windows))
        parts.append([state.predictor.observed(windows, zero_shot)])
        for number in fitted:
            predictor = replace(state.predictor, module=before_split(state, portfolio, number, split))
            parts[-1].append(predictor.adapted(windows, zero_shot))
    future = torch.cat(futures)
    candidates = [
        QuantileFunction(part[0].levels, torch.cat([each.values for each in part])) for part in zip(*parts, strict=True)
    ]
    losses = torch.stack([mean_pinball(candidate, future).nanmean((0, 1)) for candidate in candidates])  # (1 + m, D)
    gains = (1 - losses[1:] / torch.where(losses[0] > 0, losses[0], 1.0)).nanmean(1).tolist()
    return forward_selection(candidates, future), gains


@torch.no_grad()
def before_split(state: FitState, portfolio: Portfolio, number: int, split: str) -> AdapterModule:
    r"""Return a member to be scored on a split: a closed form as solved on the windows of all earlier splits.

    Arguments:
        state: The fit.
        portfolio: The portfolio.
        number: The number of the member.
        split: The name of the split.

    Returns:
        The member itself, or a solved copy.
    """
    member, splits = portfolio.built_members[number], state.observed_splits
    earlier = splits[: splits.index(split)]
    fixed = isinstance(member, FurtherModel) or not member.capabilities.closed_form
    if fixed or len(earlier) < 2 or not allows_refit(state, f"member {number}"):
        return member
    solved = copy.deepcopy(member)
    alone = replace(state, fitted=replace(state.fitted, module=solved))
    solved.solve(alone.regression_data(earlier, torch.empty(0, dtype=torch.float32)), choose=False)
    return solved


def _fitted(state: FitState, portfolio: Portfolio, number: int) -> dict[str, Tensor]:
    r"""Fit one member on the train windows; return its tensors, and `_TOLD`."""
    member: AdapterModule = portfolio.built_members[number]
    memory = {name: value for name, value in state.memory.items() if name == "model" or name.startswith("frozen-")}
    told: dict[str, float] = dict.fromkeys(_TOLD, 0.0)
    began = time.monotonic()
    alone = replace(state, fitted=replace(state.fitted, module=member), memory=memory)
    if isinstance(member, FurtherModel):
        for split in ("validation", "calibration"):  # cached: the selection of weights reads them
            alone.predictor.further(alone.windows[split])
    elif member.capabilities.closed_form:
        folds = alone.context.folds(alone.windows["train"])
        member.solve(alone.regression_data(["train"], folds), choose=True)
    else:
        _, decision = by_gradient(alone, f"training-{number}.ckpt")
        assert decision is not None
        told |= {name: decision.figures[name] for name in ("best_epoch", "stopped") if name in decision.figures}
    told["seconds"] = time.monotonic() - began
    tensors = {name: tensor.contiguous() for name, tensor in member.state_dict().items()}
    return tensors | {name: torch.tensor(value, dtype=torch.float64) for name, value in told.items()}

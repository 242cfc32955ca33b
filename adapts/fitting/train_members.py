r"""The members of a portfolio, and their weights."""

from __future__ import annotations

__all__ = ["LEAST_FOR_GRADIENT", "train_members"]

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..adapters import AdapterModule, Portfolio
from ..batching import evenly_spaced
from ..calibration.selection import forward_selection
from ..copulas.selection import mean_pinball
from .state import GRADIENT_WEIGHT, SUBSAMPLE, FitState, Step
from .train_gradient import by_gradient

#: The effective number of train windows below which members that are trained by gradient are left out.
LEAST_FOR_GRADIENT = 40


def train_members(state: FitState, portfolio: Portfolio) -> Step:
    r"""Fit each member of a portfolio, and select their weights on the validation windows.

    A member that is trained by gradient is left out if the train windows have an effective sample size below 40.
    Without enough validation windows to select on, all weight goes to the frozen model.

    Arguments:
        state: The fit before this stage.
        portfolio: The portfolio, which is fitted in place.

    Returns:
        What is fitted, and the decision with each member's weight and gain.
    """
    if skipped := state.skip_unless_enough("train", "train"):
        return skipped
    if skipped := state.skip_unless_enough("train", "validation"):
        return skipped
    windows, clauses = state.windows["train"], []
    size = state.context.effective_size(windows)
    zero_shot = state.zero_shot("validation")
    state.zero_shot("train")  # which all members share
    fitted: list[int] = []
    for number, member in enumerate(portfolio.built_members):
        if not member.capabilities.closed_form and size < LEAST_FOR_GRADIENT:
            clauses.append(
                f"{member.family} left out: an effective sample size of {size:.0f}, {LEAST_FOR_GRADIENT} is required"
            )
            continue
        kept = state.context.checkpoints.kept(f"member-{number}", partial(_fitted, state, portfolio, number))
        member.load_state_dict(kept)
        member.requires_grad_(False).eval()
        fitted.append(number)
    which = evenly_spaced(len(state.windows["validation"]), SUBSAMPLE)
    validation, indices = state.windows["validation"][which], torch.from_numpy(which)
    zero_shot = zero_shot[indices]
    candidates = [state.predictor.observed(validation, zero_shot)]
    for number in fitted:
        predictor = replace(state.predictor, module=portfolio.built_members[number])
        candidates.append(predictor.adapted(validation, zero_shot))
    future = state.truth(validation)
    weights = forward_selection(candidates, future)
    portfolio.weights.zero_()
    portfolio.weights[torch.tensor([0, *(number + 1 for number in fitted)])] = weights.to(portfolio.weights)
    names = ["the frozen model", *(portfolio.built_members[number].family for number in fitted)]
    losses = torch.stack([mean_pinball(candidate, future).nanmean((0, 1)) for candidate in candidates])  # (1 + m, D)
    gains = (1 - losses / torch.where(losses[0] > 0, losses[0], 1.0)).nanmean(1).tolist()
    clauses = [
        f"weights selected on {len(validation)} validation windows: "
        + ", ".join(
            f"{weight:.2f} {name} (alone {100 * gain:+.1f} % gain)" if number else f"{weight:.2f} {name}"
            for number, (weight, name, gain) in enumerate(zip(weights.tolist(), names, gains, strict=True))
        ),
        *clauses,
    ]
    figures = {
        f"{what} of member {number} ({portfolio.built_members[number].family})": float(value)
        for what, values in (("weight", weights[1:].tolist()), ("gain", gains[1:]))
        for number, value in zip(fitted, values, strict=True)
    }
    by_gradients = sum(weight for weight, member in portfolio.active if not member.capabilities.closed_form)
    if by_gradients:
        figures[GRADIENT_WEIGHT] = by_gradients
    return state.with_decision("kept", "; ".join(clauses), windows=len(windows), **figures)


def _fitted(state: FitState, portfolio: Portfolio, number: int) -> dict[str, Tensor]:
    r"""Fit one member on the train windows; return its tensors."""
    member: AdapterModule = portfolio.built_members[number]
    memory = {name: value for name, value in state.memory.items() if name == "model" or name.startswith("frozen-")}
    alone = replace(state, fitted=replace(state.fitted, module=member), memory=memory)
    if member.capabilities.closed_form:
        folds = alone.context.folds(alone.windows["train"])
        member.solve(alone.regression_data(["train"], folds), choose=True)
    else:
        by_gradient(alone, f"training-{number}.ckpt")
    return {name: tensor.contiguous() for name, tensor in member.state_dict().items()}

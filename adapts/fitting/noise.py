r"""Forecasts of train windows by an adapter that was not fitted on them, and the variance that forecasts lack."""

from __future__ import annotations

__all__ = ["crossed", "explained", "foretold", "frozen_alone", "leave_block_out", "missing_variance"]

import copy
from dataclasses import replace

import torch
from torch import Tensor

from ..adapters import RegressionData
from ..calibration.noise import missing_variance_ratio
from ..data.windows import Windows
from ..distribution.quantile_function import QuantileFunction
from .context import evenly, times_of
from .state import SUBSAMPLE, FitState

#: Some windows, the adapter's predictive distribution without noise, and the zero-shot forecast of what it sees.
Untrained = tuple[Windows, QuantileFunction, QuantileFunction]


def frozen_alone(state: FitState) -> bool:
    r"""Whether the predictive distribution is the frozen model's in all channels, as it came."""
    return not state.fitted.head and (state.fitted.module.family == "identity" or state.predictor.closed)


def crossed(state: FitState) -> bool:
    r"""Whether forecasts of train rows are taken of a closed form that did not see them."""
    return _crossable(state) and not frozen_alone(state)


def explained(state: FitState) -> Tensor:
    r"""Returns the channels of which covariates explain a part by slopes that were fitted on the train rows.

    Arguments:
        state: The fit.

    Returns:
        Which these are, with shape :math:`(D,)`.
    """
    effect = state.fitted.effect
    if effect is None:
        return torch.zeros(state.channels, dtype=torch.bool)
    return torch.from_numpy(effect.weights.any(0))  # a ratio has no slopes


def foretold(state: FitState) -> Tensor:
    r"""Returns the channels whose forecasts of train rows are out of sample.

    Arguments:
        state: The fit.

    Returns:
        Which these are, with shape :math:`(D,)`.
    """
    fitted = state.fitted
    if fitted.head:
        return torch.zeros(state.channels, dtype=torch.bool)
    if frozen_alone(state) or crossed(state):
        alone = torch.ones(state.channels, dtype=torch.bool)
    else:
        alone = torch.zeros(state.channels, dtype=torch.bool) if fitted.gate is None else ~fitted.gate.any(0)
    return alone & ~explained(state)


def leave_block_out(state: FitState) -> Untrained:
    r"""Leaves each block of time out of a closed form; computed once.

    Arguments:
        state: The fit, its adapter solved in closed form.

    Returns:
        Some train windows, block by block, with the predictive distribution of the closed form that was solved without
        the block that they lie in, and their zero-shot forecast.
    """
    name = "leave-block-out"
    if name not in state.memory:
        state.memory[name] = _leave_block_out(state)
    found: Untrained = state.memory[name]
    return found


def missing_variance(state: FitState, *splits: str) -> Tensor:
    r"""Estimates the variance that the adapter's predictive distribution lacks, as a share of the windows' own.

    Arguments:
        state: The fit.
        splits: The splits to estimate it on; train windows that the adapter was fitted on are left aside.

    Returns:
        The shares, with shape :math:`(H, D)`; zero for the frozen model itself.
    """
    horizon, predictor = state.context.horizon, state.predictor
    if state.fitted.module.family == "identity":
        return torch.zeros(horizon, state.channels, dtype=torch.float32)
    windows, laws, futures = [], [], []
    for split in splits:
        if split == "train":
            found = _untrained(state)
            if found is None:
                continue
            some, law, _ = found
            future = state.truth(some).masked_fill(explained(state), torch.nan)
        else:
            few = evenly(len(state.windows[split]), SUBSAMPLE)
            some, law = state.windows[split][few], state.both(split)[0][torch.from_numpy(few)]
            future = state.truth(some)
        windows.append(some)
        laws.append(law)
        futures.append(future)
    law = QuantileFunction(laws[0].levels, torch.cat([each.values for each in laws]), predictor.support)
    leads = [-1 if some.preparation.factors is None else horizon for some in windows]
    own = torch.cat([
        predictor.spread(some).expand(len(some), steps, -1) for some, steps in zip(windows, leads, strict=True)
    ])  # fmt: skip
    return missing_variance_ratio(law, torch.cat(futures), own, state.context.blocks, times_of(windows))


def _crossable(state: FitState) -> bool:
    r"""Whether forecasts of train rows can be had of a closed form that did not see them."""
    module = state.fitted.module
    solved = module.closed_form and module.observed_latents and state.fitted.decisions["train"].outcome == "kept"
    return solved and not state.fitted.head


def _untrained(state: FitState) -> Untrained | None:
    r"""Some train windows, and forecasts of an adapter that was not fitted on them; None where it was."""
    module = state.fitted.module
    if _crossable(state):
        return leave_block_out(state)
    trained = state.fitted.decisions["train"]
    if state.fitted.head or module.closed_form or trained.outcome == "skipped" or "epochs" in trained.figures:
        return None
    sampled = state.sampled("train")
    assert sampled is not None, "there is a train window"
    windows, frozen = sampled
    return windows, state.adapted("some-train", windows, frozen), frozen


def _leave_block_out(state: FitState) -> Untrained:
    windows, frozen, predictor = state.windows["train"], state.frozen("train"), state.predictor
    fold = state.context.folds(windows)
    whole = state.regression_data(["train"], fold)
    inside = (fold >= 0).nonzero().flatten()
    few = inside[torch.from_numpy(evenly(len(inside), SUBSAMPLE))]
    order, laws = [], []
    for one in fold[few].unique():
        mine, rest = few[fold[few] == one], (fold >= 0) & (fold != one)
        module = copy.deepcopy(state.fitted.module)
        module.solve(RegressionData(*(x[rest] for x in (whole.past, whole.future, whole.forecast, fold))), choose=False)
        laws.append(replace(predictor, module=module).adapted(windows[mine.numpy()], frozen[mine]))
        order.append(mine)
    chosen = torch.cat(order)
    adapter = QuantileFunction(laws[0].levels, torch.cat([law.values for law in laws]), predictor.support)
    return windows[chosen.numpy()], adapter, frozen[chosen]

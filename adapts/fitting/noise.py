r"""Out-of-sample forecasts of train windows, and the noise variance that forecasts lack."""

from __future__ import annotations

__all__ = ["cross_fitted", "explained", "leave_block_out", "missing_variance", "only_zero_shot", "out_of_sample"]

import copy
from dataclasses import replace

import torch
from torch import Tensor

from ..batching import evenly_spaced
from ..calibration.noise import missing_variance_ratio
from ..copulas.selection import mean_pinball
from ..data.windows import Windows
from ..distribution.quantile_function import QuantileFunction
from ..statistics.ridge import count_folds
from .context import times_of
from .state import SUBSAMPLE, FitState

#: Windows, the adapter's out-of-sample distribution without noise, and the zero-shot forecast of all its channels.
OutOfSample = tuple[Windows, QuantileFunction, QuantileFunction]


def only_zero_shot(state: FitState) -> bool:
    r"""Return whether the predictive distribution is the zero-shot forecast in all channels."""
    return not state.fitted.probed and (state.fitted.module.family == "identity" or state.predictor.closed)


def cross_fitted(state: FitState) -> bool:
    r"""Return whether forecasts of train rows are cross-fitted: a closed form, solved without their block of time."""
    return _can_cross_fit(state) and not only_zero_shot(state)


def explained(state: FitState) -> Tensor:
    r"""Return the channels with a covariate effect whose slopes were fitted on the train rows.

    Arguments:
        state: The fit.

    Returns:
        Whether each channel is one, with shape :math:`(D,)`.
    """
    effect = state.fitted.effect
    if effect is None:
        return torch.zeros(state.channels, dtype=torch.bool)
    return torch.from_numpy(effect.weights.any(0))  # a ratio has no slopes


def out_of_sample(state: FitState) -> Tensor:
    r"""Return the channels with out-of-sample forecasts of the train rows.

    Arguments:
        state: The fit.

    Returns:
        Whether each channel is one, with shape :math:`(D,)`.
    """
    fitted = state.fitted
    if fitted.probed:
        return torch.zeros(state.channels, dtype=torch.bool)
    if only_zero_shot(state) or cross_fitted(state):
        unfitted = torch.ones(state.channels, dtype=torch.bool)
    else:
        unfitted = torch.zeros(state.channels, dtype=torch.bool) if fitted.gate is None else ~fitted.gate.any(0)
    return unfitted & ~explained(state)


def leave_block_out(state: FitState) -> OutOfSample:
    r"""Return out-of-fold forecasts of a closed form, with blocks of time as folds; computed once.

    Arguments:
        state: The fit, its adapter solved in closed form.

    Returns:
        A subsample of the train windows, block by block, with the predictive distribution of the closed form solved
        without their block, and their zero-shot forecast.
    """
    name = "leave-block-out"
    if name not in state.memory:
        state.memory[name] = _leave_block_out(state)
    forecasts: OutOfSample = state.memory[name]
    return forecasts


def missing_variance(state: FitState, *splits: str) -> Tensor:
    r"""Estimate the variance that the adapter's predictive distribution lacks, relative to that of the windows.

    Arguments:
        state: The fit.
        splits: The splits to estimate it on, without train windows that the adapter was fitted on.

    Returns:
        The ratios, with shape :math:`(H, D)`; zero for the family "identity", and in channels where noise of this
        variance does not lower the quantile loss. In rain, for example, errors are no fraction of a dry window's
        variance.
    """
    horizon, predictor = state.context.horizon, state.predictor
    if state.fitted.module.family == "identity":
        return torch.zeros(horizon, state.channels, dtype=torch.float32)
    windows, distributions, futures = [], [], []
    for split in splits:
        if split == "train":
            forecasts = _out_of_sample_forecasts(state)
            if forecasts is None:
                continue
            subsample, distribution, _ = forecasts
            future = state.truth(subsample).masked_fill(explained(state), torch.nan)
        elif len(state.windows[split]):
            indices = evenly_spaced(len(state.windows[split]), SUBSAMPLE)
            subsample = state.windows[split][indices]
            distribution = state.adapted_and_zero_shot(split)[0][torch.from_numpy(indices)]
            future = state.truth(subsample)
        else:
            continue
        windows.append(subsample)
        distributions.append(distribution)
        futures.append(future)
    values = torch.cat([distribution.values for distribution in distributions])
    pooled = QuantileFunction(distributions[0].levels, values, predictor.support)
    steps = [-1 if subsample.preparation.factors is None else horizon for subsample in windows]
    variance = torch.cat([
        predictor.window_variance(subsample).expand(len(subsample), count, -1)
        for subsample, count in zip(windows, steps, strict=True)
    ])  # fmt: skip
    future = torch.cat(futures)
    ratio = missing_variance_ratio(pooled, future, variance, state.context.blocks, times_of(windows))
    before, after = (mean_pinball(law, future).nanmean((0, 1)) for law in (pooled, pooled.add_noise(ratio * variance)))
    return ratio * (after < before)  # (H, D)


def _can_cross_fit(state: FitState) -> bool:
    r"""Return whether the adapter is a closed form that can be solved again without a block of train rows."""
    module = state.fitted.module
    family = module.capabilities
    solved = family.closed_form and family.observed_latents
    return solved and not state.fitted.probed and count_folds(state.context.folds(state.windows["train"])) > 1


def _out_of_sample_forecasts(state: FitState) -> OutOfSample | None:
    r"""Return train windows with forecasts of an adapter not fitted on them; None if it was."""
    module = state.fitted.module
    if _can_cross_fit(state):
        return leave_block_out(state)
    solved = module.capabilities.closed_form
    if state.fitted.probed or solved or state.trained_by_gradient:
        return None
    sampled = state.sampled("train")
    assert sampled is not None, "there is a train window"
    windows, frozen = sampled
    return windows, state.adapted("some-train", windows, frozen), frozen


def _leave_block_out(state: FitState) -> OutOfSample:
    windows, frozen, predictor = state.windows["train"], state.zero_shot("train"), state.predictor
    fold = state.context.folds(windows)
    whole = state.regression_data(["train"], fold)
    inside = (fold >= 0).nonzero().flatten()
    subsample = inside[torch.from_numpy(evenly_spaced(len(inside), SUBSAMPLE))]
    order, distributions = [], []
    for index in fold[subsample].unique():
        held_out, training = subsample[fold[subsample] == index], (fold >= 0) & (fold != index)
        module = copy.deepcopy(state.fitted.module)
        module.solve(whole[training], choose=False)
        distributions.append(replace(predictor, module=module).adapted(windows[held_out.numpy()], frozen[held_out]))
        order.append(held_out)
    selected = torch.cat(order)
    values = torch.cat([distribution.values for distribution in distributions])
    adapter = QuantileFunction(distributions[0].levels, values, predictor.support)
    return windows[selected.numpy()], adapter, frozen[selected]

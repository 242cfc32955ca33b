r"""The cold-start threshold: the number of values above which the frozen model forecasts a channel alone."""

from __future__ import annotations

__all__ = ["few_values"]

from dataclasses import replace

import torch
from torch import Tensor

from ..batching import evenly_spaced
from .state import FitState, Step

#: The maximum number of truncated contexts, each of one channel.
SHORT = 400
#: The minimum effective sample size for choosing the threshold.
LEAST = 2
#: About the number of lengths at which each of these contexts is forecast.
LENGTHS = 10


def few_values(state: FitState) -> Step:
    r"""Choose the cold-start threshold on truncated validation contexts.

    Arguments:
        state: The fit before this stage.

    Returns:
        The fit with the threshold, and the decision.
    """
    cold_start, windows = state.fitted.cold_start, state.windows["validation"]
    if cold_start is None:
        return state.fitted, None
    if skipped := state.skip_unless_enough("few_values", "validation", LEAST):
        return skipped
    if not state.time_limit.allows_series(SHORT * LENGTHS, 0.5):
        return state.skip_for_time()
    width = windows.panel.num_channels  # past covariates too
    subsample = windows[evenly_spaced(len(windows), max(1, SHORT // width))]
    subsample = replace(subsample, preparation=replace(subsample.preparation, imputation=None))
    past, future = (x.mT.flatten(0, 1) for x in (subsample.past(), subsample.future()))
    channel = torch.arange(width).repeat(len(subsample))
    indices = torch.from_numpy(evenly_spaced(len(past), SHORT))
    model, horizon = state.model, state.context.horizon

    def forecast(context: Tensor) -> Tensor:
        return model.predict(context, horizon).mT

    cold_start = cold_start.with_selected_threshold(past[indices], future[indices], channel[indices], forecast)
    _, decision = state.with_decision(
        "kept",
        f"for channels with fewer than {cold_start.threshold} values, correlations of the train rows are used too",
        enough=cold_start.threshold,
    )  # fmt: skip
    return replace(state.fitted, cold_start=cold_start), decision

r"""The number of values from which on the frozen model forecasts a channel alone."""

from __future__ import annotations

__all__ = ["few_values"]

from dataclasses import replace

import torch
from torch import Tensor

from ..batching import evenly_spaced
from .state import FitState, Step

#: The contexts of one channel that are cut short.
SHORT = 400
#: The effective sample size that this choice needs.
LEAST = 2


def few_values(state: FitState) -> Step:
    r"""Finds from how many values on the frozen model forecasts alone, on validation contexts that are cut short.

    Arguments:
        state: The fit before this stage.

    Returns:
        What is fitted, with the cold-start model's threshold, and the decision.
    """
    cold_start, windows = state.fitted.cold_start, state.windows["validation"]
    if cold_start is None:
        return state.fitted, None
    if lacking := state.lacks("few_values", "validation", LEAST):
        return lacking
    width = windows.panel.num_channels  # past covariates too
    some = windows[evenly_spaced(len(windows), max(1, SHORT // width))]
    some = replace(some, preparation=replace(some.preparation, imputation=None))
    past, future = (x.mT.flatten(0, 1) for x in (some.past(), some.future()))
    channel = torch.arange(width).repeat(len(some))
    few = torch.from_numpy(evenly_spaced(len(past), SHORT))
    model, horizon = state.model, state.context.horizon

    def forecast(context: Tensor) -> Tensor:
        return model.predict(context, horizon).mT

    cold_start = cold_start.with_selected_threshold(past[few], future[few], channel[few], forecast)
    _, decision = state.decided(
        "kept", f"of fewer than {cold_start.threshold} values of a channel, the train rows' correlations tell too",
        enough=cold_start.threshold,
    )  # fmt: skip
    return replace(state.fitted, cold_start=cold_start), decision

r"""The distribution of a frozen model that forecasts points."""

from __future__ import annotations

__all__ = ["residuals"]

from dataclasses import replace

from ..batching import evenly_spaced
from ..foundation.point import LEAST, ResidualDistribution, residual_quantiles
from .state import SUBSAMPLE, FitState, Step


def residuals(state: FitState) -> Step:
    r"""Estimate the quantiles of the errors of a frozen model that forecasts points, on the raw channels.

    Arguments:
        state: The fit before this stage. Estimation uses the train windows, which the frozen model has not seen.

    Returns:
        The fit after this stage, and the decision; None for the decision if the model forecasts quantiles.
    """
    model = state.context.model
    if not isinstance(model, ResidualDistribution):
        return state.fitted, None
    if skipped := state.skip_unless_enough("residuals", "train"):
        return skipped
    windows = state.windows["train"]
    windows = windows[evenly_spaced(len(windows), SUBSAMPLE)]
    past, future = windows.past().mT.flatten(0, 1), windows.future().mT.flatten(0, 1)
    quantiles = residual_quantiles(model, past, future)
    if quantiles is None:
        return state.with_decision(
            "skipped", f"left out: a lead has fewer than {LEAST} errors of {model.name}; its intervals are those of a "
            "random walk",
        )  # fmt: skip
    _, decision = state.with_decision(
        "kept",
        f"{model.name} forecasts points: its distribution has the quantiles of its errors by lead, on {len(windows)} "
        "train windows, in units of each context's mean absolute step",
        windows=len(windows),
    )
    return replace(state.fitted, head={"quantiles": quantiles}), decision

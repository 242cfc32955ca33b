r"""The distribution of a frozen model that forecasts points."""

from __future__ import annotations

__all__ = ["residuals"]

from dataclasses import replace

from ..batching import evenly_spaced
from ..foundation.point import LEAST, ResidualDistribution, residual_quantiles
from ..foundation.several import head_prefix
from .state import SUBSAMPLE, FitState, Step


def residuals(state: FitState) -> Step:
    r"""Estimate the quantiles of the errors of a frozen model that forecasts points, on the raw channels.

    Arguments:
        state: The fit before this stage. Estimation uses the train windows, which the frozen model has not seen.

    Returns:
        The fit after this stage, and the decision; None for the decision if the model forecasts quantiles.
    """
    models = [(number, model) for number, model in enumerate(state.context.model.members)
              if isinstance(model, ResidualDistribution)]  # fmt: skip
    if not models:
        return state.fitted, None
    if skipped := state.skip_unless_enough("residuals", "train"):
        return skipped
    windows = state.windows["train"]
    windows = windows[evenly_spaced(len(windows), SUBSAMPLE)]
    past, future = windows.past().mT.flatten(0, 1), windows.future().mT.flatten(0, 1)
    head, clauses = {}, []
    for number, model in models:
        quantiles = residual_quantiles(model, past, future)
        if quantiles is None:
            clauses.append(
                f"a lead has fewer than {LEAST} errors of {model.name}; its intervals are those of a random walk"
            )
            continue
        head[f"{head_prefix(number)}quantiles"] = quantiles
        clauses.append(
            f"{model.name} forecasts points: its distribution has the quantiles of its errors by lead, on "
            f"{len(windows)} train windows, in units of each context's mean absolute step"
        )
    fitted, decision = state.with_decision("kept" if head else "skipped", "; ".join(clauses), windows=len(windows))
    return replace(fitted, head=head), decision

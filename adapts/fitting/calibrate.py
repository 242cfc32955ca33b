r"""Noise, copula and conformal levels, fitted on the calibration rows."""

from __future__ import annotations

__all__ = ["calibration"]

from dataclasses import replace

from ..calibration.recalibration import Recalibration
from ..registry import COPULAS
from ..statistics.bootstrap import effective_sample_size
from .copula import fit_dependence, past_errors
from .noise import missing_variance
from .state import ENOUGH, FitState, Step


def calibration(state: FitState) -> Step:
    r"""Fit the noise, the copula and, with `recalibration="conformal"`, the conformal levels.

    Arguments:
        state: The fit before this stage.

    Returns:
        The fit after this stage, and the decision.
    """
    skipped = state.skip_unless_enough("calibration", "calibration")
    if skipped:
        return _only_dependence(state, skipped)
    windows, clauses = state.windows["calibration"], []
    if not state.predictor.closed:
        noise = missing_variance(state, "train", "validation", "calibration")
        state = state.after(replace(state.fitted, noise=noise))
        clauses.append(f"noise adds {100 * float(noise.mean()):.1f} % of the windows' variance on average")
    fitted = replace(state.fitted, copula=fit_dependence(state))
    clauses.append(f"{state.settings['copula']} copula fitted on {len(windows)} windows")
    if state.settings["recalibration"] == "conformal":
        levels = state.pits(state.predictive("calibration"), windows).values
        fitted = replace(fitted, recalibration=Recalibration.conformal(levels))
        clauses[-1] += ", and conformal levels"
    _, decision = state.with_decision("kept", "; ".join(clauses), windows=len(windows))
    return fitted, decision


def _only_dependence(state: FitState, skipped: Step) -> Step:
    r"""Fit the copula despite too few calibration rows: it also uses other rows, and is shrunk by their number."""
    fitted, decision = skipped
    assert decision is not None
    if state.settings["recalibration"] == "conformal":
        for stages in (fitted.left_out, fitted.declined):
            if "calibration" in stages:
                stages["conformal levels"] = stages["calibration"]
    copula, time = state.settings["copula"], past_errors(state)[1]
    from_rows = copula in COPULAS and not COPULAS[copula].of_errors
    if not from_rows and effective_sample_size(time, state.context.horizon) < ENOUGH:
        return skipped
    where = "the train rows" if from_rows else f"the {len(time)} windows of the splits before the confirmation rows"
    return replace(fitted, copula=fit_dependence(state)), decision.with_clause(f"{copula} copula fitted on {where}")

r"""Noise, copula and levels, fitted on the calibration rows."""

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
    r"""Fits the noise, the copula, and with `recalibration="conformal"` the map of the levels.

    Arguments:
        state: The fit before this stage.

    Returns:
        What is fitted, and the decision.
    """
    lacking = state.lacks("calibration", "calibration")
    if lacking:
        return _dependence_alone(state, lacking)
    windows, said = state.windows["calibration"], []
    if not state.predictor.closed:
        noise = missing_variance(state, "train", "validation", "calibration")
        state = state.after(replace(state.fitted, noise=noise))
        said.append(f"noise adds {100 * float(noise.mean()):.1f} % of the windows' variance on the mean")
    fitted = replace(state.fitted, copula=fit_dependence(state))
    said.append(f"{state.settings['copula']} copula fitted on {len(windows)} windows")
    if state.settings["recalibration"] == "conformal":
        levels = state.pits(state.law("calibration"), windows).values
        fitted = replace(fitted, recalibration=Recalibration.conformal(levels))
        said[-1] += ", and conformal levels"
    _, decision = state.decided("kept", "; ".join(said), windows=len(windows))
    return fitted, decision


def _dependence_alone(state: FitState, lacking: Step) -> Step:
    r"""Fits the copula where calibration rows are too few: it hardly needs them, and it is shrunk by itself."""
    fitted, decision = lacking
    assert decision is not None
    named, time = state.settings["copula"], past_errors(state)[1]
    of_rows = named in COPULAS and not COPULAS[named].of_errors
    if not of_rows and effective_sample_size(time, state.context.horizon) < ENOUGH:
        return lacking
    where = "the train rows" if of_rows else (
        f"the {len(time)} windows of all parts before the confirmation rows"
    )  # fmt: skip
    return replace(fitted, copula=fit_dependence(state)), decision.and_then(f"{named} copula fitted on {where}")

r"""Tails, recalibration, joint bands, and the copula that is kept."""

from __future__ import annotations

__all__ = ["confirmation"]

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..batching import evenly_spaced
from ..calibration.joint_bands import JointBands, least_tail_scale
from ..calibration.recalibration import Recalibration
from ..calibration.tails import Tails
from ..copulas.independent import Independent
from ..data.splits import SPLITS
from ..data.times import Times
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..prediction.predictor import recalibrated
from ..statistics.bootstrap import effective_sample_size
from .calibrate import calibration
from .context import times_of
from .copula import choose_dependence, correlations_tell, fit_dependence, past_errors
from .decision import Decision
from .fitted import Fitted
from .gate import revalidated
from .noise import crossed, foretold, frozen_alone, leave_block_out
from .state import ENOUGH, SUBSAMPLE, FitState, Outcomes, Step


def confirmation(state: FitState) -> Step:
    r"""Decides on what was fitted on earlier rows, and fits what needs forecasts of all splits.

    The gate is closed where later rows speak against it, and then calibration is repeated. Tails, the map of the levels
    and joint bands are fitted on out-of-sample forecasts of all splits; the copula is chosen on the confirmation rows.

    Arguments:
        state: The fit before this stage.

    Returns:
        What is fitted, and the decision.
    """
    reclosed = revalidated(state)
    if reclosed is not None:
        state = state.after(reclosed)
        fitted, decision = calibration(state)
        state = state.after(fitted.deciding("calibration", decision))
    state, said = _recalibrated(state)
    fitted, lacking = state.fitted, None
    if state.settings["copula"] != "independent":
        lacking = state.lacks("confirmation", "confirmation")
        fitted, clauses = _copula(state, lacking)
        said += clauses
    reason = "; ".join(said) or "nothing to confirm"
    return fitted, Decision("kept" if lacking is None else "skipped", reason)


def _recalibrated(state: FitState) -> tuple[FitState, list[str]]:
    r"""Fits tails, the map of the levels and joint bands, where windows are enough; and what was decided, in words."""
    automatic = state.settings["recalibration"] == "auto"
    said: list[str] = []
    told = _out_of_sample(state)
    if not told or effective_sample_size(time := times_of([some for some, _ in told]), state.context.horizon) < ENOUGH:
        if automatic:
            left = {**state.fitted.left_out, "recalibration": "the windows of all parts are too few"}
            state = state.after(replace(state.fitted, left_out=left))
        return state, said
    if automatic:
        told, tails, clause = _with_tails(state, told, effective_sample_size(time, state.context.horizon))
        state = state.after(replace(state.fitted, tails=tails))
        said.append(clause)
    pits = _pits(state, told)
    if automatic:
        phase = torch.cat([some.season_index() for some, _ in told])
        found, clause = Recalibration.select(
            pits, state.context.blocks, time, season_index=phase, num_seasons=told[0][0].num_seasons
        )
        state = state.after(replace(state.fitted, recalibration=found))
        said.append(f"recalibration {clause}")
    state = state.after(replace(state.fitted, bands=_bands(state, told, pits, time)))
    fitted = state.fitted
    if fitted.recalibration.maps is not None and not isinstance(fitted.copula, Independent):
        state = state.after(replace(fitted, copula=fit_dependence(state)))  # of mapped levels
    return state, said


def _copula(state: FitState, lacking: Step | None) -> tuple[Fitted, list[str]]:
    r"""Chooses the copula, where confirmation rows are enough; and what was decided, in words."""
    if lacking is None:
        law = recalibrated(state.fitted, state.law("confirmation"), state.windows["confirmation"])
        fitted, clause = choose_dependence(state, law)
        return fitted, [clause]
    fitted, decision = lacking
    assert decision is not None
    said = [f"comparison of copulas {decision.reason}"]
    if state.settings["copula"] == "residual" and not isinstance(fitted.copula, Independent):
        if correlations_tell(past_errors(state)[0]):
            said.append("kronecker copula kept, shrunk by the effective sample size of past errors")
        else:
            fitted = replace(fitted, copula=Independent(state.context.horizon, state.channels))
            said.append("independent copula kept, as no rows held back support another")
    return fitted, said


def _out_of_sample(state: FitState) -> list[Outcomes]:
    r"""Takes some windows of each split, the train split first.

    Arguments:
        state: The fit.

    Returns:
        The windows and their predictive distributions: on train rows that of a closed form solved without them, else
        the zero-shot forecast.
    """
    told: list[Outcomes] = []
    for split in SPLITS:
        few = evenly_spaced(len(state.windows[split]), SUBSAMPLE)
        if not len(few):
            continue
        if split == "train" and crossed(state):
            some, adapter, frozen = leave_block_out(state)
            told.append((some, state.predictor.mixed(some, adapter, state.predictor.observed(some, frozen))))
        elif split == "train" or (split == "validation" and frozen_alone(state)):
            sampled = state.sampled(split)
            assert sampled is not None
            some, frozen = sampled
            told.append((some, state.predictor.observed(some, frozen)))
        else:
            told.append((state.windows[split][few], state.law(split)[torch.from_numpy(few)]))
    return told


def _pits(state: FitState, told: Sequence[Outcomes]) -> Pits:
    r"""The PITs (n, H, D) of `_out_of_sample`; NaN on train rows in channels that the adapter was fitted on."""
    pits = [state.pits(law, some) for some, law in told]
    out_of_sample = foretold(state)
    pits[0] = pits[0].through(lambda levels: levels.where(out_of_sample, torch.nan))
    return Pits.cat(pits)


def _with_tails(state: FitState, told: list[Outcomes], size: float) -> tuple[list[Outcomes], Tails | None, str]:
    r"""Fits the tails; the distributions that have them, the tails, and what was decided, in words."""
    futures = [state.truth(some) for some, _ in told]
    futures[0] = futures[0].masked_fill(~foretold(state), torch.nan)
    values = torch.cat([each.values for _, each in told])
    law = QuantileFunction(told[0][1].levels, values, state.predictor.support)
    tails = Tails.fit(law, torch.cat(futures), size)
    if tails is None:
        return told, None, "tails as the outer quantiles tell them"
    low, high = tails.values.median(0).values.tolist()
    said = f"tails of shape {low[0]:.2f} and {low[1]:.2f} times the scale below, {high[0]:.2f} and {high[1]:.2f} above"
    if len(tails.values) > 1 and bool((tails.values != tails.values[0]).any()):
        said += " (medians over channels)"
    return [(some, tails.apply(each)) for some, each in told], tails, said


def _bands(state: FitState, told: Sequence[Outcomes], pits: Pits, time: Times) -> JointBands:
    r"""Scores joint bands, under maps that did not see what is scored."""
    recalibration = state.fitted.recalibration
    whole = 0 if bool(foretold(state).all()) else len(told[0][0])  # the first window that all channels forecast
    spans = [(np.arange(len(time)), recalibration)]
    if state.settings["recalibration"] == "auto" and recalibration.maps is not None:
        season = torch.cat([some.season_index() for some, _ in told]) if recalibration.seasonal else None
        spans = Recalibration.cross_fitted(
            pits, state.context.blocks, time, season_index=season, num_seasons=recalibration.num_seasons
        )
    least = least_tail_scale(torch.cat([law.tail_scale for _, law in told]), time.item)
    scores, order, first = [], [], 0
    for some, law in told:
        for inside, maps in spans:
            mine = inside[(inside >= max(first, whole)) & (inside < first + len(some))] - first
            if len(mine):
                windows = some[mine]
                mapped = maps.apply(law[torch.from_numpy(mine)], windows.season_index())
                scores.append(mapped.nonconformity(state.truth(windows), least))
                order.append(first + mine)
        first += len(some)
    if not order:
        return state.fitted.bands
    later = sum(len(state.windows[split]) for split in ("calibration", "confirmation"))
    number = np.concatenate(order)
    dated = torch.from_numpy(np.lexsort((number, time[number])))
    return JointBands.fit(torch.cat(scores)[dated], least, memory=later)

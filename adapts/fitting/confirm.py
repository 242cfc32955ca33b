r"""Tails, recalibration, joint bands, and the selection of the copula."""

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
from .copula import choose_dependence, correlations_apply, fit_dependence, past_errors
from .decision import Decision
from .fitted import Fitted
from .gate import revalidated
from .noise import cross_fitted, leave_block_out, only_zero_shot, out_of_sample
from .state import ENOUGH, SUBSAMPLE, FitState, Outcomes, Step


def confirmation(state: FitState) -> Step:
    r"""Validate earlier stages on later rows, and fit what needs forecasts of all splits.

    The gate is set to zero in channels where later rows reject it; calibration is then repeated. Tails, recalibration
    and joint bands are fitted on out-of-sample forecasts of all splits. The confirmation rows select the copula.

    Arguments:
        state: The fit before this stage.

    Returns:
        The fit after this stage, and the decision.
    """
    reclosed = revalidated(state)
    if reclosed is not None:
        state = state.after(reclosed)
        fitted, decision = calibration(state)
        state = state.after(fitted.with_decision("calibration", decision))
    state, clauses = _recalibrated(state)
    fitted, skipped = state.fitted, None
    if state.settings["copula"] != "independent":
        skipped = state.skip_unless_enough("confirmation", "confirmation")
        fitted, copula_clauses = _copula(state, skipped)
        clauses += copula_clauses
    reason = "; ".join(clauses) or "nothing to confirm"
    return fitted, Decision("kept" if skipped is None else "skipped", reason)


def _recalibrated(state: FitState) -> tuple[FitState, list[str]]:
    r"""Fit tails, recalibration and joint bands if there are enough windows; also return the decisions in words."""
    automatic = state.settings["recalibration"] == "auto"
    clauses: list[str] = []
    outcomes = _outcomes(state)
    batches, horizon = [batch for batch, _ in outcomes], state.context.horizon
    usable = batches if bool(out_of_sample(state).any()) else batches[1:]
    if not usable or effective_sample_size(times_of(usable), horizon) < ENOUGH:
        if automatic:
            fitted = state.fitted
            without = [name for name, share in zip(SPLITS, state.settings["splits"], strict=True) if not share]
            if without:
                fitted = replace(fitted, declined={**fitted.declined, "recalibration": without[-1]})
            else:
                why = "the windows with out-of-sample forecasts are too few"
                fitted = replace(fitted, left_out={**fitted.left_out, "recalibration": why})
            state = state.after(fitted)
        return state, clauses
    time = times_of(batches)
    if automatic:
        outcomes, tails, clause = _with_tails(state, outcomes, effective_sample_size(time, horizon))
        state = state.after(replace(state.fitted, tails=tails))
        clauses.append(clause)
    pits = _pits(state, outcomes)
    if automatic:
        season = torch.cat([windows.season_index() for windows, _ in outcomes])
        recalibration, clause = Recalibration.select(
            pits, state.context.blocks, time, season_index=season, num_seasons=outcomes[0][0].num_seasons
        )
        state = state.after(replace(state.fitted, recalibration=recalibration))
        clauses.append(f"recalibration {clause}")
    state = state.after(replace(state.fitted, bands=_bands(state, outcomes, pits, time)))
    fitted = state.fitted
    if fitted.recalibration.maps is not None and not isinstance(fitted.copula, Independent):
        state = state.after(replace(fitted, copula=fit_dependence(state)))  # of recalibrated levels
    return state, clauses


def _copula(state: FitState, skipped: Step | None) -> tuple[Fitted, list[str]]:
    r"""Select the copula if there are enough confirmation rows; also return the decisions in words."""
    if skipped is None:
        marginals = recalibrated(state.fitted, state.predictive("confirmation"), state.windows["confirmation"])
        fitted, clause = choose_dependence(state, marginals)
        return fitted, [clause]
    fitted, decision = skipped
    assert decision is not None
    clauses = [f"comparison of copulas {decision.reason}"]
    if state.settings["copula"] == "residual" and not isinstance(fitted.copula, Independent):
        if correlations_apply(past_errors(state)[0]):
            clauses.append("kronecker copula retained, shrunk by the effective sample size of past errors")
        else:
            fitted = replace(fitted, copula=Independent(state.context.horizon, state.channels))
            clauses.append("independent copula retained, as no held-out rows support another")
    return fitted, clauses


def _outcomes(state: FitState) -> list[Outcomes]:
    r"""Take a subsample of the windows of each split, the train split first.

    Arguments:
        state: The fit.

    Returns:
        The windows and their predictive distributions. On train rows, the distribution is cross-fitted if possible,
        otherwise the zero-shot forecast.
    """
    outcomes: list[Outcomes] = []
    for split in SPLITS:
        indices = evenly_spaced(len(state.windows[split]), SUBSAMPLE)
        if not len(indices):
            continue
        if split == "train" and cross_fitted(state):
            windows, adapter, frozen = leave_block_out(state)
            outcomes.append(
                (windows, state.predictor.mixed(windows, adapter, state.predictor.observed(windows, frozen)))
            )
        elif split == "train" or (split == "validation" and only_zero_shot(state)):
            sampled = state.sampled(split)
            assert sampled is not None
            windows, frozen = sampled
            outcomes.append((windows, state.predictor.observed(windows, frozen)))
        else:
            outcomes.append((state.windows[split][indices], state.predictive(split)[torch.from_numpy(indices)]))
    return outcomes


def _pits(state: FitState, outcomes: Sequence[Outcomes]) -> Pits:
    r"""Return PITs (n, H, D); NaN on train rows in channels whose forecasts are not out of sample."""
    pits = [state.pits(distribution, windows) for windows, distribution in outcomes]
    valid = out_of_sample(state)
    pits[0] = pits[0].through(lambda levels: levels.where(valid, torch.nan))
    return Pits.cat(pits)


def _with_tails(state: FitState, outcomes: list[Outcomes], size: float) -> tuple[list[Outcomes], Tails | None, str]:
    r"""Fit the tails; return the distributions with tails, the tails, and the decision in words."""
    futures = [state.truth(windows) for windows, _ in outcomes]
    futures[0] = futures[0].masked_fill(~out_of_sample(state), torch.nan)
    values = torch.cat([distribution.values for _, distribution in outcomes])
    pooled = QuantileFunction(outcomes[0][1].levels, values, state.predictor.support)
    tails = Tails.fit(pooled, torch.cat(futures), size)
    if tails is None:
        return outcomes, None, "tails extrapolated from the outer quantiles"
    low, high = tails.values.median(0).values.tolist()
    clause = (
        f"tails of shape {low[0]:.2f} and {low[1]:.2f} times the scale below, {high[0]:.2f} and {high[1]:.2f} above"
    )
    if len(tails.values) > 1 and bool((tails.values != tails.values[0]).any()):
        clause += " (medians over channels)"
    return [(windows, tails.apply(distribution)) for windows, distribution in outcomes], tails, clause


def _bands(state: FitState, outcomes: Sequence[Outcomes], pits: Pits, time: Times) -> JointBands:
    r"""Fit joint bands on scores under recalibration maps that were not fitted on the scored windows."""
    recalibration = state.fitted.recalibration
    # The first window with out-of-sample forecasts of all channels.
    first_complete = 0 if bool(out_of_sample(state).all()) else len(outcomes[0][0])
    spans = [(np.arange(len(time)), recalibration)]
    if state.settings["recalibration"] == "auto" and recalibration.maps is not None:
        season = torch.cat([windows.season_index() for windows, _ in outcomes]) if recalibration.seasonal else None
        spans = Recalibration.cross_fitted(
            pits, state.context.blocks, time, season_index=season, num_seasons=recalibration.num_seasons
        )
    least = least_tail_scale(torch.cat([distribution.tail_scale for _, distribution in outcomes]), time.item)
    scores, order, first = [], [], 0
    for windows, distribution in outcomes:
        for span, maps in spans:
            indices = span[(span >= max(first, first_complete)) & (span < first + len(windows))] - first
            if len(indices):
                batch = windows[indices]
                mapped = maps.apply(distribution[torch.from_numpy(indices)], batch.season_index())
                scores.append(mapped.nonconformity(state.truth(batch), least))
                order.append(first + indices)
        first += len(windows)
    if not order:
        return state.fitted.bands
    later = sum(len(state.windows[split]) for split in ("calibration", "confirmation"))
    indices = np.concatenate(order)
    by_time = torch.from_numpy(np.lexsort((indices, time[indices])))
    return JointBands.fit(torch.cat(scores)[by_time], least, memory=later)

r"""The dependence over channels and horizon steps, fitted on past errors and selected on held-out rows."""

from __future__ import annotations

__all__ = ["choose_dependence", "correlations_apply", "fit_dependence", "past_errors"]

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..batching import evenly_spaced
from ..copulas.base import Copula
from ..copulas.fits import Past, gaussian
from ..copulas.independent import Independent
from ..copulas.normal_scores import completed
from ..copulas.rank import fit_empirical
from ..copulas.selection import LAGS, choose_copula
from ..data.times import Times
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..registry import COPULAS, resolve
from ..statistics.bootstrap import effective_sample_size
from .context import times_of
from .fitted import Fitted
from .state import ENOUGH, FitState

#: The maximum number of windows to compare copulas on, and of pairs of cells in them beyond the minimum of windows.
COMPARED, NUMBERS = 60, 2**23
#: The fraction of outcomes on atoms of their marginals above which correlations do not describe the dependence.
ATOMS = 0.25


def past_errors(state: FitState) -> tuple[Pits, Times]:
    r"""Return the probability integral transforms of windows before the confirmation rows; computed once.

    Arguments:
        state: The fit.

    Returns:
        The transforms, and the times of their windows. On calibration rows they are those of the fitted distribution,
        on the train and validation rows, which it was fitted on, those of the zero-shot forecast.
    """
    key = state.fitted.gate, state.fitted.noise, state.fitted.recalibration
    cached = state.memory.get("errors")
    if cached is None or any(old is not new for old, new in zip(cached[0], key, strict=True)):
        state.memory["errors"] = cached = key, _past_errors(state)
    errors: tuple[Pits, Times] = cached[1]
    return errors


def _past_errors(state: FitState) -> tuple[Pits, Times]:
    windows, pits = [], []
    for split in ("train", "validation"):
        if sampled := state.sampled(split):
            subsample, frozen = sampled
            windows.append(subsample)
            pits.append(state.pits(state.predictor.observed(subsample, frozen), subsample))
    if len(state.windows["calibration"]):
        windows.append(state.windows["calibration"])
        pits.append(state.pits(state.predictive("calibration"), windows[-1]))
    if not windows:
        empty = torch.empty(0, state.context.horizon, state.channels, dtype=torch.float32)
        return Pits.of(empty), state.windows["train"][:0].time
    recalibration = state.fitted.recalibration
    season = torch.cat([batch.season_index() for batch in windows]) if recalibration.seasonal else None
    # If a distribution misjudges an atom, its levels depend on the window rather than on the outcome.
    mapped = Pits.cat(pits).through(partial(recalibration.adapted, season_index=season))
    return mapped, times_of(windows)


def fit_dependence(state: FitState) -> Copula:
    r"""Fit the requested copula.

    Arguments:
        state: The fit.

    Returns:
        The copula over channels and horizon steps.
    """
    name = state.settings["copula"]
    past = Past(state.target_rows, state.context.horizon, lambda: past_errors(state))
    copula: Copula = (gaussian if name == "residual" else resolve(COPULAS[name].fit))(past)
    return copula


def choose_dependence(state: FitState, marginals: QuantileFunction) -> tuple[Fitted, str]:
    r"""Select the copula that forecasts the dependence of the confirmation windows best.

    Arguments:
        state: The fit.
        marginals: The recalibrated predictive distribution of the confirmation windows.

    Returns:
        The fit with the copula, and its name and gains in words.
    """
    fitted, requested, windows = state.fitted, state.settings["copula"], state.windows["confirmation"]
    errors, _ = past_errors(state)
    candidates = _candidates(state, errors)
    # Ranks, as in the fits: marginals that are too narrow would favour independence.
    ranked = _ranked(state.pits(marginals, windows), windows.time, state.context.horizon)
    indices = evenly_spaced(len(windows), max(ENOUGH, min(COMPARED, _affordable(state))))
    subsample = torch.from_numpy(indices)
    outcomes = ranked[subsample]
    marginals_and_truth = marginals[subsample], state.truth(windows[indices])
    selected, gains = choose_copula(candidates, outcomes, marginals_and_truth)
    copula = candidates[selected]
    if requested == "residual" and state.predictor.models_dependence:
        frozen = state.zero_shot("confirmation")[subsample]
        candidates["latent"] = state.predictor.predict_joint(windows[indices], copula, frozen)[2]
        selected, gains = choose_copula(candidates, outcomes, marginals_and_truth)
    if selected != "latent":
        copula = candidates[selected]
    sampled = any(bool(candidate.log_density(outcomes[:1]).isnan().any()) for candidate in candidates.values())
    listed = [
        f"{name} {100 * gain:+.1f} %" if sampled else f"{name} {gain:+.3g}"
        for name, gain in gains.items()
        if name != "independent"
    ]
    score = "joint score" if sampled else "log score per window"
    clause = f"{selected} copula selected ({score} on {len(indices)} windows against independence: {', '.join(listed)})"
    return replace(fitted, copula=copula, latent_ranks=selected == "latent"), clause


def _candidates(state: FitState, errors: Pits) -> dict[str, Copula]:
    r"""Return the candidate copulas by name."""
    requested = state.settings["copula"]
    candidates: dict[str, Copula] = {"independent": Independent(state.context.horizon, state.channels)}
    if requested != "residual" or correlations_apply(errors):
        candidates["kronecker" if requested == "residual" else requested] = state.fitted.copula
    if requested == "residual":
        candidates["empirical"] = fit_empirical(errors)
    return candidates


def correlations_apply(errors: Pits) -> bool:
    r"""Return whether correlations describe dependence; where outcomes are mostly zero, ranks do better.

    Arguments:
        errors: The probability integral transforms of past forecasts.
    """
    return float(errors.jumps.float().mean()) < ATOMS


def _affordable(state: FitState) -> int:
    r"""Return the number of windows for which comparing the copulas fits into memory."""
    horizon, channels = state.context.horizon, state.channels
    return NUMBERS // (horizon * channels * (min(horizon, LAGS) + min(channels, LAGS)))


def _ranked(pits: Pits, time: Times, horizon: int) -> Tensor:
    r"""Return PITs (n, H, D) ranked within their cells; missing ones and those on atoms are imputed by draws."""
    levels: Tensor = torch.special.ndtr(completed(pits, effective_sample_size(time, horizon)))
    return levels.float()

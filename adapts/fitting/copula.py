r"""The dependence of channels and leads: fitted on past errors, and chosen on held-back rows."""

from __future__ import annotations

__all__ = ["choose_dependence", "correlations_tell", "fit_dependence", "past_errors"]

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

#: The most windows that copulas are compared on, and the pairs of cells that these may hold together, eight aside.
COMPARED, NUMBERS = 60, 2**23
#: The share of outcomes on atoms of their marginals from which on no correlation is taken for their dependence.
ATOMS = 0.25


def past_errors(state: FitState) -> tuple[Pits, Times]:
    r"""Returns the probability integral transforms of windows before the confirmation rows; computed once.

    Arguments:
        state: The fit.

    Returns:
        The transforms, and when their windows begin. Those of calibration rows are of the distribution as fitted;
        those before them, where it was trained and gated, of the zero-shot forecast.
    """
    about = state.fitted.gate, state.fitted.noise, state.fitted.recalibration
    held = state.memory.get("errors")
    if held is None or any(one is not other for one, other in zip(held[0], about, strict=True)):
        state.memory["errors"] = held = about, _past_errors(state)
    found: tuple[Pits, Times] = held[1]
    return found


def _past_errors(state: FitState) -> tuple[Pits, Times]:
    windows, pits = [], []
    for split in ("train", "validation"):
        if sampled := state.sampled(split):
            some, frozen = sampled
            windows.append(some)
            pits.append(state.pits(state.predictor.observed(some, frozen), some))
    if len(state.windows["calibration"]):
        windows.append(state.windows["calibration"])
        pits.append(state.pits(state.law("calibration"), windows[-1]))
    if not windows:
        nothing = torch.empty(0, state.context.horizon, state.channels, dtype=torch.float32)
        return Pits.of(nothing), state.windows["train"][:0].time
    recalibration = state.fitted.recalibration
    season = torch.cat([some.season_index() for some in windows]) if recalibration.seasonal else None
    # Where a distribution misjudges an atom, its levels tell of the window that they are of, and not of the outcome.
    mapped = Pits.cat(pits).through(partial(recalibration.adapted, season_index=season))
    return mapped, times_of(windows)


def fit_dependence(state: FitState) -> Copula:
    r"""Fits the copula that was asked for.

    Arguments:
        state: The fit.

    Returns:
        The copula, of channels and leads.
    """
    named = state.settings["copula"]
    past = Past(state.target_rows, state.context.horizon, lambda: past_errors(state))
    copula: Copula = (gaussian if named == "residual" else resolve(COPULAS[named].fit))(past)
    return copula


def choose_dependence(state: FitState, law: QuantileFunction) -> tuple[Fitted, str]:
    r"""Keeps the copula that forecasts the dependence of the confirmation windows best.

    Arguments:
        state: The fit.
        law: The recalibrated predictive distribution of the confirmation windows.

    Returns:
        What is fitted, with the copula, and which it is and by how much it is better, in words.
    """
    fitted, named, windows = state.fitted, state.settings["copula"], state.windows["confirmation"]
    errors, _ = past_errors(state)
    candidates = _candidates(state, errors)
    # Ranks, as the fits see them: margins that are too narrow would speak for independence.
    ranked = _ranked(state.pits(law, windows), windows.time, state.context.horizon)
    some = evenly_spaced(len(windows), max(ENOUGH, min(COMPARED, _affordable(state))))
    outcomes = ranked[torch.from_numpy(some)]
    told = law[torch.from_numpy(some)], state.truth(windows[some])
    chosen, gains = choose_copula(candidates, outcomes, told)
    copula = candidates[chosen]
    if named == "residual" and state.predictor.models_dependence:
        frozen = state.frozen("confirmation")[torch.from_numpy(some)]
        candidates["latent"] = state.predictor.predict_joint(windows[some], copula, frozen)[2]
        chosen, gains = choose_copula(candidates, outcomes, told)
    if chosen != "latent":
        copula = candidates[chosen]
    sampled = any(bool(each.log_density(outcomes[:1]).isnan().any()) for each in candidates.values())
    listed = [
        f"{name} {100 * gain:+.1f} %" if sampled else f"{name} {gain:+.3g}"
        for name, gain in gains.items()
        if name != "independent"
    ]
    score = "joint score" if sampled else "log score a window"
    said = f"{chosen} copula kept ({score} on {len(some)} windows against independence: {', '.join(listed)})"
    return replace(fitted, copula=copula, latent_ranks=chosen == "latent"), said


def _candidates(state: FitState, errors: Pits) -> dict[str, Copula]:
    r"""The copulas to choose from, by name."""
    named = state.settings["copula"]
    candidates: dict[str, Copula] = {"independent": Independent(state.context.horizon, state.channels)}
    if named != "residual" or correlations_tell(errors):
        candidates["kronecker" if named == "residual" else named] = state.fitted.copula
    if named == "residual":
        candidates["empirical"] = fit_empirical(errors)
    return candidates


def correlations_tell(errors: Pits) -> bool:
    r"""Return whether correlations describe dependence; where outcomes are mostly zero, ranks do better.

    Arguments:
        errors: The probability integral transforms of past forecasts.
    """
    return float(errors.jumps.float().mean()) < ATOMS


def _affordable(state: FitState) -> int:
    r"""How many windows the copulas can be compared on."""
    horizon, channels = state.context.horizon, state.channels
    return NUMBERS // (horizon * channels * (min(horizon, LAGS) + min(channels, LAGS)))


def _ranked(pits: Pits, time: Times, horizon: int) -> Tensor:
    r"""PITs (n, H, D), ranked within their cells; those that are missing or on atoms are drawn given the others."""
    levels: Tensor = torch.special.ndtr(completed(pits, effective_sample_size(time, horizon)))
    return levels.float()

r"""Effects of known covariates on the targets, where they are a significant gain."""

from __future__ import annotations

__all__ = ["covariates", "with_past"]

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..batching import evenly_spaced
from ..covariate_effect import KnownEffect
from ..data.times import Times
from ..errors import few
from ..statistics.significance import choose
from .candidates import Candidate, Ratio, Slopes, candidate_layers, candidate_losses
from .context import rows_of
from .decision import Decision
from .fitted import Fitted
from .state import SUBSAMPLE, FitState, Step

#: About the number of zero-shot forecasts of each window, one for each candidate.
CANDIDATES = 8


def covariates(state: FitState) -> Step:
    r"""Subtract effects of known covariates from the targets, where this is a significant gain.

    Arguments:
        state: The fit before this stage. Slopes are fitted on train windows. They are selected on these, with
            cross-fitted slopes, and on validation windows.

    Returns:
        The fit with the effect, and the decision; None for the decision without known covariates.
    """
    panel = state.fitted.panel
    if state.fitted.effect is None:
        return state.fitted, None
    if skipped := state.skip_unless_enough("covariates", "train"):
        return skipped
    count = sum(min(len(state.windows[split]), SUBSAMPLE) for split in ("train", "validation"))
    if not state.time_limit.allows_series(count * len(panel.channels) * CANDIDATES, 0.2):
        return state.skip_for_time()
    cached = state.context.effects.get(panel.channels)
    if cached is None:
        cached = _regressed(state, state.fitted.effect)
        state.context.effects[panel.channels] = cached
    effect, reason = cached
    if effect.used:
        state = state.after(state.context.prepared(replace(state.fitted, effect=effect)))
    names = [*panel.given, "the calendar"] if panel.calendar else panel.given
    clauses = [f"known {few(names)}: {reason}"]
    if panel.given and panel.calendar and effect.used and not effect.uses[len(panel.given) :].any():
        clauses.append("the calendar: not used beside them, no further significant gain")
    if panel.static and not effect.has_interactions:
        clauses.append(f"static {few(tuple(panel.static))}: not used, no significant gain")
    if state.fitted.known is not None:
        clauses.append("the family reads them at each horizon step")
    kept = effect.used or panel.past_covariates or state.fitted.known is not None
    return state.with_decision("kept" if kept else "rejected", "; ".join(clauses))


def with_past(fitted: Fitted, decision: Decision | None, clause: str) -> Decision:
    r"""Combine the decisions on past and on known covariates.

    Arguments:
        fitted: The fit.
        decision: The decision on known covariates; None if there are none.
        clause: The decision on past covariates, in words.

    Returns:
        The decision on both.
    """
    if decision is None:
        return Decision("kept" if fitted.panel.past_covariates else "rejected", clause)
    outcome = "kept" if fitted.panel.past_covariates else decision.outcome
    return Decision(outcome, f"{clause}; {decision.reason}", decision.figures)


def _regressed(state: FitState, effect: KnownEffect) -> tuple[KnownEffect, str]:
    r"""Return the effect of known covariates, where it is a significant gain, and the decision in words."""
    train, later = state.context.windows["train"], state.context.windows["validation"]
    known, fold = effect.standardised(state.fitted.panel), state.context.folds(train)
    inside = np.flatnonzero(fold.numpy() >= 0)
    subsample = inside[evenly_spaced(len(inside), SUBSAMPLE)]
    layers = candidate_layers(state, effect, known, fold, subsample)
    candidates = [candidate for layer in layers for candidate in layer]
    validation = later[evenly_spaced(len(later), SUBSAMPLE)] if len(later) else later
    losses = torch.cat([
        candidate_losses(state, train[subsample], known, candidates, fold[subsample], effect),  # cross-fitted
        candidate_losses(state, validation, known, candidates, torch.full((len(validation),), -1), effect),
    ], 1)  # fmt: skip
    targets = state.fitted.panel.select(state.fitted.panel.targets)
    negative = torch.from_numpy(np.nanmin(rows_of(targets, state.context.train), axis=0, initial=np.inf) < 0)
    for number, candidate in enumerate(candidates, 1):
        forbidden = ~candidate.allowed(negative)
        losses[number][:, forbidden] = losses[0][:, forbidden]
    time = Times.joined([train[subsample].time, validation.time])
    selected = _select(losses, layers, time, len(subsample), state.context.horizon)
    if not bool(selected.any()):
        return effect, "not used, no significant gain"
    gains = 1 - losses.gather(0, selected.expand(1, *losses.shape[1:]))[0].nanmean(0) / losses[0].nanmean(0)
    return _with_candidates(state, effect, [candidates[n - 1] if n else None for n in selected.tolist()], gains)


def _select(losses: Tensor, layers: list[list[Candidate]], time: Times, num_train: int, horizon: int) -> Tensor:
    r"""Return the number of each target's candidate (D,), 0 for none; each layer competes with the best so far."""

    def significant(losses: Tensor) -> Tensor:
        selected, _ = choose(losses, horizon, time)
        means = losses[:, num_train:].nanmean(1)  # NaN without validation windows
        return torch.where(means.gather(0, selected.unsqueeze(0))[0] >= means[0], 0, selected)

    selected, before = torch.zeros(losses.shape[-1], dtype=torch.long), 0
    for layer in filter(None, layers):
        best = losses.gather(0, selected.expand(1, *losses.shape[1:]))
        better = significant(torch.cat([best, losses[1 + before : 1 + before + len(layer)]]))
        selected, before = torch.where(better > 0, better + before, selected), before + len(layer)
    return selected


def _with_candidates(
    state: FitState, effect: KnownEffect, selected: Sequence[Candidate | None], gains: Tensor
) -> tuple[KnownEffect, str]:
    r"""Return the effect with each target's candidate, and the gains in words."""
    count, targets = len(effect.names), state.fitted.panel.targets
    width = max([count, *(slopes.weights.shape[1] for slopes in selected if isinstance(slopes, Slopes))])
    weights, divisor, clauses = np.zeros((width, len(targets))), effect.divisor.copy(), []
    for number, (name, candidate) in enumerate(zip(targets, selected, strict=True)):
        if candidate is None:
            continue
        clauses.append(f"{name} {100 * float(gains[number]):.1f} %")
        if isinstance(candidate, Ratio):
            divisor[number] = candidate.covariate
            clauses[-1] += f" (as a ratio to {effect.names[candidate.covariate]})"
            continue
        weights[: candidate.weights.shape[1], number] = candidate.weights[-1, :, number].numpy()
        if candidate.weights.shape[1] > count:
            clauses[-1] += f" (differs by {few(tuple(state.fitted.panel.static))})"
    reason = f"used for {len(clauses)} of {len(targets)} channels; quantile loss lower by {few(clauses)}"
    return effect.with_slopes(weights, divisor), reason

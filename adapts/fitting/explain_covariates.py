r"""What known covariates explain of the targets, where that is a significant gain."""

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


def covariates(state: FitState) -> Step:
    r"""Takes off the targets what known covariates explain, where that is a significant gain.

    Arguments:
        state: The fit before this stage. Slopes are fitted on train windows; they are chosen on these, each forecast by
            slopes that did not see its block of time, and on validation windows.

    Returns:
        What is fitted, with the effect, and the decision; none without known covariates.
    """
    panel = state.fitted.panel
    if state.fitted.effect is None:
        return state.fitted, None
    if lacking := state.lacks("covariates", "train"):
        return lacking
    found = state.context.effects.get(panel.channels)
    if found is None:
        found = _regressed(state, state.fitted.effect)
        state.context.effects[panel.channels] = found
    effect, words = found
    if effect.used:
        state = state.after(state.context.prepared(replace(state.fitted, effect=effect)))
    names = [*panel.given, "the calendar"] if panel.calendar else panel.given
    said = [f"known {few(names)}: {words}"]
    if panel.given and panel.calendar and effect.used and not effect.uses[len(panel.given) :].any():
        said.append("the calendar: not used beside them, for no further gain is sure")
    if panel.static and not effect.has_interactions:
        said.append(f"static {few(tuple(panel.static))}: not used, for no gain is sure")
    return state.decided("kept" if effect.used or panel.past_covariates else "rejected", "; ".join(said))


def with_past(fitted: Fitted, decision: Decision | None, clause: str) -> Decision:
    r"""Puts what was decided on past covariates before what was decided on known ones.

    Arguments:
        fitted: What is fitted.
        decision: The decision on known covariates; None without any.
        clause: The decision on past covariates, in words.

    Returns:
        The decision on both.
    """
    if decision is None:
        return Decision("kept" if fitted.panel.past_covariates else "rejected", clause)
    outcome = "kept" if fitted.panel.past_covariates else decision.outcome
    return Decision(outcome, f"{clause}; {decision.reason}", decision.figures)


def _regressed(state: FitState, effect: KnownEffect) -> tuple[KnownEffect, str]:
    r"""The effect of known covariates on each target, where that is a significant gain; and where, in words."""
    train, later = state.context.windows["train"], state.context.windows["validation"]
    known, fold = effect.standardised(state.fitted.panel), state.context.folds(train)
    inside = np.flatnonzero(fold.numpy() >= 0)
    some = inside[evenly_spaced(len(inside), SUBSAMPLE)]
    layers = candidate_layers(state, effect, known, fold, some)
    candidates = [each for layer in layers for each in layer]
    last = later[evenly_spaced(len(later), SUBSAMPLE)] if len(later) else later
    losses = torch.cat([
        candidate_losses(state, train[some], known, candidates, fold[some], effect),  # as found without their fold
        candidate_losses(state, last, known, candidates, torch.full((len(last),), -1), effect),
    ], 1)  # fmt: skip
    targets = state.fitted.panel.select(state.fitted.panel.targets)
    negative = torch.from_numpy(np.nanmin(rows_of(targets, state.context.train), axis=0, initial=np.inf) < 0)
    for number, candidate in enumerate(candidates, 1):
        forbidden = ~candidate.allowed(negative)
        losses[number][:, forbidden] = losses[0][:, forbidden]
    time = Times.joined([train[some].time, last.time])
    chosen = _chosen(losses, layers, time, len(some), state.context.horizon)
    if not bool(chosen.any()):
        return effect, "not used, for no gain is sure"
    gains = 1 - losses.gather(0, chosen.expand(1, *losses.shape[1:]))[0].nanmean(0) / losses[0].nanmean(0)
    return _given(state, effect, [candidates[n - 1] if n else None for n in chosen.tolist()], gains)


def _chosen(losses: Tensor, layers: list[list[Candidate]], time: Times, trained: int, horizon: int) -> Tensor:
    r"""The number of each target's candidate (D,), 0 for none: layer by layer, each beside the best of those before."""

    def surest(losses: Tensor) -> Tensor:
        chosen, _ = choose(losses, horizon, time)
        means = losses[:, trained:].nanmean(1)  # NaN without validation windows
        return torch.where(means.gather(0, chosen.unsqueeze(0))[0] >= means[0], 0, chosen)

    chosen, before = torch.zeros(losses.shape[-1], dtype=torch.long), 0
    for layer in filter(None, layers):
        best = losses.gather(0, chosen.expand(1, *losses.shape[1:]))
        better = surest(torch.cat([best, losses[1 + before : 1 + before + len(layer)]]))
        chosen, before = torch.where(better > 0, better + before, chosen), before + len(layer)
    return chosen


def _given(
    state: FitState, effect: KnownEffect, chosen: Sequence[Candidate | None], gains: Tensor
) -> tuple[KnownEffect, str]:
    r"""The effect with each target's candidate; and how much each gains, in words."""
    count, targets = len(effect.names), state.fitted.panel.targets
    width = max([count, *(each.weights.shape[1] for each in chosen if isinstance(each, Slopes))])
    weights, divisor, told = np.zeros((width, len(targets))), effect.divisor.copy(), []
    for number, (name, candidate) in enumerate(zip(targets, chosen, strict=True)):
        if candidate is None:
            continue
        told.append(f"{name} {100 * float(gains[number]):.1f} %")
        if isinstance(candidate, Ratio):
            divisor[number] = candidate.covariate
            told[-1] += f" (as a ratio to {effect.names[candidate.covariate]})"
            continue
        weights[: candidate.weights.shape[1], number] = candidate.weights[-1, :, number].numpy()
        if candidate.weights.shape[1] > count:
            told[-1] += f" (apart by {few(tuple(state.fitted.panel.static))})"
    words = f"used for {len(told)} of {len(targets)} channels; quantile loss lower by {few(told)}"
    return effect.with_slopes(weights, divisor), words

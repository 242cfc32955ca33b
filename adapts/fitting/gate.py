r"""The gate: the adapter's weight in the predictive distribution."""

from __future__ import annotations

__all__ = ["gate", "revalidated"]

from dataclasses import replace

import torch

from ..calibration.gate import fit_gate, rejected_channels
from ..distribution.quantile_function import QuantileFunction
from .context import times_of
from .decision import Decision
from .fitted import Fitted
from .noise import missing_variance
from .state import FitState, Step


def gate(state: FitState) -> Step:
    r"""Give the adapter a positive weight where it is significantly better than the frozen model on validation windows.

    Arguments:
        state: The fit before this stage.

    Returns:
        The fit with the gate and the noise used to select it, and the decision.
    """
    if not state.gated:
        identity = state.fitted.module.family == "identity"
        reason = "the family is the frozen model itself" if identity else "gate=False, the adapter is used alone"
        return state.with_decision("skipped", f"none: {reason}")
    closed = torch.zeros(state.context.horizon, state.channels, dtype=torch.float32)
    state = state.after(replace(state.fitted, gate=closed))
    if lacking := state.skip_unless_enough("gate", "validation"):
        return lacking
    windows = state.windows["validation"]
    adapter, frozen = state.adapted_and_zero_shot("validation")
    # The noise is fitted on calibration rows later; until then, estimate it on these rows.
    state = state.after(replace(state.fitted, noise=missing_variance(state, "train", "validation")))
    fitted_gate = fit_gate(state.predictor.noisy(windows, adapter), frozen, state.truth(windows), windows.time)
    _, decision = state.with_decision(
        "kept" if bool(fitted_gate.values.any()) else "rejected",
        fitted_gate.reason,
        gain=fitted_gate.gain,
        bound=fitted_gate.bound,
    )
    return replace(state.fitted, gate=fitted_gate.values), decision


def revalidated(state: FitState) -> Fitted | None:
    r"""Set the gate to zero in channels where later rows reject it.

    Arguments:
        state: The fit, before the stage `confirmation`.

    Returns:
        The fit with the new gate and its decision; None if the gate does not change.
    """
    fitted = state.fitted
    later = [split for split in ("calibration", "confirmation") if len(state.windows[split])]
    if fitted.gate is None or state.predictor.closed or not later:
        return None
    windows = [state.windows[split] for split in later]
    pairs = [state.adapted_and_zero_shot(split) for split in later]
    noisy = [state.predictor.noisy(batch, adapter) for batch, (adapter, _) in zip(windows, pairs, strict=True)]
    adapter, frozen = (
        QuantileFunction(
            distributions[0].levels,
            torch.cat([distribution.values for distribution in distributions]),
            state.predictor.support,
        )
        for distributions in (noisy, [zero_shot for _, zero_shot in pairs])
    )
    future = torch.cat([state.truth(batch) for batch in windows])
    closed = rejected_channels(fitted.gate, adapter, frozen, future, times_of(windows))
    if not bool(closed.any()):
        return None
    names = [name for name, is_rejected in zip(fitted.panel.targets, closed.tolist(), strict=True) if is_rejected]
    decision: Decision = fitted.decisions["gate"].with_clause(
        f"weight set to zero in {len(names)} channels ({', '.join(names[:8])}{', ...' * (len(names) > 8)}): the "
        "adapter is worse there on calibration and confirmation rows"
    )
    return replace(fitted, gate=fitted.gate * ~closed).with_decision("gate", decision)

r"""The gate: the adapter's share of the predictive distribution."""

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
    r"""Opens the gate where the adapter is significantly better than the frozen model on validation windows.

    Arguments:
        state: The fit before this stage.

    Returns:
        What is fitted, with the gate and the noise that it was chosen with, and the decision.
    """
    if not state.gated:
        identity = state.fitted.module.family == "identity"
        why = "the family is the frozen model itself" if identity else "gate=False, the adapter stands alone"
        return state.decided("skipped", f"none: {why}")
    closed = torch.zeros(state.context.horizon, state.channels, dtype=torch.float32)
    state = state.after(replace(state.fitted, gate=closed))
    if lacking := state.lacks("gate", "validation"):
        return lacking
    windows = state.windows["validation"]
    adapter, frozen = state.both("validation")
    # The noise of the calibration rows is not known yet; that of these rows stands in for it here.
    state = state.after(replace(state.fitted, noise=missing_variance(state, "train", "validation")))
    found = fit_gate(state.predictor.noisy(windows, adapter), frozen, state.truth(windows), windows.time)
    _, decision = state.decided(
        "kept" if bool(found.values.any()) else "rejected", found.reason, gain=found.gain, bound=found.bound
    )
    return replace(state.fitted, gate=found.values), decision


def revalidated(state: FitState) -> Fitted | None:
    r"""Closes the gate in channels where the rows after those that it was fitted on speak against it.

    Arguments:
        state: The fit, before its confirmation.

    Returns:
        What is fitted, with the gate and its decision; None where the gate stays as it is.
    """
    fitted = state.fitted
    later = [split for split in ("calibration", "confirmation") if len(state.windows[split])]
    if fitted.gate is None or state.predictor.closed or not later:
        return None
    windows = [state.windows[split] for split in later]
    laws = [state.both(split) for split in later]
    noisy = [state.predictor.noisy(some, adapter) for some, (adapter, _) in zip(windows, laws, strict=True)]
    adapter, frozen = (
        QuantileFunction(each[0].levels, torch.cat([law.values for law in each]), state.predictor.support)
        for each in (noisy, [law for _, law in laws])
    )
    future = torch.cat([state.truth(some) for some in windows])
    closed = rejected_channels(fitted.gate, adapter, frozen, future, times_of(windows))
    if not bool(closed.any()):
        return None
    names = [name for name, shut in zip(fitted.panel.targets, closed.tolist(), strict=True) if shut]
    decision: Decision = fitted.decisions["gate"].and_then(
        f"closed again in {len(names)} channels ({', '.join(names[:8])}{', ...' * (len(names) > 8)}), which the "
        "adapter makes worse on calibration and confirmation rows"
    )
    return replace(fitted, gate=fitted.gate * ~closed).deciding("gate", decision)

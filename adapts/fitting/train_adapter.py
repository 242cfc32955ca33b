r"""Training of the adapter's parameters."""

from __future__ import annotations

__all__ = ["refit", "train"]

import time
from dataclasses import replace
from functools import partial

import torch

from ..adapters import Portfolio
from ..statistics.ridge import count_folds
from .state import FitState, Step
from .train_gradient import allows_refit, by_gradient, latent_dependence, refitted
from .train_members import refit_members, train_members


def train(state: FitState) -> Step:
    r"""Solve the adapter in closed form on the train windows, or train it by gradient.

    A family is trained however few the windows are; the gate decides on its weight.

    Arguments:
        state: The fit before this stage. Training by gradient stops early, by the loss on validation windows; without
            any, it runs for `UNVALIDATED_EPOCHS`.

    Returns:
        The fit with the copula of the latent channels if the family mixes channels, and the decision.
    """
    module, windows = state.fitted.module, state.windows["train"]
    if module.capabilities.closed_form and module.capabilities.observed_latents:
        state.zero_shot("train")  # which a refit does not compute again
    began = time.monotonic()
    if isinstance(module, Portfolio):
        step = train_members(state, module)
    elif module.capabilities.closed_form:
        fold = state.context.folds(windows)
        module.solve(state.regression_data(["train"], fold), choose=True)
        reason = f"solved in closed form on {len(windows)} windows"
        if count_folds(fold) < 2:
            reason += ", too few for cross-validation: with the strongest shrinkage"
        step = state.with_decision("kept", reason, windows=len(windows))
    elif any(parameter.requires_grad for parameter in module.parameters()):
        step = by_gradient(state)
    else:
        step = state.with_decision("kept", "nothing to train")
    module.requires_grad_(False).eval()
    fitted, decision = step
    fitted = fitted.with_seconds(train=time.monotonic() - began)
    if module.capabilities.mixes_channels:
        fitted = replace(fitted, latent_copula=latent_dependence(state))
    return fitted, decision


def refit(state: FitState) -> Step:
    r"""Refit the adapter on the windows of all splits: a closed form, or a family that asks for it (`Optimisation`).

    Arguments:
        state: The fit before this stage.

    Returns:
        The fit and the decision; None for the decision if the gate is zero or the family is not refit.
    """
    module = state.fitted.module
    epochs = int(state.fitted.decisions["train"].figures.get("best_epoch", 0)) if module.optimisation.refits else 0
    portfolio = module if isinstance(module, Portfolio) and module.active else None
    if state.predictor.closed or not (module.capabilities.closed_form or epochs or portfolio):
        return state.fitted, None
    if skipped := state.skip_unless_enough("refit", "train"):
        return skipped
    if portfolio is not None:
        return refit_members(state, portfolio)
    if not allows_refit(state, "train"):
        return state.skip_for_time()
    splits = state.observed_splits
    how = f"for {epochs} epochs" if epochs else "with the selected strengths"
    if module.capabilities.closed_form:
        module.solve(state.regression_data(splits, torch.empty(0, dtype=torch.float32)), choose=False)
    else:
        compute = partial(refitted, state, module, epochs, "refit.ckpt")
        if not (tensors := state.context.checkpoints.kept("refit", compute)):
            return state.skip_for_time()
        module.load_state_dict(tensors)
    count = sum(len(state.windows[split]) for split in splits)
    return state.with_decision("kept", f"refit on the {count} windows of all splits, {how}", windows=count)

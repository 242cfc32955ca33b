r"""Training of the adapter's parameters."""

from __future__ import annotations

__all__ = ["refit", "train"]

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..batching import evenly_spaced
from ..copulas.base import Copula
from ..data.splits import SPLITS
from ..foundation import FoundationModel
from ..statistics.ridge import count_folds
from .state import SUBSAMPLE, FitState, Step


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
    if module.capabilities.closed_form:
        fold = state.context.folds(windows)
        module.solve(state.regression_data(["train"], fold), choose=True)
        reason = f"solved in closed form on {len(windows)} windows"
        if count_folds(fold) < 2:
            reason += ", too few for cross-validation: with the strongest shrinkage"
        step = state.with_decision("kept", reason, windows=len(windows))
    elif any(parameter.requires_grad for parameter in module.parameters()):
        step = _by_gradient(state)
    else:
        step = state.with_decision("kept", "nothing to train")
    module.requires_grad_(False).eval()
    if not module.capabilities.mixes_channels:
        return step
    fitted, decision = step
    return replace(fitted, latent_copula=_latent_dependence(state)), decision


def refit(state: FitState) -> Step:
    r"""Refit a closed form on the windows of all splits, with the selected strengths.

    Arguments:
        state: The fit before this stage.

    Returns:
        The fit and the decision; None for the decision if the gate is zero or the family has no closed form.
    """
    module = state.fitted.module
    if not module.capabilities.closed_form or state.predictor.closed:
        return state.fitted, None
    if skipped := state.skip_unless_enough("refit", "train"):
        return skipped
    splits = [name for name in SPLITS if len(state.windows[name])]
    module.solve(state.regression_data(splits, torch.empty(0, dtype=torch.float32)), choose=False)
    count = sum(len(state.windows[name]) for name in splits)
    return state.with_decision(
        "kept", f"refit on the {count} windows of all splits, with the selected strengths", windows=count
    )


def _by_gradient(state: FitState) -> Step:
    from ..training.module import AdapterTraining
    from ..training.module import train as train_module

    module, windows, settings = state.fitted.module, state.windows["train"], state.settings
    weights, seed = settings["horizon_weights"] or 1.0, state.context.seed
    precomputed: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for split, forecasts in zip(("train", "validation"), precomputed, strict=True):
        if not len(state.windows[split]):
            continue
        if module.capabilities.fixed_latents:
            forecasts["latents"] = state.latent_quantiles(split)
        if module.capabilities.needs_forecast or module.capabilities.penalised:
            forecasts["forecast"] = state.zero_shot(split).values[..., state.model.median_index]
        if module.capabilities.needs_quantiles:
            forecasts["quantiles"] = state.zero_shot(split).values
            forecasts["past"] = state.predictor.completed_context(state.windows[split])
    training = AdapterTraining(
        module, state.model, loss=settings["objective"] or module.objective, horizon_weights=weights,
        learning_rate=settings["learning_rate"], windows=len(windows), seed=seed,
        copula=_latent_dependence(state) if module.capabilities.mixes_channels else None,
    )  # fmt: skip
    if module.capabilities.needs_quantiles:
        module.before_training(precomputed[0]["past"], precomputed[0]["quantiles"])
    losses = train_module(
        training, windows, state.windows["validation"], batch_size=settings["batch_size"], seed=seed,
        precomputed=precomputed,
        options=dict(settings["trainer_options"] or {}), checkpoints=state.context.checkpoints,
    )  # fmt: skip
    module.eval()
    if module.capabilities.fits_after_training:
        data = state.regression_data(["train"], torch.zeros(len(windows), dtype=torch.long))
        module.after_training(data, _medians(state.model, state.context.horizon), horizon_weights=weights)
    outcome = f"validation loss {losses['before']:.4g} before, {losses['best']:.4g} at its best"
    if not len(state.windows["validation"]):
        outcome = "there is no validation window to stop at, and the last parameters are kept"
    return state.with_decision(
        "kept",
        f"trained by gradient for {losses['epochs']:.0f} epochs on {len(windows)} windows; {outcome}",
        windows=len(windows),
        **losses,
    )


def _medians(model: FoundationModel, horizon: int) -> Callable[[Tensor], Tensor]:
    r"""Return the map from latent pasts (b, L, K) to the frozen model's median forecasts (b, H, K), with gradients."""

    def medians(past: Tensor) -> Tensor:
        quantiles = model(past.mT.flatten(0, 1), horizon, unroll="median")  # (b*K, Q, H)
        median: Tensor = quantiles[:, model.median_index].unflatten(0, (len(past), -1)).mT
        return median

    return medians


def _latent_dependence(state: FitState) -> Copula:
    r"""Return the copula of the latent channels, fitted on a subsample of the train windows."""
    windows = state.windows["train"]
    return state.predictor.fit_latent_copula(windows[evenly_spaced(len(windows), SUBSAMPLE)])

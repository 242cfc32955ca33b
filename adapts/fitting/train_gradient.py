r"""Training of a family by gradient."""

from __future__ import annotations

__all__ = ["by_gradient", "latent_dependence"]

from collections.abc import Callable

import torch
from torch import Tensor

from ..batching import evenly_spaced
from ..copulas.base import Copula
from ..foundation import FoundationModel
from ..persistence.checkpoints import TRAINING
from .state import SUBSAMPLE, FitState, Step


def by_gradient(state: FitState, piece: str = TRAINING) -> Step:
    r"""Train the adapter by gradient, with early stopping on the validation windows.

    Arguments:
        state: The fit before this stage.
        piece: The name of Lightning's checkpoint of the last epoch.

    Returns:
        What is fitted, and the decision.
    """
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
    if module.capabilities.needs_quantiles:
        module.before_training(precomputed[0]["past"], precomputed[0]["quantiles"])
    training = AdapterTraining(
        module, state.model, loss=settings["objective"] or module.objective, horizon_weights=weights,
        learning_rate=settings["learning_rate"], windows=len(windows), seed=seed,
        copula=latent_dependence(state) if module.capabilities.mixes_channels else None,
    )  # fmt: skip
    losses = train_module(
        training, windows, state.windows["validation"], batch_size=settings["batch_size"], seed=seed,
        precomputed=precomputed,
        options=dict(settings["trainer_options"] or {}), checkpoints=state.context.checkpoints, piece=piece,
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


def latent_dependence(state: FitState) -> Copula:
    r"""Return the copula of the latent channels, fitted on a subsample of the train windows.

    Arguments:
        state: The fit.
    """
    windows = state.windows["train"]
    return state.predictor.fit_latent_copula(windows[evenly_spaced(len(windows), SUBSAMPLE)])

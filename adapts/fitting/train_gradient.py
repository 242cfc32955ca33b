r"""Training of a family by gradient."""

from __future__ import annotations

__all__ = ["allows_refit", "by_gradient", "latent_dependence", "refitted"]

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .._random import seeded
from ..adapters import AdapterModule, make
from ..batching import evenly_spaced
from ..copulas.base import Copula
from ..foundation import FoundationModel
from ..persistence.checkpoints import TRAINING
from .context import rows_of
from .state import SUBSAMPLE, FitState, Step
from .time_limit import TimeLimit


def by_gradient(state: FitState, piece: str = TRAINING) -> Step:
    r"""Train the adapter by gradient, with early stopping on the validation windows.

    Arguments:
        state: The fit before this stage.
        piece: The name of Lightning's checkpoint of the last epoch.

    Returns:
        What is fitted, and the decision.
    """
    module, windows = state.fitted.module, state.windows["train"]
    losses = _train(state, module, ["train"], piece)
    module.eval()
    if module.capabilities.fits_after_training:
        data = state.regression_data(["train"], torch.zeros(len(windows), dtype=torch.long))
        weights = state.settings["horizon_weights"] or 1.0
        module.after_training(data, _medians(state.model, state.context.horizon), horizon_weights=weights)
    outcome = f"validation loss {losses['before']:.4g} before, {losses['best']:.4g} at its best"
    if not len(state.windows["validation"]):
        outcome = "there is no validation window to stop at, and the last parameters are kept"
    if "stopped" in losses:
        outcome += f"; stopped by {state.time_limit}"
    return state.with_decision(
        "kept",
        f"trained by gradient for {losses['epochs']:.0f} epochs on {len(windows)} windows; {outcome}",
        windows=len(windows),
        **losses,
    )


def refitted(state: FitState, module: AdapterModule, epochs: int, piece: str) -> dict[str, Tensor]:
    r"""Train a family anew, on the windows of all splits.

    Arguments:
        state: The fit.
        module: The family as it was trained on the train windows.
        epochs: The number of epochs.
        piece: The name of Lightning's checkpoint of the last epoch.

    Returns:
        The tensors of the trained family; none if the time limit ends before the training.
    """
    with seeded(state.context.seed):
        fresh = make(module.family, module.options()).build(module.channels, module.known, module.calendar)
    rows = rows_of(state.windows["train"].panel, state.context.train)
    fresh.prepare(torch.as_tensor(rows, dtype=torch.float32))
    if "stopped" in _train(state, fresh, state.observed_splits, piece, epochs):
        return {}
    return {name: tensor.detach().contiguous() for name, tensor in fresh.state_dict().items()}


def allows_refit(state: FitState, part: str) -> bool:
    r"""Return whether the time limit leaves a part of the training the time to be repeated on all splits.

    Arguments:
        state: The fit before the stage "refit".
        part: The name of the part in `Fitted.seconds`.
    """
    count = sum(len(state.windows[split]) for split in state.observed_splits)
    seconds = state.fitted.seconds.get(part, 0.0) * count / len(state.windows["train"])
    return state.time_limit.allows(seconds)


def _train(
    state: FitState, module: AdapterModule, splits: list[str], piece: str, epochs: int | None = None
) -> dict[str, float]:
    r"""Train on the windows of splits, for `epochs` or until validation windows stop it."""
    from ..training.module import AdapterTraining, train

    settings, seed = state.settings, state.context.seed
    parts = [state.windows[split] for split in splits]
    windows = replace(
        parts[0], item=np.concatenate([part.item for part in parts]), origin=np.concatenate([p.origin for p in parts])
    )
    validation = state.windows["validation"] if epochs is None else windows[:0]
    precomputed: tuple[dict[str, Tensor], dict[str, Tensor]] = (_precomputed(state, module, splits), {})
    if len(validation):
        precomputed = precomputed[0], _precomputed(state, module, ["validation"])
    if module.capabilities.needs_quantiles:
        module.before_training(precomputed[0]["past"], precomputed[0]["quantiles"])
    training = AdapterTraining(
        module, state.model, loss=settings["objective"] or module.objective,
        horizon_weights=settings["horizon_weights"] or 1.0, learning_rate=settings["learning_rate"],
        windows=len(windows), seed=seed,
        copula=latent_dependence(state) if module.capabilities.mixes_channels else None,
    )  # fmt: skip
    options = dict(settings["trainer_options"] or {})
    if piece != TRAINING:  # a member, or a refit: one of several trainings
        options.setdefault("enable_progress_bar", False)
    return train(
        training, windows, validation, batch_size=settings["batch_size"], seed=seed, precomputed=precomputed,
        options=options, checkpoints=state.context.checkpoints, piece=piece,
        epochs=epochs, ended=_ended(state.time_limit, refit=epochs is not None),
    )  # fmt: skip


def _ended(limit: TimeLimit, *, refit: bool) -> Callable[[], bool] | None:
    r"""Return a function that tells training to stop; None without a time limit."""
    if not limit.limited:
        return None
    return (lambda: limit.spent(1.0)) if refit else (lambda: limit.training_ended)


def _precomputed(state: FitState, module: AdapterModule, splits: list[str]) -> dict[str, Tensor]:
    r"""Return the forecasts of the frozen model, by name, that training reads instead of computing them."""
    needs, forecasts = module.capabilities, {}
    if needs.fixed_latents:
        forecasts["latents"] = torch.cat([state.latent_quantiles(split) for split in splits])
    if needs.needs_forecast or needs.penalised:
        medians = [state.zero_shot(split).values[..., state.model.median_index] for split in splits]
        forecasts["forecast"] = torch.cat(medians)
    if needs.needs_quantiles:
        assert needs.observed_latents  # so that the latent quantiles are those of the observed channels
        forecasts["quantiles"] = forecasts["latents"]
        contexts = [state.predictor.completed_context(state.windows[split]) for split in splits]
        forecasts["past"] = torch.cat(contexts)
    return forecasts


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

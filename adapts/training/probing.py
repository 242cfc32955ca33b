r"""Linear probing: trains the head of a frozen model that came without one, before any adapter."""

from __future__ import annotations

__all__ = ["probe"]

import copy

import torch
from torch import Tensor

from ..data.loaders import window_loader
from ..data.windows import Windows
from ..foundation import FoundationModel

#: The most epochs, and how many without a better validation loss end the probing.
EPOCHS, PATIENCE = 50, 5
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2


def probe(
    model: FoundationModel, training: Windows, validation: Windows, *, batch_size: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    r"""Trains the head of a copy of the model on the raw channels, each a series of its own.

    The first stage of the two-stage recipe of AdaPTS for models such as MOMENT: head first, then the adapter around
    the model frozen with it. The quantile loss at the model's levels, in units of the train rows, is minimised by
    AdamW; of the epochs, the one with the lowest validation loss is kept, the untrained head among them. The backbone
    is passed once a window and epoch, without gradients.

    References:
        | AdaPTS: Adapting Univariate Foundation Models to Probabilistic Multivariate Time Series Forecasting
        | (Benechehab et al., 2025), https://arxiv.org/abs/2502.10235

    Arguments:
        model: The frozen model, which declares an untrained head; it stays as it is.
        training: The standardised train windows.
        validation: The standardised validation windows, for early stopping.
        batch_size: Windows a step.
        seed: The seed of the order of windows.

    Returns:
        The tensors of the head, on the CPU, and the validation loss before and at its best, and the epochs run.
    """
    source = model.untrained_head()
    assert source is not None
    probed = model.with_head(source.state_dict())
    head = probed.untrained_head()
    assert head is not None
    head.requires_grad_(True)
    loader, held_back = window_loader(training, batch_size, seed), window_loader(validation, batch_size, None)
    loader.generator, held_back.generator = torch.Generator(), torch.Generator()  # PyTorch's own is left alone
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses = {"before": _validate(probed, held_back), "epochs": 0.0}
    losses["best"], best, waited = losses["before"], copy.deepcopy(head.state_dict()), 0
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # our own sampler, as Lightning calls it
        for past, future, _ in loader:
            optimiser.zero_grad()
            _loss(probed, past, future).mean().backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
        losses["epochs"] += 1
        loss = _validate(probed, held_back)
        waited += 1
        if loss < losses["best"]:
            losses["best"], best, waited = loss, copy.deepcopy(head.state_dict()), 0
        if waited >= PATIENCE:
            break
    return {name: tensor.detach().cpu() for name, tensor in best.items()}, losses


def _loss(model: FoundationModel, past: Tensor, future: Tensor) -> Tensor:
    r"""The quantile losses of all cells seen, one after the other."""
    quantiles = model(past.mT.flatten(0, 1), future.shape[1], unroll="median")  # (B*D, Q, H)
    levels = torch.tensor(model.quantile_levels, dtype=torch.float32)[:, None]
    targets = future.mT.flatten(0, 1).unsqueeze(1)  # (B*D, 1, H)
    seen = ~targets.isnan()
    error = torch.where(seen, targets, 0.0) - quantiles
    return torch.maximum(levels * error, (levels - 1) * error)[seen.expand_as(quantiles)]


@torch.no_grad()
def _validate(model: FoundationModel, windows: object) -> float:
    losses = [_loss(model, past, future) for past, future, _ in windows]  # type: ignore[attr-defined]
    return float(torch.cat(losses).mean())

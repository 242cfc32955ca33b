r"""Linear probing: trains the untrained head of a frozen model before any adapter."""

from __future__ import annotations

__all__ = ["probe"]

import copy

import torch
from torch import Tensor

from ..data.loaders import window_loader
from ..data.windows import Windows
from ..foundation import FoundationModel
from ..statistics.losses import pinball_loss

#: The maximum number of epochs, and the number without a lower validation loss after which probing stops.
EPOCHS, PATIENCE = 50, 5
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2


def probe(
    model: FoundationModel, training: Windows, validation: Windows, *, batch_size: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    r"""Train the head of a copy of the model on the raw channels, each a separate series.

    This is the first stage of the two-stage training of AdaPTS for models such as MOMENT: first the head, then the
    adapter around the model with the frozen head. AdamW minimises the quantile loss at the model's levels, in units of
    the train rows. The head with the lowest validation loss of all epochs is kept, the untrained one included. Each
    epoch passes each window through the backbone once, without gradients.

    References:
        | AdaPTS: Adapting Univariate Foundation Models to Probabilistic Multivariate Time Series Forecasting
        | (Benechehab et al., 2025), https://arxiv.org/abs/2502.10235

    Arguments:
        model: The frozen model, which declares an untrained head; it is unchanged.
        training: The standardised train windows.
        validation: The standardised validation windows, for early stopping.
        batch_size: The number of windows per step.
        seed: The seed of the order of windows.

    Returns:
        The tensors of the head, on the CPU, and the validation loss before training, its minimum, and the number of
        epochs.
    """
    untrained = model.untrained_head()
    assert untrained is not None
    probed = model.with_head(untrained.state_dict())
    head = probed.untrained_head()
    assert head is not None
    head.requires_grad_(True)
    loader, validation_loader = window_loader(training, batch_size, seed), window_loader(validation, batch_size, None)
    loader.generator, validation_loader.generator = torch.Generator(), torch.Generator()  # not PyTorch's global one
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses = {"before": _validate(probed, validation_loader), "epochs": 0.0}
    losses["best"], best_state, epochs_without_gain = losses["before"], copy.deepcopy(head.state_dict()), 0
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # our own sampler; Lightning calls it likewise
        for past, future, _ in loader:
            optimiser.zero_grad()
            _loss(probed, past, future).mean().backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
        losses["epochs"] += 1
        loss = _validate(probed, validation_loader)
        epochs_without_gain += 1
        if loss < losses["best"]:
            losses["best"], best_state, epochs_without_gain = loss, copy.deepcopy(head.state_dict()), 0
        if epochs_without_gain >= PATIENCE:
            break
    return {name: tensor.detach().cpu() for name, tensor in best_state.items()}, losses


def _loss(model: FoundationModel, past: Tensor, future: Tensor) -> Tensor:
    r"""Return the quantile losses of all observed cells, flattened."""
    quantiles = model(past.mT.flatten(0, 1), future.shape[1], unroll="median")  # (B*D, Q, H)
    levels = torch.tensor(model.quantile_levels, dtype=torch.float32)[:, None]
    targets = future.mT.flatten(0, 1).unsqueeze(1)  # (B*D, 1, H)
    observed = ~targets.isnan()
    error = torch.where(observed, targets, 0.0) - quantiles
    return pinball_loss(error, levels)[observed.expand_as(quantiles)]


@torch.no_grad()
def _validate(model: FoundationModel, windows: object) -> float:
    losses = [_loss(model, past, future) for past, future, _ in windows]  # type: ignore[attr-defined]
    return float(torch.cat(losses).mean())

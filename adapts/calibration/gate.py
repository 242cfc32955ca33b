r"""The gate: model-averaging weights of the adapter against the frozen model."""

from __future__ import annotations

__all__ = [
    "Gate",
    "rejected_channels",
    "fit_gate",
    "is_closed",
    "smooth_weights",
]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batching import slices
from ..data.times import Times
from ..distribution.quantile_function import QuantileFunction
from ..statistics.bootstrap import BlockScheme, block_scheme, lead_blocks, student_t_quantile
from ..statistics.losses import pinball_loss

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
r"""The candidate weights of the adapter."""

_CONFIDENCE = 0.8
_CHUNK = 2**20  # quantiles compared at once


@dataclass(frozen=True)
class Gate:
    r"""Weights of the adapter in the predictive distribution; the frozen model has the remainder.

    Arguments:
        values: The weights, with shape :math:`(H, D)`.
        reason: The decision and its reason, in words.
        gain: The relative reduction of the quantile loss against the frozen model on the windows of the fit, averaged
            over channels and horizon steps.
        bound: The 80 % lower confidence bound of the same gain out of sample: neither the weights nor their choice saw
            the windows.
    """

    values: Tensor
    reason: str
    gain: float = 0.0
    bound: float = -np.inf


def fit_gate(
    adapter: QuantileFunction,
    frozen: QuantileFunction,
    future: Tensor,
    time: Times,
) -> Gate:
    r"""Fit the adapter's weight per channel and block of horizon steps, positive where the gain is significant.

    A cell is a channel and a block of horizon steps. Its loss is the mean quantile loss over the levels, in units of
    the frozen model's loss on the channel.

    1. *Weights.* Each cell takes the weight with the least loss. The losses are shrunk towards those pooled over all
       cells by empirical Bayes: by the fraction of the variance between cells that is noise.
    2. *Evidence.* The choice is cross-validated over five folds of time, without the windows that overlap the held-out
       fold. The gains are measured on the held-out windows, so that selection gives no advantage. Low-frequency
       projections estimate their variance (see `BlockScheme`). The gains of cells are shrunk towards their mean like
       the losses.
    3. *Test.* If the 80 % lower bound of the gain pooled over all cells is above zero, every cell opens, except those
       whose own evidence is against it: whose shrunk gain is not positive. Otherwise a cell opens only if the 80 %
       lower bound of its own shrunk gain is above zero and its weight lowers its loss on all windows.
    4. *Smoothing.* Weights change from block to block without a jump (see `smooth_weights`), in the cells where they
       then still lower the frozen model's loss.

    If the windows span too little time (see `block_scheme`), all cells stay closed.

    References:
        | Limits of empirical Bayes estimates: Stein's Estimation Rule and Its Competitors (Efron and Morris, 1973)

    Arguments:
        adapter: The adapter's predictive distributions of :math:`n` windows that it was not trained on, with batch
            shape :math:`(n, H, D)`.
        frozen: The zero-shot forecasts of the same windows.
        future: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        time: The start times of the windows (`Windows.time`), in any order.

    Returns:
        The gate.
    """
    number, horizon, channels = future.shape
    scheme, blocks = block_scheme(time, horizon), lead_blocks(horizon)
    if scheme is None:
        reason = f"closed: the windows span too little time to test a gain ({4 * horizon} rows are needed)"
        return Gate(torch.zeros(horizon, channels, dtype=torch.float32), reason)
    losses = _losses(adapter, frozen, future, blocks)  # (G, n, C)
    evidence = _out_of_sample(losses, scheme)
    weight_index = _choose(losses, scheme, np.arange(number))
    if evidence.pooled_bound > 0:
        open_cells = evidence.gain > 0
    else:
        open_cells = (evidence.bound > 0) & (_gains(losses, weight_index).nanmean(0) > 0)
    weight_index = torch.where(open_cells, weight_index, 0)
    pooled = (
        f"pooled gain out of sample {100 * evidence.pooled_gain + 0.0:.1f} % of the quantile loss, lower bound "
        f"{100 * evidence.pooled_bound + 0.0:.1f} %"
    )
    block_weights = torch.tensor(WEIGHTS, dtype=torch.float32)[weight_index].view(-1, channels)  # (N, D)
    values = block_weights[blocks]  # (H, D)
    if not bool(values.any()):
        return Gate(values, f"closed: no significant gain over the frozen model; {pooled}", 0.0, evidence.pooled_bound)
    smooth = smooth_weights(block_weights, blocks)
    before, after = _losses(adapter, frozen, future, blocks, (0.0, smooth)).nanmean(1)
    values = torch.where((after < before).view_as(block_weights)[blocks], smooth, values)
    before, after = _losses(adapter, frozen, future, blocks, (0.0, values)).nanmean(1)
    gain = float((before - after).nanmean())
    reason = (
        f"open in {int((weight_index > 0).sum())} of {len(weight_index)} cells (channel x block of leads), mean weight "
        f"{float(values.mean()):.2f}; quantile loss {100 * gain:.1f} % below the frozen model's; {pooled}"
    )
    return Gate(values, reason, gain, evidence.pooled_bound)


@dataclass(frozen=True)
class _Evidence:
    r"""Gains out of sample, of cells and pooled, with lower confidence bounds."""

    gain: Tensor  # (C,), shrunk
    bound: Tensor  # (C,)
    pooled_gain: float
    pooled_bound: float


def _gains(losses: Tensor, weight_index: Tensor) -> Tensor:
    r"""Return the reduction (n, C) of the losses (G, n, C) by each cell's weight (C,)."""
    return losses[0] - losses.gather(0, weight_index.expand(1, losses.shape[1], -1))[0]


def _choose(losses: Tensor, scheme: BlockScheme, windows: np.ndarray) -> Tensor:
    r"""Return the index (C,) of each cell's weight with the least shrunk loss (G, n, C) on some windows."""
    half_gains = losses[0, windows] - losses[len(losses) // 2, windows]
    factor = _shrinkage_factor(half_gains, scheme[windows].errors(half_gains, scaled=False))
    means = losses[:, windows].nanmean(1)  # (G, C)
    return (factor * means + (1 - factor) * means.nanmean(1, keepdim=True)).nan_to_num().argmin(0)


def _out_of_sample(losses: Tensor, scheme: BlockScheme) -> _Evidence:
    r"""Cross-validate the choice of weights over folds of time."""
    times = scheme.time
    held_out_gains = torch.full(losses.shape[1:], torch.nan, dtype=losses.dtype)  # (n, C)
    folds = min(5, scheme.bins)
    edges = np.quantile(np.unique(times), np.linspace(0, 1, folds + 1))
    fold_of_window = np.searchsorted(edges[1:-1], times, side="right")
    for held_out in (np.flatnonzero(fold_of_window == index) for index in range(folds)):
        training = np.flatnonzero(
            (times <= times[held_out].min() - scheme.dependence_length)
            | (times >= times[held_out].max() + scheme.dependence_length)
        )
        if len(training):
            held_out_gains[held_out] = _gains(losses, _choose(losses, scheme, training))[held_out]
    errors = scheme.errors(held_out_gains, together=True, scaled=False)  # (B, 1 + C)
    pooled, errors = errors[:, :1], errors[:, 1:]
    factor = _shrinkage_factor(held_out_gains, errors)
    mean, critical = held_out_gains.nanmean(0), student_t_quantile(_CONFIDENCE, scheme.degrees_of_freedom)
    variance = (factor * errors + (1 - factor) * pooled).square().mean(0)
    variance = variance + factor * (1 - factor) * (errors - pooled).square().mean(0)
    pooled_gain = float(mean.nanmean())
    gain = factor * mean + (1 - factor) * pooled_gain
    bound = pooled_gain - critical * float(pooled.square().mean().sqrt())
    return _Evidence(gain, gain - critical * variance.sqrt(), pooled_gain, bound)


def rejected_channels(
    weights: Tensor,
    adapter: QuantileFunction,
    frozen: QuantileFunction,
    future: Tensor,
    time: Times,
) -> Tensor:
    r"""Test in which channels later windows reject a gate.

    There the averaged forecast is significantly worse than the frozen model. A channel is rejected if the 80 % lower
    bound of the increase in loss (see `BlockScheme`) is above zero, for the channel alone or for all channels together.

    Arguments:
        weights: The gate's weights, with shape :math:`(H, D)`.
        adapter: The adapter's predictive distributions of :math:`n` windows after those of the gate's fit, with batch
            shape :math:`(n, H, D)`.
        frozen: The zero-shot forecasts of the same windows.
        future: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        time: The start times of the windows (`Windows.time`), in any order.

    Returns:
        Whether each channel is rejected, with shape :math:`(D,)`; none if the windows span too little time for a test.
    """
    scheme = block_scheme(time, future.shape[1])
    if scheme is None:
        return torch.zeros(future.shape[2], dtype=torch.bool)
    losses = _losses(adapter, frozen, future, torch.zeros(future.shape[1], dtype=torch.long), (0.0, weights))
    increase = losses[1] - losses[0]  # (n, D)
    errors = scheme.errors(increase, together=True, scaled=False)  # (B, 1 + D)
    margin = student_t_quantile(_CONFIDENCE, scheme.degrees_of_freedom) * errors.square().mean(0).sqrt()
    alone = increase.nanmean(0) - margin[1:] > 0
    together = increase.nanmean(0).nanmean() - margin[0] > 0
    return (alone | together) & (weights > 0).any(0)


def is_closed(weights: Tensor | None) -> bool:
    r"""Return whether a gate is fitted and gives the adapter no weight.

    Arguments:
        weights: The gate's weights, with shape :math:`(H, D)`; None without a gate.

    Returns:
        True if every weight is zero.
    """
    return weights is not None and not bool(weights.any())


def smooth_weights(steps: Tensor, blocks: Tensor) -> Tensor:
    r"""Interpolate weights between blocks, so that sample paths show no jump.

    The interpolation is linear from the centre of a block, which keeps its weight, to its edges. An edge takes the
    smaller weight of both blocks. So no weight exceeds its block's, and a closed block stays closed.

    Arguments:
        steps: The weight of each block, with shape :math:`(N, D)`.
        blocks: The block of each horizon step, increasing, with shape :math:`(H,)`.

    Returns:
        The weight of each horizon step, with shape :math:`(H, D)`; the blocks' weights if all are equal.

    Example:
        >>> smooth_weights(torch.tensor([[1.0], [0.0]]), torch.tensor([0, 0, 0, 0, 1, 1])).T
        tensor([[1.0000, 1.0000, 0.7500, 0.2500, 0.0000, 0.0000]])
    """
    sizes = blocks.bincount(minlength=len(steps))
    ends = sizes.cumsum(0)
    centres = torch.arange(len(blocks), dtype=torch.float32) + 0.5
    block_centres, half_sizes = (ends - sizes.float() / 2)[blocks], (sizes.float() / 2)[blocks]
    before, after = torch.cat([steps[:1], steps[:-1]]), torch.cat([steps[1:], steps[-1:]])
    neighbour = torch.where((centres < block_centres).unsqueeze(-1), before[blocks], after[blocks])
    of_block = steps[blocks]
    fraction = ((centres - block_centres).abs() / half_sizes).unsqueeze(-1).to(of_block)
    return torch.lerp(of_block, torch.minimum(of_block, neighbour), fraction)


def _losses(
    adapter: QuantileFunction,
    frozen: QuantileFunction,
    future: Tensor,
    blocks: Tensor,
    weights: Sequence[float | Tensor] = WEIGHTS,
) -> Tensor:
    r"""Return relative quantile losses of each weight, window and cell, (G, n, C).

    The unit is the frozen model's mean loss on the channel.
    """
    cells = torch.nn.functional.one_hot(blocks).double()  # (H, N)
    observed = (~future.isnan()).double()
    count = torch.einsum("nhd,hk->nkd", observed, cells)
    losses = torch.stack([_pinball(adapter, frozen, future, weight) for weight in weights]).double()  # (G, n, H, D)
    cell_losses = torch.einsum("gnhd,hk->gnkd", losses * observed, cells) / count  # NaN where a window shows nothing
    unit = cell_losses[0].nanmean((0, 1))
    return (cell_losses / torch.where(unit > 0, unit, 1.0)).flatten(2)


def _pinball(adapter: QuantileFunction, frozen: QuantileFunction, future: Tensor, share: float | Tensor) -> Tensor:
    r"""Return the mean quantile loss of a mixture over its levels, (n, H, D); errors at missing targets are 0."""
    parts = []
    # small enough for the processor's cache
    for chunk in slices(len(future), future.shape[1:].numel() * len(adapter.levels), _CHUNK):
        mixture = QuantileFunction.mix(share, adapter[chunk], frozen[chunk])
        error = future[chunk].nan_to_num().unsqueeze(-1) - mixture.at(mixture.levels)  # (n', H, D, Q)
        parts.append(pinball_loss(error, mixture.levels.to(future)).mean(-1))
    return torch.cat(parts)


def _shrinkage_factor(values: Tensor, errors: Tensor) -> Tensor:
    r"""Return the fraction of the variance between the cells' means that is not noise, in [0, 1].

    Arguments:
        values: The windows' values, with shape (n, C).
        errors: The errors that their means may have (`BlockScheme.errors`), with shape (B, C).

    Returns:
        The fraction; 1 if there are fewer than two cells.
    """
    noise = (errors - errors.nanmean(1, keepdim=True)).square().mean(0).nanmean()
    means = values.nanmean(0)
    between = (means - means.nanmean()).square().nanmean()
    return (1 - noise / between).nan_to_num(1.0, neginf=0.0).clamp(0, 1)

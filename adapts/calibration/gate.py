r"""The gate: how much of the adapter's law stands beside the frozen model's."""

from __future__ import annotations

__all__ = [
    "Gate",
    "contradicted",
    "fit_gate",
    "is_closed",
    "smooth_shares",
]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.times import Times
from ..distribution.quantile_function import QuantileFunction
from ..statistics.bootstrap import block_scheme, lead_blocks, student

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
r"""The shares of the adapter that a gate chooses from."""

_SURE = 0.8
_CHUNK = 2**20  # quantiles compared at once


@dataclass(frozen=True)
class Gate:
    r"""The adapter's share of the predictive law, the rest being the frozen model's.

    Arguments:
        values: The shares, with shape :math:`(H, D)`.
        reason: What was decided and why, in words.
        gain: By how much the gated law's quantile loss lies below the frozen model's on the windows of the fit, as
            a share of it, mean over channels and leads.
        bound: The 80 % lower bound of the same gain where neither the shares nor their choice saw the windows.
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
    r"""Chooses the adapter's share, a channel and block of leads, where a gain over the frozen model is sure.

    A cell is a channel and a block of leads; its loss is the mean quantile loss over the levels, in units of the
    frozen model's on the channel.

    1. *Choice.* A cell takes the share with the least loss, its losses shrunk towards those pooled over all cells by
       as much as what sets the cells apart is noise.
    2. *Test.* The choice is made again without each fifth of the time (nor what overlaps it), and its gain is taken
       there, so that choosing earns nothing. Cell gains are shrunk towards their mean just so: cells lend each other
       strength where they agree, and stand alone where they differ. A cell opens if the 80 % lower bound of its
       shrunk gain, by slow waves (see `BlockScheme`), is above zero.
    3. *Guard.* A cell whose share does not lower its own loss on all windows stays closed, hence no cell is worse
       than the frozen model on these windows.
    4. *Smoothing.* Shares pass from block to block without a jump (see `smooth_shares`), where that lowers the loss of
       the cell as well.

    With too little time (see `block_scheme`) all stays closed.

    References:
        | Limits of empirical Bayes estimates: Stein's Estimation Rule and Its Competitors (Efron and Morris, 1973)

    Arguments:
        adapter: The adapter's law on :math:`n` windows that it was not trained on, with batch shape
            :math:`(n, H, D)`.
        frozen: The frozen model's law on the same windows.
        future: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        time: When the windows begin (`Windows.time`), in any order.

    Returns:
        The gate.
    """
    number, horizon, channels = future.shape
    clock = block_scheme(time, horizon)
    if clock is None:
        reason = f"closed: the windows span too little time to be sure of a gain ({4 * horizon} rows are needed)"
        return Gate(torch.zeros(horizon, channels, dtype=torch.float32), reason)

    losses = _losses(adapter, frozen, future, lead_blocks(horizon))  # (G, n, C)
    at = clock.time

    def gains(shares: Tensor) -> Tensor:
        return losses[0] - losses.gather(0, shares.expand(1, number, -1))[0]  # (n, C)

    def choose(windows: np.ndarray) -> Tensor:
        half = losses[0, windows] - losses[len(SHARES) // 2, windows]
        trust = _trust(half, clock[windows].errors(half, scaled=False))
        means = losses[:, windows].nanmean(1)  # (G, C)
        return (trust * means + (1 - trust) * means.nanmean(1, keepdim=True)).nan_to_num().argmin(0)

    unseen = torch.full(losses.shape[1:], torch.nan, dtype=losses.dtype)  # (n, C)  gains that choosing did not see
    folds = min(5, clock.bins)
    edges = np.quantile(np.unique(at), np.linspace(0, 1, folds + 1))
    fold = np.searchsorted(edges[1:-1], at, side="right")
    for held in (np.flatnonzero(fold == one) for one in range(folds)):
        rest = np.flatnonzero((at <= at[held].min() - clock.reach) | (at >= at[held].max() + clock.reach))
        if len(rest):
            unseen[held] = gains(choose(rest))[held]

    errors = clock.errors(unseen, together=True, scaled=False)  # (B, 1 + C)
    pooled, errors = errors[:, :1], errors[:, 1:]
    trust = _trust(unseen, errors)
    mean, sure = unseen.nanmean(0), student(_SURE, clock.freedom)
    spread = (trust * errors + (1 - trust) * pooled).square().mean(0)
    spread = spread + trust * (1 - trust) * (errors - pooled).square().mean(0)
    bound = trust * mean + (1 - trust) * mean.nanmean() - sure * spread.sqrt()  # (C,)
    overall = float(mean.nanmean() - sure * pooled.square().mean().sqrt())

    shares = choose(np.arange(number))
    shares = torch.where((bound > 0) & (gains(shares).nanmean(0) > 0), shares, 0)
    gain = float(gains(shares).nanmean(0).nanmean())
    blocks = lead_blocks(horizon)
    steps = torch.tensor(SHARES, dtype=torch.float32)[shares].view(-1, channels)  # (N, D)
    values = steps[blocks]  # (H, D)
    if bool(values.any()):
        smooth = smooth_shares(steps, blocks)
        losses = _losses(adapter, frozen, future, blocks, (0.0, smooth))
        better = (losses[0] - losses[1]).nanmean(0) > 0
        values = torch.where(better.view_as(steps)[blocks], smooth, values)
        losses = _losses(adapter, frozen, future, blocks, (0.0, values))
        gain = float((losses[0] - losses[1]).nanmean(0).nanmean())
        reason = (
            f"open in {int((shares > 0).sum())} of {len(shares)} cells (channel x block of leads), mean share "
            f"{float(values.mean()):.2f}; quantile loss {100 * gain:.1f} % below the frozen model's"
        )
    else:
        reason = (
            f"closed: no gain over the frozen model is sure; on windows unseen by the choice it is "
            f"{100 * float(mean.nanmean()) + 0.0:.1f} % of the quantile loss, lower bound {100 * overall + 0.0:.1f} %"
        )
    return Gate(values, reason, gain, overall)


def contradicted(
    shares: Tensor,
    adapter: QuantileFunction,
    frozen: QuantileFunction,
    future: Tensor,
    time: Times,
) -> Tensor:
    r"""Tells in which channels later windows contradict a gate: the gated law is surely worse than the frozen model.

    A channel is significantly worse if the 80 % lower bound of the loss added (see `BlockScheme`) is above zero, in the
    channel by itself or in all together.

    Arguments:
        shares: The gate's values, with shape :math:`(H, D)`.
        adapter: The adapter's law on :math:`n` windows after those that the gate was fitted on, with batch shape
            :math:`(n, H, D)`.
        frozen: The frozen model's law on the same windows.
        future: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        time: When the windows begin (`Windows.time`), in any order.

    Returns:
        Whether each channel is contradicted, with shape :math:`(D,)`; none where the windows span too little time to
        tell.
    """
    clock = block_scheme(time, future.shape[1])
    if clock is None:
        return torch.zeros(future.shape[2], dtype=torch.bool)
    losses = _losses(adapter, frozen, future, torch.zeros(future.shape[1], dtype=torch.long), (0.0, shares))
    added = losses[1] - losses[0]  # (n, D)
    errors = clock.errors(added, together=True, scaled=False)  # (B, 1 + D)
    least = student(_SURE, clock.freedom) * errors.square().mean(0).sqrt()
    alone = added.nanmean(0) - least[1:] > 0
    together = added.nanmean(0).nanmean() - least[0] > 0
    return (alone | together) & (shares > 0).any(0)


def is_closed(shares: Tensor | None) -> bool:
    r"""Whether a gate stands and leaves the frozen model alone.

    Arguments:
        shares: The gate's values, with shape :math:`(H, D)`; None where no gate stands.

    Returns:
        True if every share is zero.
    """
    return shares is not None and not bool(shares.any())


def smooth_shares(steps: Tensor, blocks: Tensor) -> Tensor:
    r"""Lets shares pass from block to block without a jump, which the law of a path would show.

    Linear between a block's middle, where its share stands, and its borders, where the smaller of both neighbours'
    does: no share is larger than its block's, and a closed block stays closed.

    Arguments:
        steps: The share of each block, with shape :math:`(N, D)`.
        blocks: The block of each lead, increasing, with shape :math:`(H,)`.

    Returns:
        The share of each lead, with shape :math:`(H, D)`; those of the blocks where all are equal.

    Example:
        >>> smooth_shares(torch.tensor([[1.0], [0.0]]), torch.tensor([0, 0, 0, 0, 1, 1])).T
        tensor([[1.0000, 1.0000, 0.7500, 0.2500, 0.0000, 0.0000]])
    """
    sizes = blocks.bincount(minlength=len(steps))
    stops = sizes.cumsum(0)
    lead = torch.arange(len(blocks)) + 0.5
    middle, half = (stops - sizes / 2)[blocks], (sizes / 2)[blocks]
    before, after = torch.cat([steps[:1], steps[:-1]]), torch.cat([steps[1:], steps[-1:]])
    neighbour = torch.where((lead < middle).unsqueeze(-1), before[blocks], after[blocks])
    own = steps[blocks]
    way = ((lead - middle).abs() / half).unsqueeze(-1).to(own)
    return torch.lerp(own, torch.minimum(own, neighbour), way)


def _losses(
    adapter: QuantileFunction,
    frozen: QuantileFunction,
    future: Tensor,
    blocks: Tensor,
    shares: Sequence[float | Tensor] = SHARES,
) -> Tensor:
    r"""The mean quantile loss of each share, window and cell, (G, n, C), in units of the frozen model's a channel."""
    cells = torch.nn.functional.one_hot(blocks).double()  # (H, N)
    seen = (~future.isnan()).double()
    count = torch.einsum("nhd,hk->nkd", seen, cells)
    losses = torch.stack([_pinball(adapter, frozen, future, share) for share in shares]).double()  # (G, n, H, D)
    table = torch.einsum("gnhd,hk->gnkd", losses * seen, cells) / count  # NaN where a window shows nothing
    unit = table[0].nanmean((0, 1))
    return (table / torch.where(unit > 0, unit, 1.0)).flatten(2)


def _pinball(adapter: QuantileFunction, frozen: QuantileFunction, future: Tensor, share: float | Tensor) -> Tensor:
    r"""The quantile loss of a mixed law, mean over its levels, (n, H, D); 0 error where the target is missing."""
    step = max(1, _CHUNK // max(1, future[0].numel() * len(adapter.levels)))
    parts = []
    for start in range(0, len(future), step):  # small enough for the processor's cache
        part = slice(start, start + step)
        law = QuantileFunction.mix(share, adapter[part], frozen[part])
        levels = law.levels.to(future)
        error = future[part].nan_to_num().unsqueeze(-1) - law.at(law.levels)  # (n', H, D, Q)
        parts.append((error @ levels - error.clamp(max=0).sum(-1)) / len(levels))
    return torch.cat(parts)


def _trust(values: Tensor, errors: Tensor) -> Tensor:
    r"""How much of what sets the cells' means apart is no noise, in [0, 1].

    Arguments:
        values: The windows' values, with shape (n, C).
        errors: What errors their means may have, with shape (B, C).

    Returns:
        The share; 1 if there are fewer than two cells.
    """
    noise = (errors - errors.nanmean(1, keepdim=True)).square().mean(0).nanmean()
    means = values.nanmean(0)
    between = (means - means.nanmean()).square().nanmean()
    return (1 - noise / between).nan_to_num(1.0, neginf=0.0).clamp(0, 1)

r"""Windows that share time: blocks of leads, blocks of windows, and how much evidence there really is."""

from __future__ import annotations

__all__ = [
    "Clock",
    "block_bootstrap",
    "block_variance",
    "independent_windows",
    "lead_blocks",
    "resampling_clock",
    "student",
]

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..windows import Times, require_times

_ENOUGH = 4  # blocks of time, the fewest that tell a spread
_ENOUGH_ITEMS = 8  # items, the fewest that stand in for blocks of time


@dataclass(frozen=True)
class Clock:
    r"""By what windows are cut into blocks that hardly depend on each other.

    Arguments:
        time: Where each window stands, with shape :math:`(n,)`: its origin, or the number of its item.
        reach: How far apart two windows must stand to share no target.
        block_length: How much a block spans.
        blocks: How many blocks the windows fill.
    """

    time: np.ndarray
    reach: int
    block_length: int
    blocks: float


def resampling_clock(time: Times, prediction_length: int) -> Clock | None:
    r"""How to resample windows: by time, or by item where time is short and items are many.

    Blocks of time span the horizon or more, a tenth of all time at most four horizons long. Fewer than four of them
    tell nothing about a spread; then eight items or more, each with all of its windows, stand in for them.

    Arguments:
        time: When the windows begin (`Windows.time`).
        prediction_length: The number of leads :math:`H`.

    Returns:
        The clock, None if the windows are too few.
    """
    origin = require_times(time).step
    if len(origin) == 0:
        return None
    span = int(np.ptp(origin)) + prediction_length
    length = max(prediction_length, min(4 * prediction_length, span // 10))
    if span // length >= _ENOUGH:
        return Clock(origin, prediction_length, length, span / length)
    names, items = np.unique(time.item, return_inverse=True)
    return Clock(items, 1, 1, float(len(names))) if len(names) >= _ENOUGH_ITEMS else None


def lead_blocks(prediction_length: int) -> Tensor:
    r"""Cuts the leads into four blocks of about equal length, into one if there are fewer than eight leads.

    Arguments:
        prediction_length: The number of leads :math:`H`.

    Returns:
        The block of each lead, with shape :math:`(H,)`.

    Example:
        >>> lead_blocks(10)
        tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    """
    number = 4 if prediction_length >= 8 else 1
    return torch.arange(prediction_length) * number // prediction_length


def independent_windows(time: Times, prediction_length: int) -> float:
    r"""How many windows that share no target row hold as much as these, overlapping ones.

    Windows whose targets overlap repeat each other: only the rows that they cover count, :math:`H` rows a window.

    Arguments:
        time: When the windows begin (`Windows.time`).
        prediction_length: The number of leads :math:`H`.

    Returns:
        The number, at most :math:`n`.

    Example:
        >>> panel = adapts.panel.Panel.of(np.zeros((240, 1)))
        >>> starts = [np.arange(0, 49), np.arange(0, 240, 48)]
        >>> [independent_windows(adapts.windows.Times(panel, 0 * rows, rows), 24) for rows in starts]
        [3.0, 5.0]
    """
    origin = require_times(time).step
    rows = 0
    for one in np.unique(time.item):
        starts = np.unique(origin[time.item == one])
        rows += int(np.minimum(np.diff(starts), prediction_length).sum()) + prediction_length
    return min(float(len(origin)), rows / prediction_length)


def block_bootstrap(
    values: Tensor,
    origin: np.ndarray,
    block_length: int,
    replicates: int = 1000,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Means over windows, resampled by the circular block bootstrap.

    Blocks of consecutive origins that span `block_length` rows are drawn with replacement until they hold as many
    origins as there are; windows of one origin (of several items) stay together, and so do the columns. Hence the
    spread of the means reflects dependence over time, over items and between columns.

    References:
        | A Circular Block-Resampling Procedure for Stationary Data (Politis and Romano, 1992)

    Arguments:
        values: What to average, with shape :math:`(n, C)`. NaN marks a missing value, which no mean counts.
        origin: When each window begins, in rows of one clock for all items, with shape :math:`(n,)`.
        block_length: The rows that a block spans; at least :math:`H`, so that few windows reach from one block into
            another.
        replicates: The number of resampled means :math:`R`.
        generator: The source of randomness.

    Returns:
        The means, with shape :math:`(R, C)`; NaN for a column without values.
    """
    seen = (~values.isnan()).double()
    totals = _by_origin(torch.stack([values.double().nan_to_num(), seen]), origin)
    blocks, number = _circular_blocks(totals, origin, block_length)
    starts = totals.shape[1]
    drawn = torch.randint(starts, (replicates, number), generator=generator)
    times = torch.zeros(replicates, starts, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(drawn.shape, dtype=torch.float64)
    )
    means: Tensor = torch.divide(times @ blocks[0], times @ blocks[1])  # (R, C)
    return means


def block_variance(total: Tensor, count: Tensor, origin: np.ndarray, block_length: int) -> Tensor:
    r"""The variance of means over windows by the circular block bootstrap of `block_bootstrap`, in closed form.

    A mean is a ratio of sums, and is taken as linear in them.

    Arguments:
        total: The sum of each window's values, with shape :math:`(n, C)`.
        count: How many values these are, with the same shape.
        origin: As for `block_bootstrap`.
        block_length: As for `block_bootstrap`.

    Returns:
        The variances of :math:`\sum` `total` :math:`/ \sum` `count`, with shape :math:`(C,)`, float64; NaN for a column
        without values.
    """
    number = count.double().sum(0)
    moved = total.double() - total.double().sum(0) / number * count.double()
    blocks, drawn = _circular_blocks(_by_origin(moved.unsqueeze(0), origin), origin, block_length)
    variance: Tensor = drawn * blocks[0].square().mean(0) / number.square()
    return variance


def _by_origin(values: Tensor, origin: np.ndarray) -> Tensor:
    r"""The sums of values (A, n, C) over windows of one origin, in order of time."""
    starts, place = np.unique(np.asarray(origin), return_inverse=True)
    totals = values.new_zeros(len(values), len(starts), values.shape[2])
    return totals.index_add_(1, torch.as_tensor(place), values)


def _circular_blocks(totals: Tensor, origin: np.ndarray, block_length: int) -> tuple[Tensor, int]:
    r"""What each block of consecutive origins holds of (A, starts, C), and how many blocks hold as many origins."""
    starts = totals.shape[1]
    span = np.ptp(np.asarray(origin)) + 1
    size = min(starts, max(1, round(starts * block_length / span)))  # origins a block
    none = totals.new_zeros(len(totals), 1, totals.shape[2])
    around = torch.cat([none, totals, totals[:, : size - 1]], 1).cumsum(1)
    return around[:, size:] - around[:, :-size], -(-starts // size)


def student(freedom: float) -> float:
    r"""The 90 % point of Student's distribution, by its expansion in the degrees of freedom.

    Arguments:
        freedom: The degrees of freedom, three or more.

    Returns:
        The point, right within a hundredth.
    """
    x = 1.2815515655446004  # the normal distribution's
    return x + (x**3 + x) / (4 * freedom) + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * freedom**2)

r"""Windows that share time: blocks of leads, bins of time, and how sure a mean over dependent windows is."""

from __future__ import annotations

__all__ = ["BlockScheme", "block_scheme", "effective_sample_size", "lead_blocks", "student"]

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from ..data.times import Times, require_times

_ENOUGH = 4  # bins of time, the fewest that tell a spread
_ENOUGH_ITEMS = 8  # items, the fewest that stand in for bins of time
_MOST_WAVES = 200  # Student's distribution is the normal one by then
_MOST_PERSISTENT = 0.9  # from bin to bin; more is no longer told from a trend
_MOST_LAGS = 128  # beyond which even that is forgotten


@dataclass(frozen=True, eq=False)
class BlockScheme:
    r"""Windows in bins that share few targets or none, and how far means over them are from the truth.

    A bin spans the horizon; bins without a window are left out. How sure a mean is, slow waves over the bins tell: the
    squares of the first :math:`B` cosine sums each estimate the variance of the mean, so that the error of the mean
    over the root of their mean is nearly Student's with :math:`B` degrees of freedom, however windows near each other
    depend. Values that persist for several bins have less in these waves than at frequency zero, and the waves are
    scaled up by as much as an autoregression of order one, fitted to the bins and mended for its bias, says.

    On simulated autoregressive differences, 90 % intervals covered the truth in 88 to 93 % of the cases for 25 bins
    and more, where values persist for none to four horizons, windows overlapping or not; for 12 bins in 86 to 90 %, and
    in 83 % where values persist for four horizons.

    References:
        | HAR inference: recommendations for practice (Lazarus, Lewis, Stock and Watson, 2018)
        | https://doi.org/10.1080/07350015.2018.1506926
        | Note on bias in the estimation of autocorrelation (Kendall, 1954)

    Arguments:
        time: Where each window stands, with shape :math:`(n,)`: its step, or the number of its item.
        reach: How far apart two windows must stand to share no target.
        items: Whether bins are items, which are taken not to depend on each other.
    """

    time: np.ndarray
    reach: int
    items: bool = False

    @cached_property
    def place(self) -> np.ndarray:
        r"""The bin of each window, with shape :math:`(n,)`."""
        placed: np.ndarray = np.unique((self.time - self.time.min(initial=0)) // self.reach, return_inverse=True)[1]
        return placed

    @property
    def bins(self) -> int:
        r"""How many bins hold a window."""
        return int(self.place.max(initial=-1)) + 1

    @property
    def freedom(self) -> int:
        r"""The degrees of freedom of the variances, even."""
        if self.items:
            return 2 * ((self.bins - 1) // 2)
        waves = 0.4 * math.cbrt(self.bins) ** 2
        return 2 * max(1, min(_MOST_WAVES // 2, round(waves)))

    def __getitem__(self, which: np.ndarray) -> BlockScheme:
        return BlockScheme(self.time[which], self.reach, self.items)

    def waves(self, total: Tensor, count: Tensor, *, together: bool = False, scaled: bool = True) -> Tensor:
        r"""Errors that means over windows may have: the mean of their squares is the variance of the mean.

        A mean is a ratio of sums, and is taken as linear in them. Columns keep how they depend on each other.

        Arguments:
            total: The sum of each window's values, with shape :math:`(n, C)`.
            count: How many values these are, with the same shape.
            together: Whether the mean of the columns' means comes first, as one column more.
            scaled: Whether slow waves are scaled by how persistent the bins are. That makes intervals cover what they
                say, and those of few bins wide.

        Returns:
            The errors of :math:`\sum` `total` :math:`/ \sum` `count`, with shape :math:`(B, C)`, or one column more,
            float64; NaN for a column without values, and where all windows are in one bin.
        """
        total, count = total.double(), count.double()
        number = count.sum(0)
        moved = (total - total.sum(0) / number * count) / number
        bins = moved.new_zeros(self.bins, moved.shape[1]).index_add_(0, torch.as_tensor(self.place), moved)
        if together:
            bins = torch.cat([bins.nanmean(1, keepdim=True), bins], 1)
        length = len(bins)
        if length < 2:
            return torch.full_like(bins, torch.nan)
        if self.items:
            return bins * (length / math.sqrt(length - 1))
        square = bins.square().sum(0)
        lag = ((bins[1:] * bins[:-1]).sum(0) / square).nan_to_num(0.0)
        persistent = (lag + (1 + 3 * lag) / length).clamp(0, _MOST_PERSISTENT)
        waves, at_lag, at_zero = _cosines(length, min(self.freedom, length - 1))
        powers = persistent ** torch.arange(len(at_lag), dtype=torch.float64).unsqueeze(-1)  # (K, C)
        kept = (at_lag @ powers) / (at_zero @ powers)
        return waves @ bins * math.sqrt(length) * (kept.rsqrt() if scaled else 1.0)

    def errors(self, values: Tensor, *, together: bool = False, scaled: bool = True) -> Tensor:
        r"""The `waves` of means of values.

        Arguments:
            values: The values, with shape :math:`(n, C)`. NaN marks a missing one, which no mean counts.
            together: As for `waves`.
            scaled: As for `waves`.

        Returns:
            The errors of the means, as of `waves`.
        """
        return self.waves(values.nan_to_num(0.0), ~values.isnan(), together=together, scaled=scaled)


@lru_cache(maxsize=64)
def _cosines(length: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Orthonormal waves (B, m), and what a correlation at each lag (K,) adds to their variance and at frequency 0."""
    at = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    waves = math.sqrt(2 / length) * torch.cos(math.pi * torch.arange(1, number + 1).unsqueeze(-1) * at)
    lags = range(min(length, _MOST_LAGS))
    twice = torch.tensor([1.0 + (lag > 0) for lag in lags], dtype=torch.float64)
    products = [float((waves[:, lag:] * waves[:, : length - lag]).sum()) / number for lag in lags]
    shares = [1 - lag / length for lag in lags]
    return waves, twice * torch.tensor(products).double(), twice * torch.tensor(shares).double()


def block_scheme(time: Times, prediction_length: int) -> BlockScheme | None:
    r"""By what windows are told to be independent: by time, or by item where time is short and items are many.

    Fewer than four bins of time tell nothing about a spread; then eight items or more, each with all of its windows,
    stand in for them.

    Arguments:
        time: When the windows begin (`Windows.time`).
        prediction_length: The number of leads :math:`H`.

    Returns:
        The clock, None if the windows are too few.

    Raises:
        TypeError: If `time` tells rows.
    """
    clock = BlockScheme(require_times(time).step, prediction_length)
    if clock.bins >= _ENOUGH:
        return clock
    clock = BlockScheme(np.unique(time.item, return_inverse=True)[1], 1, items=True)
    return clock if clock.bins >= _ENOUGH_ITEMS else None


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


def effective_sample_size(time: Times, prediction_length: int) -> float:
    r"""How many windows that share no target row hold as much as these, overlapping ones.

    Windows whose targets overlap repeat each other: only the rows that they cover count, :math:`H` rows a window.

    Arguments:
        time: When the windows begin (`Windows.time`).
        prediction_length: The number of leads :math:`H`.

    Returns:
        The number, at most :math:`n`.

    Raises:
        TypeError: If `time` tells rows.

    Example:
        >>> panel = adapts.data.panel.Panel.of(np.zeros((240, 1)))
        >>> starts = [np.arange(0, 49), np.arange(0, 240, 48)]
        >>> [effective_sample_size(adapts.data.times.Times(panel, 0 * rows, rows), 24) for rows in starts]
        [3.0, 5.0]
    """
    origin = require_times(time).step
    rows = 0
    for one in np.unique(time.item):
        starts = np.unique(origin[time.item == one])
        rows += int(np.minimum(np.diff(starts), prediction_length).sum()) + prediction_length
    return min(float(len(origin)), rows / prediction_length)


def student(probability: float, freedom: int) -> float:
    r"""The quantile of Student's distribution.

    Arguments:
        probability: The probability, at least a half and below 1.
        freedom: The degrees of freedom.

    Returns:
        The quantile.

    Example:
        >>> round(student(0.95, 6), 4)
        1.9432
    """
    return float(stdtrit(freedom, probability))

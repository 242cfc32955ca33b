r"""Inference on means over overlapping windows: blocks of the horizon, block schemes and effective sample size."""

from __future__ import annotations

__all__ = ["BlockScheme", "block_scheme", "effective_sample_size", "lead_blocks", "student_t_quantile"]

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from ..data.times import Times, require_times

_MIN_BINS = 4  # minimum number of bins of time for a variance
_MIN_ITEMS = 8  # minimum number of items that can replace bins of time
_MAX_PROJECTIONS = 200  # by then, Student's distribution is practically normal
_MAX_AUTOCORRELATION = 0.9  # maximum autocorrelation of bins; beyond, it is indistinguishable from a trend
_MAX_LAGS = 128  # beyond, even that autocorrelation has decayed


@dataclass(frozen=True, eq=False)
class BlockScheme:
    r"""Block scheme: windows in bins that share few targets or none, for the variance of means over windows.

    A bin spans the horizon; empty bins are left out. Low-frequency projections of the bins estimate the variance of a
    mean: the squares of the first :math:`B` cosine sums are each an estimate. The error of the mean, divided by the
    root of their average, is nearly Student's t with :math:`B` degrees of freedom, for any dependence between
    neighbouring windows. Values that persist over several bins have less power at these frequencies than at frequency
    zero. A bias-corrected first-order autoregression, fitted to the bins, gives the factor that scales the projections
    up.

    In simulations with autoregressive differences, 90 % intervals covered the truth in 88 to 93 % of the cases for at
    least 25 bins. This held with and without overlap, and for a persistence of none to four horizons. For 12 bins the
    coverage was 86 to 90 %, and 83 % with a persistence of four horizons.

    References:
        | HAR inference: recommendations for practice (Lazarus, Lewis, Stock and Watson, 2018)
        | https://doi.org/10.1080/07350015.2018.1506926
        | Note on bias in the estimation of autocorrelation (Kendall, 1954)

    Arguments:
        time: The position of each window, with shape :math:`(n,)`: its step, or the number of its item.
        dependence_length: The minimum distance between two windows without shared targets.
        items: Whether bins are items, which are assumed independent.
    """

    time: np.ndarray
    dependence_length: int
    items: bool = False

    @cached_property
    def bin_of_window(self) -> np.ndarray:
        r"""Return the bin of each window, with shape :math:`(n,)`."""
        bins: np.ndarray = np.unique(
            (self.time - self.time.min(initial=0)) // self.dependence_length, return_inverse=True
        )[1]
        return bins

    @property
    def bins(self) -> int:
        r"""Return the number of bins that hold a window."""
        return int(self.bin_of_window.max(initial=-1)) + 1

    @property
    def degrees_of_freedom(self) -> int:
        r"""Return the degrees of freedom of the variances, an even number."""
        if self.items:
            return 2 * ((self.bins - 1) // 2)
        half = 0.4 * math.cbrt(self.bins) ** 2
        return 2 * max(1, min(_MAX_PROJECTIONS // 2, round(half)))

    def __getitem__(self, which: np.ndarray) -> BlockScheme:
        return BlockScheme(self.time[which], self.dependence_length, self.items)

    def projections(self, total: Tensor, count: Tensor, *, together: bool = False, scaled: bool = True) -> Tensor:
        r"""Return projections whose mean square estimates the variance of means over windows.

        A mean is a ratio of sums and is linearised. The projections preserve the dependence between columns.

        Arguments:
            total: The sum of each window's values, with shape :math:`(n, C)`.
            count: The number of these values, with the same shape.
            together: Whether to prepend a column for the mean of the columns' means.
            scaled: Whether to scale the projections up for the persistence of the bins. This gives intervals their
                nominal coverage, and makes them wide for few bins.

        Returns:
            The projections for :math:`\sum` `total` :math:`/ \sum` `count`, with shape :math:`(B, C)`, or one column
            more, float64; NaN for a column without values, and if all windows are in one bin.
        """
        total, count = total.double(), count.double()
        number = count.sum(0)
        influence = (total - total.sum(0) / number * count) / number
        bins = influence.new_zeros(self.bins, influence.shape[1]).index_add_(
            0, torch.as_tensor(self.bin_of_window), influence
        )
        if together:
            bins = torch.cat([bins.nanmean(1, keepdim=True), bins], 1)
        length = len(bins)
        if length < 2:
            return torch.full_like(bins, torch.nan)
        if self.items:
            return bins * (length / math.sqrt(length - 1))
        power = bins.square().sum(0)
        lag = ((bins[1:] * bins[:-1]).sum(0) / power).nan_to_num(0.0)
        autocorrelation = (lag + (1 + 3 * lag) / length).clamp(0, _MAX_AUTOCORRELATION)
        cosines, at_lag, at_zero = _cosines(length, min(self.degrees_of_freedom, length - 1))
        powers = autocorrelation ** torch.arange(len(at_lag), dtype=torch.float64).unsqueeze(-1)  # (K, C)
        ratio = (at_lag @ powers) / (at_zero @ powers)
        return cosines @ bins * math.sqrt(length) * (ratio.rsqrt() if scaled else 1.0)

    def errors(self, values: Tensor, *, together: bool = False, scaled: bool = True) -> Tensor:
        r"""Return the projections of the means of values.

        Arguments:
            values: The values, with shape :math:`(n, C)`. NaN marks a missing one, which is left out.
            together: As for `projections`.
            scaled: As for `projections`.

        Returns:
            As for `projections`.
        """
        return self.projections(values.nan_to_num(0.0), ~values.isnan(), together=together, scaled=scaled)


@lru_cache(maxsize=64)
def _cosines(length: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return orthonormal cosines (B, m), and autocorrelation weights (K,) at their frequencies and at zero."""
    midpoints = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    frequencies = math.pi * torch.arange(1, number + 1, dtype=torch.float64).unsqueeze(-1)
    cosines = math.sqrt(2 / length) * torch.cos(frequencies * midpoints)
    lags = range(min(length, _MAX_LAGS))
    both_sides = torch.tensor([1.0 + (lag > 0) for lag in lags], dtype=torch.float64)
    products = [float((cosines[:, lag:] * cosines[:, : length - lag]).sum()) / number for lag in lags]
    weights = [1 - lag / length for lag in lags]
    return cosines, both_sides * torch.tensor(products).double(), both_sides * torch.tensor(weights).double()


def block_scheme(time: Times, prediction_length: int) -> BlockScheme | None:
    r"""Return the block scheme of windows: by time, or by item if time is short and there are many items.

    Fewer than four bins of time give no variance. Then eight items or more, each with all of its windows, replace them.

    Arguments:
        time: The start times of the windows (`Windows.time`).
        prediction_length: The number of horizon steps :math:`H`.

    Returns:
        The block scheme, None if there are too few windows.

    Raises:
        TypeError: If `time` holds rows instead of times.
    """
    scheme = BlockScheme(require_times(time).step, prediction_length)
    if scheme.bins >= _MIN_BINS:
        return scheme
    scheme = BlockScheme(np.unique(time.item, return_inverse=True)[1], 1, items=True)
    return scheme if scheme.bins >= _MIN_ITEMS else None


def lead_blocks(prediction_length: int) -> Tensor:
    r"""Divide the horizon into four blocks of similar length, or one block for fewer than eight steps.

    Arguments:
        prediction_length: The number of horizon steps :math:`H`.

    Returns:
        The block of each horizon step, with shape :math:`(H,)`.

    Example:
        >>> lead_blocks(10)
        tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    """
    number = 4 if prediction_length >= 8 else 1
    return torch.arange(prediction_length) * number // prediction_length


def effective_sample_size(time: Times, prediction_length: int) -> float:
    r"""Return the effective sample size of overlapping windows: the number of equivalent windows without overlap.

    Windows with overlapping targets repeat each other. Only the rows that they cover count, :math:`H` rows per window.

    Arguments:
        time: The start times of the windows (`Windows.time`).
        prediction_length: The number of horizon steps :math:`H`.

    Returns:
        The effective sample size, at most :math:`n`.

    Raises:
        TypeError: If `time` holds rows instead of times.

    Example:
        >>> panel = adapts.data.panel.Panel.of(np.zeros((240, 1)))
        >>> starts = [np.arange(0, 49), np.arange(0, 240, 48)]
        >>> [effective_sample_size(adapts.data.times.Times(panel, 0 * rows, rows), 24) for rows in starts]
        [3.0, 5.0]
    """
    origin = require_times(time).step
    rows = 0
    for item in np.unique(time.item):
        starts = np.unique(origin[time.item == item])
        rows += int(np.minimum(np.diff(starts), prediction_length).sum()) + prediction_length
    return min(float(len(origin)), rows / prediction_length)


def student_t_quantile(probability: float, degrees_of_freedom: int) -> float:
    r"""Return a quantile of Student's t distribution.

    Arguments:
        probability: The probability, at least a half and below 1.
        degrees_of_freedom: The degrees of freedom.

    Returns:
        The quantile.

    Example:
        >>> round(student_t_quantile(0.95, 6), 4)
        1.9432
    """
    return float(stdtrit(degrees_of_freedom, probability))

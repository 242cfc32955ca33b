r"""The variance that predictive distributions lack."""

from __future__ import annotations

__all__ = ["missing_variance_ratio"]

import torch
from torch import Tensor

from ..data.times import Times
from ..distribution.quantile_function import QuantileFunction
from ..statistics.bootstrap import block_scheme

#: Factor on the squared standard error in the James-Stein weight.
_NOISE_FACTOR = 5.0
#: Minimum degrees of freedom of a standard error.
_MIN_DEGREES_OF_FREEDOM = 8


def missing_variance_ratio(
    marginals: QuantileFunction,
    future: Tensor,
    variance: Tensor,
    blocks: Tensor,
    time: Times,
) -> Tensor:
    r"""Estimate the variance that marginals lack, as a fraction of the windows' variances.

    .. math:: \rho = \frac{\sum (y - \mu)^2 - \sigma^2}{\sum s^2}

    If no variance is missing, the ratio is negative as often as positive. Negative ratios count as zero, so uncorrected
    ratios of single cells would widen calibrated marginals. Hence the ratio is estimated from coarse to fine: for all
    cells, for each channel, for each channel and block of horizon steps. Each stage moves the coarser estimate towards
    its own ratio, by the James-Stein weight :math:`(1 - 5 e^2 / d^2)^+` of the difference :math:`d`. Its standard error
    :math:`e` follows from sums over blocks of time. The weight is zero at twice the standard error, and six sevenths at
    six times. Negative results are set to zero.

    Arguments:
        marginals: The marginals before noise, with values :math:`(n, H, D, Q)`.
        future: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        variance: The windows' variances :math:`s^2`, with shape :math:`(n, H, D)`, or :math:`(n, 1, D)` if equal for
            all horizon steps.
        blocks: The block of each horizon step, with shape :math:`(H,)`.
        time: The start times of the windows (`Windows.time`).

    Returns:
        The ratios :math:`\rho`, with shape :math:`(H, D)`. With fewer than about 26 blocks of time, standard errors are
        unreliable. Then each ratio is that of its own cells, 0 if negative: with few rows, too wide an interval is the
        smaller error.
    """
    number, horizon, channels = future.shape
    ratio = torch.zeros(int(blocks.max()) + 1, channels, dtype=torch.float64)
    scheme = block_scheme(time, horizon)
    if scheme is not None and scheme.degrees_of_freedom < _MIN_DEGREES_OF_FREEDOM:
        scheme = None
    observed = ~future.isnan()
    varies = observed & (variance > 0)
    missing = torch.where(varies, (future - marginals.mean).square() - marginals.variance, 0.0)
    unit = torch.where(observed, variance, 0.0)
    missing, unit = (x.new_zeros(number, *ratio.shape).index_add_(1, blocks, x).double() for x in (missing, unit))
    for axes in ((),) if scheme is None else ((1, 2), (1,), ()):
        remainder, size = ((x.sum(axes, keepdim=True) if axes else x) for x in (missing - ratio * unit, unit))
        difference = (remainder.sum(0) / size.sum(0)).nan_to_num(0.0, 0.0, 0.0)  # 0 for a constant channel
        if scheme is None:
            weight = torch.ones_like(difference)
        else:
            error = scheme.projections(remainder.flatten(1), size.flatten(1)).square().mean(0).view(difference.shape)
            freedom = scheme.degrees_of_freedom
            weight = 1 - _NOISE_FACTOR * error * freedom / (freedom - 2) / difference.square()
        ratio = ratio + (weight.clamp(min=0) * difference).nan_to_num(0.0, 0.0, 0.0)
    return ratio.clamp(min=0)[blocks].float()

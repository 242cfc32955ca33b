r"""The variance that predictive distributions lack."""

from __future__ import annotations

__all__ = ["missing_variance_ratio"]

import torch
from torch import Tensor

from ..data.times import Times
from ..distribution.quantile_function import QuantileFunction
from ..statistics.bootstrap import block_scheme

#: How many times the square of its error the square of a ratio must be before any of it is believed.
_CAUTION = 5.0
#: The degrees of freedom of such an error, the fewest that it is told with.
_FREEDOM = 8


def missing_variance_ratio(
    law: QuantileFunction,
    future: Tensor,
    spread: Tensor,
    blocks: Tensor,
    time: Times,
) -> Tensor:
    r"""What variance a law lacks, as a share of the windows' own.

    .. math:: \rho = \frac{\sum (y - \mu)^2 - \sigma^2}{\sum s^2}

    is as often below zero as above where nothing lacks, and noise is never below: what is taken of single cells as it
    comes would widen laws that are right. So it is found from coarse to fine: of all cells, of a channel, of a channel
    and block of leads. Each step moves what the coarser one found towards its own ratio, by the James-Stein share
    :math:`(1 - 5 e^2 / d^2)^+` of the difference :math:`d`, where :math:`e` is its standard error, of sums over blocks
    of time: twice the error is not believed at all, six times the error to six sevenths. What is below zero then counts
    as zero.

    Arguments:
        law: The law before noise, with values :math:`(n, H, D, Q)`.
        future: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        spread: The windows' variances :math:`s^2`, with shape :math:`(n, H, D)`, or :math:`(n, 1, D)` for all leads.
        blocks: The block of leads of each step, with shape :math:`(H,)`.
        time: When each window begins.

    Returns:
        The ratios :math:`\rho`, with shape :math:`(H, D)`. Where the windows make fewer than some 26 blocks of time,
        their errors cannot be told, and each is the ratio of its own cells, or 0 if that is below zero: an interval
        that few rows support is better too wide.
    """
    number, horizon, channels = future.shape
    ratio = torch.zeros(int(blocks.max()) + 1, channels, dtype=torch.float64)
    clock = block_scheme(time, horizon)
    if clock is not None and clock.freedom < _FREEDOM:
        clock = None
    seen = ~future.isnan()
    varies = seen & (spread > 0)
    lack = torch.where(varies, (future - law.mean).square() - law.variance, 0.0)
    unit = torch.where(seen, spread, 0.0)
    lack, unit = (x.new_zeros(number, *ratio.shape).index_add_(1, blocks, x).double() for x in (lack, unit))
    for over in ((),) if clock is None else ((1, 2), (1,), ()):
        left, size = ((x.sum(over, keepdim=True) if over else x) for x in (lack - ratio * unit, unit))
        apart = (left.sum(0) / size.sum(0)).nan_to_num(0.0, 0.0, 0.0)  # a channel that never varies lacks nothing
        if clock is None:
            share = torch.ones_like(apart)
        else:
            error = clock.waves(left.flatten(1), size.flatten(1)).square().mean(0).view(apart.shape)
            share = 1 - _CAUTION * error * clock.freedom / (clock.freedom - 2) / apart.square()
        ratio = ratio + (share.clamp(min=0) * apart).nan_to_num(0.0, 0.0, 0.0)
    return ratio.clamp(min=0)[blocks].float()

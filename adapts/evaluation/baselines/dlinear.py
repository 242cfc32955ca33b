r"""DLinear in closed form: one linear map of the moving average of a context, and one of the remainder."""

from __future__ import annotations

__all__ = ["DLinear", "moving_average"]

from collections.abc import Callable

import torch
from torch import Tensor

from ...data.windows import Windows
from .base import forward_filled, last_observed
from .shared_linear import SharedLinear, ridge_solver

#: The number of steps of the moving average, as in the paper.
KERNEL = 25


class DLinear(SharedLinear):
    r"""Ridge regression of the target steps on trend and remainder of the context.

    .. math:: \hat y = \mu + W_t^\top M (x - \mu) + W_s^\top (I - M) (x - \mu) + c

    where :math:`M` is the centred moving average over 25 steps, with the first and the last value repeated beyond the
    ends, and :math:`\mu` the mean of the channel's targets in the fit. The maps of shape :math:`(L, H)` and the
    offsets :math:`c` serve all channels, each in units of its standard deviation. The penalty applies to the maps, not
    to the offsets. Without it, trend and remainder together are one linear map; with it, the split decides what is
    shrunk less.

    The strength is selected on the last fifth of the fit, for a solution on the earlier windows. The out-of-sample
    errors of this solution determine the width of the predictive distribution. Then the solution is refitted to all
    windows. An infinite strength gives :math:`\mu + c`. Missing values are filled forward, those before the first
    observed value count as the mean, and windows of a channel with missing targets are not used.

    References:
        | Are Transformers Effective for Time Series Forecasting? (Zeng et al., 2023)
        | https://arxiv.org/abs/2205.13504

    Example:
        >>> from adapts.data.windows import Windows
        >>> series = np.sin(np.arange(300.0)[:, None])
        >>> windows = Windows(adapts.data.panel.Panel.of(series), np.zeros(200, int), np.arange(50, 250), 24, 6)
        >>> DLinear().fit(windows).weights.shape  # of the 24 context steps, and the offset
        torch.Size([25, 6])
    """

    mean: Tensor  # (D,)

    def prepare(self, windows: Windows) -> None:
        r"""Determine the units of the regression.

        Arguments:
            windows: The windows of the fit.
        """
        super().prepare(windows)
        self.mean = windows.future(torch.float64).flatten(0, 1).nanmean(0).nan_to_num(0.0)

    def regressors(self, windows: Windows) -> tuple[Tensor, Tensor]:
        past = windows.past(torch.float64)
        unobserved = last_observed(past, 1).isnan().unsqueeze(1)  # (n, 1, D)
        x = (forward_filled(past) - self.mean).nan_to_num(0.0)
        x = torch.cat([x, self.scale.expand(len(x), 1, -1)], dim=1)  # the last one is 1 in units of the deviations
        return x, self.mean.expand(len(x), 1, -1).masked_fill(unobserved, torch.nan)

    def solver(self, gram: Tensor, cross: Tensor) -> Callable[[float], Tensor]:
        r"""Return a function that solves the regression on trend and remainder at a strength.

        Arguments:
            gram: The sum of :math:`x x^\top`, the last regressor being 1, with shape :math:`(L + 1, L + 1)`.
            cross: The sum of :math:`x y^\top`, with shape :math:`(L + 1, H)`.

        Returns:
            The function, of a strength in units of the mean eigenvalue, that returns the weights of the context steps
            and the offset, with shape :math:`(L + 1, H)`.
        """
        count = gram[-1, -1].clamp(min=1)
        x, y = gram[:-1, -1] / count, cross[-1] / count  # their means, (L,) and (H,)
        average = moving_average(len(x))
        split = torch.cat([average, torch.eye(len(x), dtype=torch.float64) - average])  # (2L, L)
        centred = gram[:-1, :-1] - count * x.outer(x), cross[:-1] - count * x.outer(y)
        solve = ridge_solver(split @ centred[0] @ split.mT, split @ centred[1])

        def weights(strength: float) -> Tensor:
            of_steps = split.mT @ solve(strength)  # (L, H)
            return torch.cat([of_steps, (y - x @ of_steps).unsqueeze(0)])

        return weights


def moving_average(length: int) -> Tensor:
    r"""Return the matrix of the centred moving average over 25 steps, the first and the last value repeated.

    Arguments:
        length: The number of steps :math:`L`.

    Returns:
        The matrix, with shape :math:`(L, L)`, whose rows sum to one.

    Example:
        >>> ramp = torch.arange(60.0, dtype=torch.float64)
        >>> torch.allclose((moving_average(60) @ ramp)[12:48], ramp[12:48])  # a line, away from the ends
        True
    """
    offsets = torch.arange(KERNEL) - KERNEL // 2
    column = (torch.arange(length)[:, None] + offsets).clamp(0, length - 1)  # (L, 25)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, column, torch.full(column.shape, 1 / KERNEL, dtype=torch.float64))

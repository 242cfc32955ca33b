r"""NLinear in closed form: one linear map for all channels, of contexts relative to their last value."""

from __future__ import annotations

__all__ = ["NLinear"]

import torch
from torch import Tensor

from ...data.windows import Windows
from .base import forward_filled, last_observed
from .shared_linear import SharedLinear


class NLinear(SharedLinear):
    r"""Ridge regression of the target steps on the context, both relative to the context's last value.

    .. math:: \hat y_h = x_L + \sum_{l = 1}^L W_{lh} (x_l - x_L)

    One :math:`W` of shape :math:`(L, H)` serves all channels, each in units of its standard deviation. The strength is
    selected on the last fifth of the fit, for a solution on the earlier windows. The out-of-sample errors of this
    solution determine the width of the predictive distribution. Then the solution is refitted to all windows. An
    infinite strength gives `LastValue`. Missing values are filled forward, and windows of a channel with missing
    targets are not used.

    References:
        | Are Transformers Effective for Time Series Forecasting? (Zeng et al., 2023)
        | https://arxiv.org/abs/2205.13504

    Example:
        >>> from adapts.data.windows import Windows
        >>> series = np.sin(np.arange(300.0)[:, None])
        >>> windows = Windows(adapts.data.panel.Panel.of(series), np.zeros(200, int), np.arange(50, 250), 24, 6)
        >>> NLinear().fit(windows).weights.shape
        torch.Size([24, 6])
    """

    def regressors(self, windows: Windows) -> tuple[Tensor, Tensor]:
        past = windows.past(torch.float64)
        last = last_observed(past, 1).unsqueeze(1)
        return (forward_filled(past) - last).nan_to_num(0.0), last

r"""Vector autoregression, by statsmodels: the classical linear forecast that sees all channels at once."""

from __future__ import annotations

__all__ = ["VAR"]

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..._logging import without_warnings
from ...data.windows import Windows
from .base import Baseline, filled_forward, last_seen, split_later

_MOST_LAGS = 24
_MOST_REGRESSORS = 200  # lags times channels, one lag at the least
_ROWS_EACH = 10  # rows that each regressor takes


@dataclass(frozen=True)
class _Fit:
    r"""What one item taught: the intercept (D',) and the lags' matrices (p, D', D'), in standard units."""

    location: Tensor  # (D',)
    scale: Tensor  # (D',)
    channels: Tensor  # (D',) the channels that vary
    intercept: Tensor
    lags: Tensor

    def forecast(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""The point forecasts (n, H, D') after filled contexts (n, L, D')."""
        rows = list(((past - self.location) / self.scale).unbind(1))[-len(self.lags) :]
        for _ in range(prediction_length):
            step = self.intercept.expand(len(past), -1)
            for matrix, row in zip(self.lags, reversed(rows), strict=False):
                step = step + row @ matrix.mT
            rows.append(step)
        return torch.stack(rows[-prediction_length:], 1) * self.scale + self.location


class VAR(Baseline):
    r"""A vector autoregression of each item, fitted by least squares on its fit rows.

    .. math:: x_t = c + \sum_{i = 1}^p A_i x_{t - i} + \varepsilon_t

    The order :math:`p` minimises BIC, up to 24, to 200 regressors an equation (always one lag) and to a tenth of the
    rows. Its law is spread by its errors of each lead on the last fifth of the fit part, by a fit to what comes
    before, not by its Gaussian covariance, which takes the model for true and shocks for alike at all hours; cells are
    independent. Then it is fitted again to all. A missing value is the one
    before it, or the channel's mean where there is none. Channels that never change, items too short for one lag and
    forecasts that explode take the last value.

    References:
        | New Introduction to Multiple Time Series Analysis (Lütkepohl, 2005)
        | https://doi.org/10.1007/978-3-540-27752-8

    Raises:
        ValueError: If statsmodels is not installed.
    """

    def __init__(self) -> None:
        if find_spec("statsmodels") is None:
            raise ValueError("the baseline 'var' is fitted by statsmodels: pip install 'adapts[baselines]'")
        self.items: dict[str, _Fit | None] = {}

    def learn(self, windows: Windows) -> Windows:
        early, late = split_later(windows)
        self._solve(early if len(early) else windows)
        return late

    def fit(self, windows: Windows) -> Self:
        super().fit(windows)  # its law is as wide as the errors that it has not seen
        self._solve(windows)
        return self

    def _solve(self, windows: Windows) -> None:
        for number in np.unique(windows.item):
            item = windows.panel.items[number]
            stop = windows.origin[windows.item == number].max() + windows.prediction_length
            self.items[item.item_id] = _fit(torch.from_numpy(item.values[:stop]), windows.context_length)

    def forecast(self, windows: Windows) -> Tensor:
        past = windows.past(torch.float64)
        last = last_seen(past, 1).unsqueeze(1)
        point = last.repeat(1, windows.prediction_length, 1)
        past = filled_forward(past)
        for number in np.unique(windows.item):
            fit = self.items.get(windows.panel.items[number].item_id)
            if fit is None:
                continue
            mine = torch.from_numpy(np.flatnonzero(windows.item == number))
            context = past[mine][..., fit.channels]
            steps = fit.forecast(context.where(~context.isnan(), fit.location), windows.prediction_length)
            shown = steps.isfinite() & ~last[mine][..., fit.channels].isnan()
            point[mine[:, None], :, fit.channels] = steps.where(shown, point[mine][..., fit.channels]).mT
        return point


def _fit(rows: Tensor, context_length: int) -> _Fit | None:
    r"""The autoregression of rows (T, D); None where nothing varies or the rows are too few."""
    seen = filled_forward(rows[None])[0]
    location = rows.nanmean(0)
    deviation = (rows - location).square().nanmean(0).sqrt()
    channels = torch.nonzero(deviation > 1e-9 * location.abs()).flatten()  # NaN, never seen, is not greater
    number = len(channels)
    if number == 0 or len(rows) < _ROWS_EACH * (number + 1):
        return None
    location, scale = location[channels], deviation[channels]
    standard = ((seen[:, channels] - location) / scale).nan_to_num(0.0).numpy()
    most = min(_MOST_LAGS, context_length, _MOST_REGRESSORS // number, (len(rows) // _ROWS_EACH - 1) // number)

    from statsmodels.tsa.api import VAR as Regression

    best = None
    with without_warnings():  # statsmodels says that undated rows have no dates
        for order in range(1, max(1, most) + 1):
            try:  # each on the same targets, for their criteria to compare
                fit = Regression(standard[max(1, most) - order :]).fit(order, trend="c")
                criterion = float(fit.bic)
            except (np.linalg.LinAlgError, ValueError):  # channels that are each other's sums have no criterion
                continue
            if np.isfinite(criterion) and (best is None or criterion < best[0]):
                best = criterion, order
        if best is None:
            return None
        fit = Regression(standard).fit(best[1], trend="c")
    return _Fit(location, scale, channels, torch.from_numpy(fit.intercept), torch.from_numpy(fit.coefs))

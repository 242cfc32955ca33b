r"""Vector autoregression by statsmodels, the classical linear model of all channels."""

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
from .base import Baseline, forward_filled, last_observed, split_validation

_MAX_LAGS = 24
_MAX_REGRESSORS = 200  # lags times channels; one lag is always allowed
_MIN_ROWS = 10  # minimum number of rows per regressor


@dataclass(frozen=True)
class _Fit:
    r"""The model of one item: intercept (D',) and coefficients (p, D', D'), for standardised channels."""

    location: Tensor  # (D',)
    scale: Tensor  # (D',)
    channels: Tensor  # (D',) the channels that vary
    intercept: Tensor
    lags: Tensor

    def forecast(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Return point forecasts (n, H, D') after filled contexts (n, L, D')."""
        rows = list(((past - self.location) / self.scale).unbind(1))[-len(self.lags) :]
        for _ in range(prediction_length):
            step = self.intercept.expand(len(past), -1)
            for matrix, row in zip(self.lags, reversed(rows), strict=False):
                step = step + row @ matrix.mT
            rows.append(step)
        return torch.stack(rows[-prediction_length:], 1) * self.scale + self.location


class VAR(Baseline):
    r"""Vector autoregression of each item, fitted by least squares.

    .. math:: x_t = c + \sum_{i = 1}^p A_i x_{t - i} + \varepsilon_t

    The order :math:`p` minimises BIC. It is at most 24, with at most 200 regressors per equation (always one lag) and
    at least ten rows per regressor. The width of the predictive distribution follows from errors per horizon step on
    the last fifth of the fit, by a model of the earlier rows. The Gaussian covariance is not used, as it assumes a
    correct model and the same shocks at all hours. Cells are independent. Then the model is refitted to all rows.
    Missing values are filled forward, or with the channel's mean. Constant channels, items too short for one lag and
    explosive forecasts take the last value.

    References:
        | New Introduction to Multiple Time Series Analysis (Lütkepohl, 2005)
        | https://doi.org/10.1007/978-3-540-27752-8

    Raises:
        ValueError: If statsmodels is not installed.
    """

    def __init__(self) -> None:
        if find_spec("statsmodels") is None:
            raise ValueError("the baseline 'var' requires statsmodels: pip install 'adapts[baselines]'")
        self.items: dict[str, _Fit | None] = {}

    def fit_point(self, windows: Windows) -> Windows:
        early, late = split_validation(windows)
        self._solve(early if len(early) else windows)
        return late

    def fit(self, windows: Windows) -> Self:
        super().fit(windows)  # the width follows from out-of-sample errors
        self._solve(windows)
        return self

    def _solve(self, windows: Windows) -> None:
        for number in np.unique(windows.item):
            item = windows.panel.items[number]
            stop = windows.origin[windows.item == number].max() + windows.prediction_length
            self.items[item.item_id] = _fit(torch.from_numpy(item.values[:stop]), windows.context_length)

    def forecast(self, windows: Windows) -> Tensor:
        past = windows.past(torch.float64)
        last = last_observed(past, 1).unsqueeze(1)
        point = last.repeat(1, windows.prediction_length, 1)
        past = forward_filled(past)
        for number in np.unique(windows.item):
            fit = self.items.get(windows.panel.items[number].item_id)
            if fit is None:
                continue
            rows = torch.from_numpy(np.flatnonzero(windows.item == number))
            context = past[rows][..., fit.channels]
            steps = fit.forecast(context.where(~context.isnan(), fit.location), windows.prediction_length)
            usable = steps.isfinite() & ~last[rows][..., fit.channels].isnan()
            point[rows[:, None], :, fit.channels] = steps.where(usable, point[rows][..., fit.channels]).mT
        return point


def _fit(rows: Tensor, context_length: int) -> _Fit | None:
    r"""Fit the model to rows (T, D); None if no channel varies or there are too few rows."""
    filled = forward_filled(rows[None])[0]
    location = rows.nanmean(0)
    deviation = (rows - location).square().nanmean(0).sqrt()
    channels = torch.nonzero(deviation > 1e-9 * location.abs()).flatten()  # NaN, unobserved, is not greater
    number = len(channels)
    if number == 0 or len(rows) < _MIN_ROWS * (number + 1):
        return None
    location, scale = location[channels], deviation[channels]
    standard = ((filled[:, channels] - location) / scale).nan_to_num(0.0).numpy()
    max_order = min(_MAX_LAGS, context_length, _MAX_REGRESSORS // number, (len(rows) // _MIN_ROWS - 1) // number)

    from statsmodels.tsa.api import VAR as Regression

    best = None
    with without_warnings():  # statsmodels warns of undated rows
        for order in range(1, max(1, max_order) + 1):
            try:  # on the same targets, so that the criteria are comparable
                fit = Regression(standard[max(1, max_order) - order :]).fit(order, trend="c")
                criterion = float(fit.bic)
            except (np.linalg.LinAlgError, ValueError):  # no criterion for collinear channels
                continue
            if np.isfinite(criterion) and (best is None or criterion < best[0]):
                best = criterion, order
        if best is None:
            return None
        fit = Regression(standard).fit(best[1], trend="c")
    return _Fit(location, scale, channels, torch.from_numpy(fit.intercept), torch.from_numpy(fit.coefs))

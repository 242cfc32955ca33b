r"""Naive baselines: last value, seasonal naive and drift."""

from __future__ import annotations

__all__ = ["Drift", "LastValue", "SeasonalNaive"]

from abc import abstractmethod

import torch
from torch import Tensor

from ...data.windows import Windows
from .base import Baseline, last_observed


class _ContextBaseline(Baseline):
    r"""Baseline without parameters: its point forecast is a function of the context."""

    @abstractmethod
    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Return point forecasts of the steps after a context.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`; NaN for channels without observations in
                the context.
        """

    def forecast(self, windows: Windows) -> Tensor:
        return self.point(windows.past(torch.float64), windows.prediction_length)


class LastValue(_ContextBaseline):
    r"""Last value: the last observed value is the forecast of all steps.

    Also called the naive or random walk forecast. The width of the predictive distribution grows with the horizon step
    as its errors in the fit did. A channel without observations in the context is forecast as the median of the fit.
    """

    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Repeat the last observed value.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`.
        """
        return last_observed(past, 1).unsqueeze(1).expand(-1, prediction_length, -1)


class SeasonalNaive(_ContextBaseline):
    r"""Seasonal naive: each step is forecast as the last observed value at its season index.

    A season index without observations in the context takes the last value, as in `LastValue`.

    Arguments:
        season_length: The number of steps of a season; 1 makes it `LastValue`.
    """

    def __init__(self, season_length: int) -> None:
        if season_length < 1:
            raise ValueError(f"expected a season_length of 1 or more steps, got {season_length}")
        self.season_length = season_length

    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Repeat the last observed value at each season index.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`.
        """
        missing = -past.shape[1] % self.season_length
        padded = torch.nn.functional.pad(past, (0, 0, missing, 0), value=torch.nan)
        seasons = padded.view(len(past), -1, self.season_length, past.shape[2])
        season = last_observed(seasons, 1)  # (n, season, D)
        season = torch.where(season.isnan(), last_observed(past, 1).unsqueeze(1), season)
        return season[:, torch.arange(prediction_length) % self.season_length]


class Drift(_ContextBaseline):
    r"""Drift: extrapolation of the line through the first and the last observed value of the context.

    .. math:: \hat y_h = x_b + (b' + h) \frac{x_b - x_a}{b - a}

    with :math:`x_a` the first and :math:`x_b` the last observed value, the latter :math:`b'` steps before the end of
    the context. A single observed value has slope zero.

    References:
        | Forecasting: Principles and Practice (Hyndman and Athanasopoulos, 2021), 5.2
        | https://otexts.com/fpp3/simple-methods.html
    """

    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Extrapolate the line.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`.
        """
        length = past.shape[1]
        last, first = last_observed(past, 1), last_observed(past.flip(1), 1)  # (n, D)
        steps = torch.arange(length, dtype=past.dtype)[:, None].where(~past.isnan(), torch.nan)
        last_step, first_step = last_observed(steps, 1), last_observed(steps.flip(1), 1)
        slope = (last - first) / (last_step - first_step).clamp(min=1)  # zero for a single value
        ahead = torch.arange(length, length + prediction_length)[:, None] - last_step.unsqueeze(1)  # (n, H, D)
        return last.unsqueeze(1) + slope.unsqueeze(1) * ahead

r"""Forecasts that cost nothing, and that a model has to beat: the last value, the last season, the line so far."""

from __future__ import annotations

__all__ = ["Drift", "LastValue", "SeasonalNaive"]

from abc import abstractmethod

import torch
from torch import Tensor

from ...data.windows import Windows
from .base import Baseline, last_seen


class _OfContext(Baseline):
    r"""A baseline without parameters: its point forecast is made of the context alone."""

    @abstractmethod
    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Forecasts the steps after a context.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`; NaN for a channel of which a context shows nothing.
        """

    def forecast(self, windows: Windows) -> Tensor:
        return self.point(windows.past(torch.float64), windows.prediction_length)


class LastValue(_OfContext):
    r"""The last value seen stays. Its law widens with the lead as its errors in the fit part did.

    Also called the random walk, naive or repeat forecast. A missing last step looks further back; a channel of which
    the context shows nothing is forecast as the median of the fit part.
    """

    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Repeats the last value seen.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`.
        """
        return last_seen(past, 1).unsqueeze(1).expand(-1, prediction_length, -1)


class SeasonalNaive(_OfContext):
    r"""The last season repeats: each step is the last value seen at its phase.

    A phase that the context does not show (all missing, or a context shorter than a season) takes the last value, as
    `LastValue` does.

    Arguments:
        season_length: The number of steps of a season; 1 makes it `LastValue`.
    """

    def __init__(self, season_length: int) -> None:
        if season_length < 1:
            raise ValueError(f"expected a season_length of 1 or more steps, got {season_length}")
        self.season_length = season_length

    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Repeats the last value seen at each phase of the season.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`.
        """
        missing = -past.shape[1] % self.season_length
        padded = torch.nn.functional.pad(past, (0, 0, missing, 0), value=torch.nan)
        seasons = padded.view(len(past), -1, self.season_length, past.shape[2])
        season = last_seen(seasons, 1)  # (n, season, D)
        season = torch.where(season.isnan(), last_seen(past, 1).unsqueeze(1), season)
        return season[:, torch.arange(prediction_length) % self.season_length]


class Drift(_OfContext):
    r"""The line through the first and the last value of the context goes on: the last value and the mean slope so far.

    .. math:: \hat y_h = x_b + (b' + h) \frac{x_b - x_a}{b - a}

    with :math:`x_a` the first and :math:`x_b` the last value seen, the latter :math:`b'` steps before the context's
    end. A single value seen has no slope.

    References:
        | Forecasting: Principles and Practice (Hyndman and Athanasopoulos, 2021), 5.2
        | https://otexts.com/fpp3/simple-methods.html
    """

    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Draws the line on.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`.
        """
        length = past.shape[1]
        last, first = last_seen(past, 1), last_seen(past.flip(1), 1)  # (n, D)
        steps = torch.arange(length, dtype=past.dtype)[:, None].where(~past.isnan(), torch.nan)
        at, since = last_seen(steps, 1), last_seen(steps.flip(1), 1)
        slope = (last - first) / (at - since).clamp(min=1)  # of a single value: none
        ahead = torch.arange(length, length + prediction_length)[:, None] - at.unsqueeze(1)  # (n, H, D)
        return last.unsqueeze(1) + slope.unsqueeze(1) * ahead

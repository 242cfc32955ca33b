r"""Forecasts that cost nothing, and that a model has to beat: the last value, and the last season again."""

from __future__ import annotations

__all__ = ["LastValue", "SeasonalNaive"]

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..distribution.copula import Independent
from ..distribution.law import Law
from ..distribution.quantiles import LEVELS, QuantileFunction
from ..windows import Windows

_BATCH = 256  # windows whose residuals are taken at a time


class _Naive(ABC):
    r"""A point forecast made of the context alone, spread by its own errors on the windows that it was fitted on.

    Windows come in raw units, so that all is computed in double precision.
    """

    residuals: Tensor  # (H, D, Q)
    fallback: Tensor  # (D,), where a context shows nothing of a channel

    @abstractmethod
    def point(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Forecasts the steps after a context.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN is missing.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`; NaN for a channel of which a context shows nothing.
        """

    def fit(self, windows: Windows) -> Self:
        r"""Takes the quantiles of the errors for each lead and channel.

        Arguments:
            windows: Windows of the fit part, in the units of the law to come. Missing targets are skipped.

        Returns:
            The baseline itself.

        Raises:
            ValueError: If there is no window.
        """
        if len(windows) == 0:
            raise ValueError("a baseline takes the quantiles of its errors from windows of the fit part, got none")
        errors, seen = [], []
        for start in range(0, len(windows), _BATCH):
            batch = windows[start : start + _BATCH]
            future = batch.future(torch.float64)
            errors.append(future - self.point(batch.past(torch.float64), windows.prediction_length))
            seen.append(future.flatten(0, 1))
        self.fallback = torch.cat(seen).nanmedian(dim=0).values.nan_to_num(0.0)
        # One lead at a time: the sort of a quantile would else double what all the errors take.
        leads = torch.cat(errors).unbind(1)
        quantiles = [np.nanquantile(_seen(error), LEVELS, axis=0) for error in leads]  # (Q, D) each
        self.residuals = torch.from_numpy(np.stack(quantiles)).movedim(1, -1)
        return self

    def law(self, windows: Windows) -> Law:
        r"""The predictive law: the point forecast plus the errors of the fit part, all cells independent.

        Arguments:
            windows: The windows to forecast, in the units of those fitted.

        Returns:
            The law, free of NaN.
        """
        horizon, channels, _ = self.residuals.shape
        point = self.point(windows.past(torch.float64), windows.prediction_length)
        point = torch.where(point.isnan(), self.fallback, point)
        values = point.unsqueeze(-1) + self.residuals  # (n, H, D, Q)
        return Law(QuantileFunction(LEVELS, values), Independent(horizon, channels))


def _seen(errors: Tensor) -> np.ndarray:
    r"""Errors (n, D), where a channel without any error has an error of zero."""
    seen: np.ndarray = errors.where(~errors.isnan().all(0), 0.0).numpy()
    return seen


class LastValue(_Naive):
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
        return _last_seen(past, 1).unsqueeze(1).expand(-1, prediction_length, -1)


class SeasonalNaive(_Naive):
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
        season = _last_seen(seasons, 1)  # (n, season, D)
        season = torch.where(season.isnan(), _last_seen(past, 1).unsqueeze(1), season)
        return season[:, torch.arange(prediction_length) % self.season_length]


def _last_seen(x: Tensor, dim: int) -> Tensor:
    r"""The last entry along an axis that is not NaN; NaN where all are."""
    steps = torch.arange(x.shape[dim]).view(-1, *[1] * (x.ndim - dim - 1))
    last = steps.where(~x.isnan(), 0).amax(dim, keepdim=True)
    return x.gather(dim, last).squeeze(dim)

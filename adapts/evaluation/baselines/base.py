r"""What every baseline shares: a point forecast from the context, spread by its own errors on the fit part."""

from __future__ import annotations

__all__ = ["Baseline", "filled_forward", "last_seen", "split_later"]

import math
from abc import ABC, abstractmethod
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ...copulas.independent import Independent
from ...data.windows import Windows
from ...distribution.joint import JointDistribution
from ...distribution.levels import LEVELS
from ...distribution.quantile_function import QuantileFunction

LATER = 0.2  # the share of the fit part's time, its end, in which a baseline that learns is judged
_BATCH = 256  # windows whose residuals are taken at a time


class Baseline(ABC):
    r"""A point forecast made of the context, spread by its own errors on the windows that it was fitted on.

    Windows come in raw units, so that all is computed in double precision.
    """

    residuals: Tensor  # (H, D, Q)
    fallback: Tensor  # (D,), where a context shows nothing of a channel

    @abstractmethod
    def forecast(self, windows: Windows) -> Tensor:
        r"""Forecasts the steps after the contexts of windows.

        Arguments:
            windows: The windows, in the units of those fitted. NaN is missing.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`; NaN for a channel of which a context shows nothing.
        """

    def learn(self, windows: Windows) -> Windows:
        r"""Learns what the point forecast is made of; a baseline without parameters learns nothing.

        Arguments:
            windows: The windows of the fit part.

        Returns:
            Those of them whose errors tell how wide the law is.
        """
        return windows

    def fit(self, windows: Windows) -> Self:
        r"""Learns the point forecast, and takes the quantiles of its errors for each lead and channel.

        Arguments:
            windows: Windows of the fit part, in the units of the law to come. Missing targets are skipped.

        Returns:
            The baseline itself.

        Raises:
            ValueError: If there is no window.
        """
        if len(windows) == 0:
            raise ValueError("a baseline takes the quantiles of its errors from windows of the fit part, got none")
        judged = self.learn(windows)
        errors, seen = [], []
        for start in range(0, len(judged), _BATCH):
            batch = judged[start : start + _BATCH]
            future = batch.future(torch.float64)
            errors.append(future - self.forecast(batch))
            seen.append(future.flatten(0, 1))
        self.fallback = torch.cat(seen).nanmedian(dim=0).values.nan_to_num(0.0)
        # One lead at a time: the sort of a quantile would else double what all the errors take.
        leads = torch.cat(errors).unbind(1)
        quantiles = [np.nanquantile(_seen(error), LEVELS, axis=0) for error in leads]  # (Q, D) each
        self.residuals = torch.from_numpy(np.stack(quantiles)).movedim(1, -1)
        return self

    def joint_distribution(self, windows: Windows) -> JointDistribution:
        r"""The predictive law: the point forecast plus the errors of the fit part, all cells independent.

        Arguments:
            windows: The windows to forecast, in the units of those fitted.

        Returns:
            The law, free of NaN.
        """
        horizon, channels, _ = self.residuals.shape
        point = self.forecast(windows)
        point = torch.where(point.isnan(), self.fallback, point)
        values = point.unsqueeze(-1) + self.residuals  # (n, H, D, Q)
        return JointDistribution(QuantileFunction(LEVELS, values), Independent(horizon, channels))


def _seen(errors: Tensor) -> np.ndarray:
    r"""Errors (n, D), where a channel without any error has an error of zero."""
    seen: np.ndarray = errors.where(~errors.isnan().all(0), 0.0).numpy()
    return seen


def split_later(windows: Windows) -> tuple[Windows, Windows]:
    r"""Parts windows in time, so that a baseline can be judged where it has not learned.

    Arguments:
        windows: The windows of the fit part.

    Returns:
        The windows whose targets end before the last fifth of the fit part's time, and those that begin in it. Of too
        short a part: none, and all.
    """
    time, horizon = windows.time.step, windows.prediction_length
    cut = time.min() + math.ceil((1 - LATER) * (time.max() + horizon - time.min()))
    early, late = time + horizon <= cut, time >= cut
    return (windows[early], windows[late]) if early.any() and late.any() else (windows[:0], windows)


def last_seen(x: Tensor, dim: int) -> Tensor:
    r"""The last entry along an axis that is not missing.

    Arguments:
        x: Values, NaN where missing.
        dim: The axis.

    Returns:
        The entries, without the axis; NaN where all are.
    """
    steps = torch.arange(x.shape[dim]).view(-1, *[1] * (x.ndim - dim - 1))
    last = steps.where(~x.isnan(), 0).amax(dim, keepdim=True)
    return x.gather(dim, last).squeeze(dim)


def filled_forward(x: Tensor) -> Tensor:
    r"""Puts the last value seen where one is missing.

    Arguments:
        x: Values with shape :math:`(n, L, D)`, NaN where missing.

    Returns:
        The values; NaN only before the first one seen.
    """
    steps = torch.arange(x.shape[1])[:, None]
    return x.gather(1, steps.where(~x.isnan(), 0).cummax(1).values)

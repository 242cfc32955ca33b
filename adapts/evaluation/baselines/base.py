r"""Base class of baselines: a point forecast from the context, plus the distribution of its errors."""

from __future__ import annotations

__all__ = ["Baseline", "forward_filled", "last_observed", "split_validation"]

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

VALIDATION = 0.2  # the final fraction of the fit's time span, for the errors of baselines with parameters
_BATCH = 256  # the number of windows per batch


class Baseline(ABC):
    r"""Baseline: a point forecast from the context, with the distribution of its errors on the windows of the fit.

    Windows are in the caller's units, so everything is computed in double precision.
    """

    residuals: Tensor  # (H, D, Q)
    fallback: Tensor  # (D,), for channels without observations in the context

    @abstractmethod
    def forecast(self, windows: Windows) -> Tensor:
        r"""Return point forecasts of windows.

        Arguments:
            windows: The windows, in the units of the fit. NaN is missing.

        Returns:
            The forecasts, with shape :math:`(n, H, D)`; NaN for channels without observations in
                the context.
        """

    def fit_point(self, windows: Windows) -> Windows:
        r"""Fit the parameters of the point forecast, if there are any.

        Arguments:
            windows: The windows of the fit.

        Returns:
            The windows whose errors determine the width of the predictive distribution.
        """
        return windows

    def fit(self, windows: Windows) -> Self:
        r"""Fit the point forecast, and the quantiles of its errors per horizon step and channel.

        Arguments:
            windows: The windows of the fit, in the units of the forecasts. Missing targets are skipped.

        Returns:
            The baseline itself.

        Raises:
            ValueError: If there is no window.
        """
        if len(windows) == 0:
            raise ValueError("a baseline expects one window or more to fit on, got none: pass more rows")
        error_windows = self.fit_point(windows)
        errors, observed = [], []
        for start in range(0, len(error_windows), _BATCH):
            batch = error_windows[start : start + _BATCH]
            future = batch.future(torch.float64)
            errors.append(future - self.forecast(batch))
            observed.append(future.flatten(0, 1))
        self.fallback = torch.cat(observed).nanmedian(dim=0).values.nan_to_num(0.0)
        # One horizon step at a time, as the sort for quantiles would double the memory of all errors.
        steps = torch.cat(errors).unbind(1)
        quantiles = [np.nanquantile(_filled(error), LEVELS, axis=0) for error in steps]  # (Q, D) each
        self.residuals = torch.from_numpy(np.stack(quantiles)).movedim(1, -1)
        return self

    def joint_distribution(self, windows: Windows) -> JointDistribution:
        r"""Return the predictive distribution: the point forecast plus the errors of the fit, with independent cells.

        Arguments:
            windows: The windows to forecast, in the units of the fit.

        Returns:
            The distribution, free of NaN.
        """
        horizon, channels, _ = self.residuals.shape
        point = self.forecast(windows)
        point = torch.where(point.isnan(), self.fallback, point)
        values = point.unsqueeze(-1) + self.residuals  # (n, H, D, Q)
        return JointDistribution(QuantileFunction(LEVELS, values), Independent(horizon, channels))


def _filled(errors: Tensor) -> np.ndarray:
    r"""Return errors (n, D), with zeros for a channel without observations."""
    filled: np.ndarray = errors.where(~errors.isnan().all(0), 0.0).numpy()
    return filled


def split_validation(windows: Windows) -> tuple[Windows, Windows]:
    r"""Split windows in time, for errors of a baseline out of sample.

    Arguments:
        windows: The windows of the fit.

    Returns:
        The windows whose targets end before the last fifth of the time span, and those that begin in it. None and all
        if the time span is too short.
    """
    time, horizon = windows.time.step, windows.prediction_length
    cut = time.min() + math.ceil((1 - VALIDATION) * (time.max() + horizon - time.min()))
    early, late = time + horizon <= cut, time >= cut
    return (windows[early], windows[late]) if early.any() and late.any() else (windows[:0], windows)


def last_observed(x: Tensor, dim: int) -> Tensor:
    r"""Return the last observed entry along an axis.

    Arguments:
        x: The values. NaN is missing.
        dim: The axis.

    Returns:
        The entries, without the axis; NaN if all entries are missing.
    """
    steps = torch.arange(x.shape[dim]).view(-1, *[1] * (x.ndim - dim - 1))
    last = steps.where(~x.isnan(), 0).amax(dim, keepdim=True)
    return x.gather(dim, last).squeeze(dim)


def forward_filled(x: Tensor) -> Tensor:
    r"""Replace missing values by the last observed value.

    Arguments:
        x: The values, with shape :math:`(n, L, D)`. NaN is missing.

    Returns:
        The values; NaN only before the first observed one.
    """
    steps = torch.arange(x.shape[1])[:, None]
    return x.gather(1, steps.where(~x.isnan(), 0).cummax(1).values)

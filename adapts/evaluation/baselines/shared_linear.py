r"""Base class of ridge regressions of the target steps on the context, shared by all channels."""

from __future__ import annotations

__all__ = ["SharedLinear", "ridge_solver"]

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ...data.windows import Windows
from ...statistics.ridge import RidgePath
from .base import Baseline, split_validation

_STRENGTHS = (
    *(10.0 ** np.arange(-6, 2.1, 0.5)),
    math.inf,
)  # times the mean eigenvalue; infinity: no regressor counts
_BATCH = 256


class SharedLinear(Baseline):
    r"""Abstract ridge regression of the target steps on the context, with one matrix for all channels.

    A channel counts in units of its standard deviation. The strength is selected on the last fifth of the fit, for a
    solution on the earlier windows. The out-of-sample errors of this solution determine the width of the predictive
    distribution. Then the solution is refitted to all windows. Windows of a channel with missing targets are not used.
    """

    weights: Tensor  # (R, H)
    scale: Tensor  # (D,)
    strength: float

    @abstractmethod
    def regressors(self, windows: Windows) -> tuple[Tensor, Tensor]:
        r"""Return what the targets are regressed on, and what is subtracted from them.

        Arguments:
            windows: The windows. NaN is missing.

        Returns:
            The regressors in the channels' units, without NaN, with shape :math:`(n, R, D)`, and the level of each
            channel, with shape :math:`(n, 1, D)`; NaN for channels without observations in the context.
        """

    def solver(self, gram: Tensor, cross: Tensor) -> Callable[[float], Tensor]:
        r"""Return a function that solves the ridge regression at a strength.

        Arguments:
            gram: The sum of :math:`x x^\top` over windows and channels, with shape :math:`(R, R)`.
            cross: The sum of :math:`x y^\top`, with shape :math:`(R, H)`.

        Returns:
            The function, of a strength in units of the mean eigenvalue, that returns the weights of the regressors,
            with shape :math:`(R, H)`.
        """
        return ridge_solver(gram, cross)

    def prepare(self, windows: Windows) -> None:
        r"""Determine the units of the regression.

        Arguments:
            windows: The windows of the fit.
        """
        self.scale = _deviations(windows)

    def forecast(self, windows: Windows) -> Tensor:
        x, level = self.regressors(windows)
        return level + torch.einsum("nrd,rh->nhd", x, self.weights)

    def fit_point(self, windows: Windows) -> Windows:
        early, late = split_validation(windows)
        self.prepare(windows)
        gram, cross, square = self._moments(late)
        solve = self.solver(*self._moments(early)[:2])

        def error(strength: float) -> float:
            weights = solve(strength)
            return float(square - 2 * (weights * cross).sum() + (weights * (gram @ weights)).sum())

        # the strongest among equal errors; no regressor without earlier windows
        self.strength = min(reversed(_STRENGTHS), key=error) if len(early) else math.inf
        self.weights = solve(self.strength)
        return late

    def fit(self, windows: Windows) -> Self:
        super().fit(windows)  # the width follows from out-of-sample errors
        self.weights = self.solver(*self._moments(windows)[:2])(self.strength)
        return self

    def _moments(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the sums X'X (R, R), X'Y (R, H) and |Y|^2 over windows and channels."""
        size, horizon = self.regressors(windows[:0])[0].shape[1], windows.prediction_length
        gram, cross = (torch.zeros(size, columns, dtype=torch.float64) for columns in (size, horizon))
        square = torch.zeros((), dtype=torch.float64)
        for start in range(0, len(windows), _BATCH):
            batch = windows[start : start + _BATCH]
            past, level = self.regressors(batch)
            x = (past / self.scale).mT.flatten(0, 1)  # (n*D, R)
            y = ((batch.future(torch.float64) - level) / self.scale).mT.flatten(0, 1)  # (n*D, H)
            complete = ~y.isnan().any(-1)
            x, y = x[complete], y[complete]
            gram += x.mT @ x
            cross += x.mT @ y
            square += y.square().sum()
        return gram, cross, square


def ridge_solver(gram: Tensor, cross: Tensor) -> Callable[[float], Tensor]:
    r"""Return a function that solves a ridge regression at a strength, in units of the mean eigenvalue.

    Arguments:
        gram: The matrix :math:`X^\top X`, with shape :math:`(p, p)`.
        cross: The matrix :math:`X^\top Y`, with shape :math:`(p, q)`.
    """
    path, mean = RidgePath(gram, cross), float(gram.diagonal().mean())
    unit = mean if mean > 0 else 1.0  # without data
    return lambda strength: path.solve(strength * unit)


def _deviations(windows: Windows) -> Tensor:
    r"""Return the standard deviation of each channel's targets, with shape (D,); 1 if constant or unobserved."""
    future = windows.future(torch.float64).flatten(0, 1)
    count = (~future.isnan()).sum(0)
    variance = (future - future.nanmean(0)).square().nansum(0) / count.clamp(min=1)
    return variance.sqrt().where(variance > 0, 1.0)

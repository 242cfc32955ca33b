r"""NLinear in closed form: one linear map for all channels, of contexts relative to their last value."""

from __future__ import annotations

__all__ = ["NLinear"]

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ...data.windows import Windows
from ...statistics.ridge import RidgePath
from .base import Baseline, forward_filled, last_observed, split_validation

_STRENGTHS = (
    *(10.0 ** np.arange(-6, 2.1, 0.5)),
    math.inf,
)  # times the mean eigenvalue; infinity: last value
_BATCH = 256


class NLinear(Baseline):
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

    weights: Tensor  # (L, H)
    scale: Tensor  # (D,)
    strength: float

    def forecast(self, windows: Windows) -> Tensor:
        past, last = _relative_to_last(windows)  # (n, L, D), (n, 1, D)
        return last + torch.einsum("nld,lh->nhd", past, self.weights)

    def fit_point(self, windows: Windows) -> Windows:
        early, late = split_validation(windows)
        self.scale = _deviations(windows)
        path, unit = self._path(early)
        gram, cross, square = self._moments(late)

        def error(strength: float) -> float:
            weights = path.solve(strength * unit)
            return float(square - 2 * (weights * cross).sum() + (weights * (gram @ weights)).sum())

        # the strongest among equal errors; the last value without earlier windows
        self.strength = min(reversed(_STRENGTHS), key=error) if len(early) else math.inf
        self.weights = path.solve(self.strength * unit)
        return late

    def fit(self, windows: Windows) -> Self:
        super().fit(windows)  # the width follows from out-of-sample errors
        path, unit = self._path(windows)
        self.weights = path.solve(self.strength * unit)
        return self

    def _path(self, windows: Windows) -> tuple[RidgePath, float]:
        r"""Return the ridge path, and the mean eigenvalue, the unit of strengths."""
        gram, cross, _ = self._moments(windows)
        mean = float(gram.diagonal().mean())
        return RidgePath(gram, cross), mean if mean > 0 else 1.0

    def _moments(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the sums X'X (L, L), X'Y (L, H) and |Y|^2 over windows and channels."""
        length, horizon = windows.context_length, windows.prediction_length
        gram, cross = (torch.zeros(length, columns, dtype=torch.float64) for columns in (length, horizon))
        square = torch.zeros((), dtype=torch.float64)
        for start in range(0, len(windows), _BATCH):
            batch = windows[start : start + _BATCH]
            past, last = _relative_to_last(batch)
            x = (past / self.scale).mT.flatten(0, 1)  # (n*D, L)
            y = ((batch.future(torch.float64) - last) / self.scale).mT.flatten(0, 1)  # (n*D, H)
            complete = ~y.isnan().any(-1)
            x, y = x[complete], y[complete]
            gram += x.mT @ x
            cross += x.mT @ y
            square += y.square().sum()
        return gram, cross, square


def _relative_to_last(windows: Windows) -> tuple[Tensor, Tensor]:
    r"""Return contexts (n, L, D) relative to their last value (n, 1, D), which is NaN without observations."""
    past = windows.past(torch.float64)
    last = last_observed(past, 1).unsqueeze(1)
    return (forward_filled(past) - last).nan_to_num(0.0), last


def _deviations(windows: Windows) -> Tensor:
    r"""Return the standard deviation of each channel's targets, with shape (D,); 1 if constant or unobserved."""
    future = windows.future(torch.float64).flatten(0, 1)
    count = (~future.isnan()).sum(0)
    variance = (future - future.nanmean(0)).square().nansum(0) / count.clamp(min=1)
    return variance.sqrt().where(variance > 0, 1.0)

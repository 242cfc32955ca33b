r"""What families know of windows beside the latent forecasts."""

from __future__ import annotations

__all__ = ["RegressionData", "State"]

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class State:
    r"""What `decode` needs to know about the windows that `encode` received.

    Arguments:
        past: The standardised past, with shape :math:`(B, L, D)`. NaN marks a missing step.
        location: The windows' locations, with shape :math:`(B, 1, D)`.
        scale: The windows' scales, with shape :math:`(B, 1, D)`; positive.
        draws: The number of draws :math:`M` of a stochastic adapter; 1 for a deterministic one.
        drawn: The drawn tensors by name, shared by encoding and decoding.
        generator: The random generator for what encoding still draws; PyTorch's own if None.
        forecast: The frozen model's median forecasts of the observed channels, with shape :math:`(B, H, D)`, where the
            family declares `needs_forecast`.
        quantiles: Its quantiles of the observed channels, with shape :math:`(B, H, D, Q)`, where the family declares
            `needs_quantiles`.
        known: The standardised known covariates of the context and of the :math:`H` target steps, with shape
            :math:`(B, L + H, C)`, where the family declares `needs_known` and the panel has any; 0 where missing.
        calendar: Sines and cosines of the time of the first target step, with shape :math:`(B, C)`, where the family
            declares `needs_calendar` and a cycle is longer than the context (`adapts.data.calendar.unseen_cycles`).
        further: The quantiles of further frozen models at the same levels, with shape :math:`(B, H, D, Q, F)`, where
            the built family averages any.
    """

    past: Tensor
    location: Tensor
    scale: Tensor
    draws: int = 1
    drawn: dict[str, Tensor] = field(default_factory=dict)
    generator: torch.Generator | None = None
    forecast: Tensor | None = None
    quantiles: Tensor | None = None
    known: Tensor | None = None
    calendar: Tensor | None = None
    further: Tensor | None = None


@dataclass(frozen=True)
class RegressionData:
    r"""Regression data of a closed form: windows, their targets and the frozen model's forecasts.

    Arguments:
        past: The standardised past, with shape :math:`(n, L, D)`.
        future: The standardised targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        forecast: The frozen model's median forecasts of the latent channels, with shape :math:`(n, H, K)`.
        fold: The fold of each window in blocked cross-validation, a block of time, with shape :math:`(n,)`. It is -1,
            no fold, for windows whose targets straddle two blocks. Not used where nothing is selected.
        quantiles: The frozen model's quantiles of the observed channels, with shape :math:`(n, H, D, Q)`, where the
            family declares `needs_quantiles`.
        known: The known covariates, as in `State`, with shape :math:`(n, L + H, C)`.
        calendar: The calendar, as in `State`, with shape :math:`(n, C)`.
    """

    past: Tensor
    future: Tensor
    forecast: Tensor
    fold: Tensor
    quantiles: Tensor | None = None
    known: Tensor | None = None
    calendar: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> RegressionData:
        r"""Return some of the windows."""
        optional = (None if x is None else x[rows] for x in (self.quantiles, self.known, self.calendar))
        fold = self.fold[rows] if len(self.fold) else self.fold
        return RegressionData(self.past[rows], self.future[rows], self.forecast[rows], fold, *optional)

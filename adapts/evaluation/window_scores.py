r"""Scores of windows, one function each: of cells, and of joint distributions."""

from __future__ import annotations

__all__ = ["Scored"]

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..distribution.joint import JointDistribution
from . import scores


@dataclass(frozen=True)
class Scored:
    r"""A batch of forecasts with the observed values.

    Arguments:
        distribution: The joint distribution of :math:`n` windows.
        future: The observed values, with shape :math:`(n, H, D)`. NaN is missing.
        pit: The randomised probability integral transforms, with shape :math:`(n, H, D)`; NaN of constant channels.
        samples: Independent samples, with shape :math:`(S, n, H, D)`.
        location: The location of each channel, with shape :math:`(D,)`.
        scale: The scale of each channel, with shape :math:`(D,)`.
        naive_error: The in-sample error of the seasonal naive for each window (see `scores.naive_error`), with shape
            :math:`(n, D)`; unknown if None.
    """

    distribution: JointDistribution
    future: Tensor
    pit: Tensor
    samples: Tensor
    location: Tensor
    scale: Tensor
    naive_error: Tensor | None = None

    @cached_property
    def deciles(self) -> Tensor:
        r"""Return the deciles of the marginals, with shape :math:`(n, H, D, 9)`."""
        return self.distribution.marginals.at([*scores.DECILES])

    @cached_property
    def standardised(self) -> tuple[Tensor, Tensor]:
        r"""Return samples and observed values, standardised by the channels' locations and scales."""
        samples, y = (((x - self.location) / self.scale).float() for x in (self.samples, self.future))
        return samples, y


def mse(of: Scored) -> Tensor:
    r"""Return the squared error of the mean.

    Arguments:
        of: The forecasts.
    """
    return (of.distribution.mean.double() - of.future.double()).square()


def mae(of: Scored) -> Tensor:
    r"""Return the absolute error of the median.

    Arguments:
        of: The forecasts.
    """
    return (of.deciles[..., 4].double() - of.future.double()).abs()


def mase(of: Scored) -> Tensor:
    r"""Return the absolute error of the median, relative to the in-sample error of the seasonal naive.

    References:
        | Another look at measures of forecast accuracy (Hyndman and Koehler, 2006)
        | https://doi.org/10.1016/j.ijforecast.2006.03.001

    Arguments:
        of: The forecasts; all scores are NaN if the in-sample errors are unknown.
    """
    if of.naive_error is None:
        return torch.full_like(of.future, torch.nan, dtype=torch.float64)
    return mae(of) / of.naive_error.unsqueeze(1)


def magnitude(of: Scored) -> Tensor:
    r"""Return the absolute observed value.

    Arguments:
        of: The forecasts.
    """
    return of.future.double().abs()


def crps(of: Scored) -> Tensor:
    r"""Return the CRPS, the fair estimate from samples.

    Arguments:
        of: The forecasts.
    """
    return scores.crps_fair(of.samples, of.future)


def wql(of: Scored) -> Tensor:
    r"""Return twice the mean pinball loss of the deciles.

    Arguments:
        of: The forecasts.
    """
    return scores.wql(of.deciles, of.future)


def coverage_80(of: Scored) -> Tensor:
    r"""Return whether the observed value lies in the central 80 % interval.

    Arguments:
        of: The forecasts.
    """
    return scores.coverage(of.pit)


def width_80(of: Scored) -> Tensor:
    r"""Return the width of the central 80 % interval.

    Arguments:
        of: The forecasts.
    """
    width = (of.deciles[..., -1] - of.deciles[..., 0]).double()
    return width.masked_fill(of.future.isnan(), float("nan"))


def interval_score_80(of: Scored) -> Tensor:
    r"""Return the interval score of the central 80 % interval.

    Arguments:
        of: The forecasts.
    """
    return scores.interval_score(of.deciles[..., 0], of.deciles[..., -1], of.future, 0.8)


def energy_score(of: Scored) -> Tensor:
    r"""Return the energy score over all cells.

    Arguments:
        of: The forecasts.
    """
    samples, y = of.standardised
    return scores.energy_score(samples.flatten(2), y.flatten(1))


def variogram_channels(of: Scored) -> Tensor:
    r"""Return the variogram score over the channels of each step, mean over steps.

    Arguments:
        of: The forecasts.
    """
    samples, y = of.standardised
    return scores.variogram_score(samples.flatten(1, 2), y.flatten(0, 1)).view(len(y), -1).nanmean(1)


def variogram_time(of: Scored) -> Tensor:
    r"""Return the variogram score over the steps of each channel, mean over channels.

    Arguments:
        of: The forecasts.
    """
    samples, y = of.standardised
    return scores.variogram_score(samples.mT.flatten(1, 2), y.mT.flatten(0, 1)).view(len(y), -1).nanmean(1)


def crps_sum(of: Scored) -> Tensor:
    r"""Return the CRPS of the sum of the channels, mean over steps.

    Arguments:
        of: The forecasts.
    """
    samples, y = of.standardised
    return scores.crps_sum(samples, y).nanmean(1)

r"""Tails beyond a model's outer quantiles, fitted to past exceedances."""

from __future__ import annotations

__all__ = ["Tails"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..distribution.levels import nonconformity_of_levels
from ..distribution.quantile_function import QuantileFunction
from ..statistics.losses import pinball_loss

_MIN_EXCEEDANCES = 50  # minimum effective number of exceedances for a fit
_CRITICAL = 6.0  # critical value of the likelihood ratio for two parameters: 95 % of chi-squared is 5.99
_MIN_SHAPE, _MAX_SHAPE = -0.95, 0.9  # shapes: the likelihood is unbounded below -1, the mean infinite from 1 on
_FRACTIONS = (0.5, 0.25, 0.1, 0.03, 0.01, 0.001)  # fractions of an outer tail's probability that get a quantile
_NUM_SCORED = 5  # number of these exceeded often enough to score a tail
_GRID_SIZE = 400  # grid size of the profile likelihood, over ratios of shape and scale


@dataclass(frozen=True)
class Tails:
    r"""Generalised Pareto tails beyond the outer quantiles of marginals.

    A quantile function extrapolates exponentially beyond its outer quantiles, with a scale taken from its outer
    segments (`QuantileFunction.tail_scale`). In units of that scale, exceedances have mean 1 if the extrapolation is
    correct. The generalised Pareto distribution is fitted to past exceedances in these units, pooled over all cells:

    .. math:: P(X > x) = (1 + \xi x / \beta)^{-1 / \xi}

    Quantiles within the outer ones do not change.

    References:
        | Residual Life Time at Great Age (Balkema and de Haan, 1974)
        | Statistical Inference Using Extreme Order Statistics (Pickands, 1975)
        | Computing Maximum Likelihood Estimates for the Generalized Pareto Distribution (Grimshaw, 1993)

    Arguments:
        values: The shape :math:`\xi` and the scale :math:`\beta` of the lower and the upper tail of each channel, with
            shape :math:`(D, 2, 2)`.
    """

    values: Tensor

    @staticmethod
    def fit(marginals: QuantileFunction, future: Tensor, num_effective: float) -> Tails | None:
        r"""Fit tails to observed values.

        Likelihood-ratio tests, pooled over channels, decide whether the tails change and whether both sides differ. The
        tests scale the likelihood to the effective sample size.

        Random variation of the scales between windows makes pooled excesses look heavier than those of any window. So
        each side selects among three candidates: the maximum-likelihood tail, an exponential tail with the mean excess,
        and the unchanged tail. The criterion is the quantile loss beyond the outer quantile, averaged over channels. A
        channel that loses by the selected tail takes its own best candidate. The maximum-likelihood fit excludes
        channels whose loss it raises.

        Arguments:
            marginals: The marginals of :math:`n` windows, with batch shape :math:`(n, H, D)`.
            future: The observed values, with shape :math:`(n, H, D)`. NaN marks a value to ignore.
            num_effective: The effective sample size in windows (see `effective_sample_size`).

        Returns:
            The tails; None if they do not change.
        """
        channels = future.shape[-1]
        cells = ~marginals.pits(future, torch.Generator().manual_seed(0)).jumps
        pooled = _maximum_likelihood(marginals, future, cells, num_effective)
        if pooled is not None:
            gains = Tails.of(pooled, channels)._losses(marginals, future).amax(0) <= 1  # (D,)
            pooled = _maximum_likelihood(marginals, future, cells & gains, num_effective) if bool(gains.any()) else None
        if pooled is None:
            return None
        unchanged = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        candidates = [
            Tails.of(candidate, channels) for candidate in (unchanged, _exponential(marginals, future, cells), pooled)
        ]
        losses = torch.stack([candidate._losses(marginals, future) for candidate in candidates])  # (3, 2, D)
        best = losses.mean(-1, keepdim=True).argmin(0).expand(2, channels)
        best = torch.where(losses.gather(0, best.unsqueeze(0))[0] <= 1, best, losses.argmin(0))
        values = torch.stack([candidate.values for candidate in candidates])  # (3, D, 2, 2)
        selected = values[best.T, torch.arange(channels).unsqueeze(-1), torch.arange(2)]
        return None if bool((selected == unchanged).all()) else Tails(selected)

    @staticmethod
    def of(values: Tensor, channels: int) -> Tails:
        r"""Return equal tails for all channels.

        Arguments:
            values: The shapes and scales, with shape (2, 2).
            channels: The number of channels :math:`D`.
        """
        return Tails(values.expand(channels, 2, 2))

    def _losses(self, marginals: QuantileFunction, future: Tensor) -> Tensor:
        r"""Return quantile losses (2, D) in the lower and upper tail, relative to the unchanged marginals."""
        fractions = torch.tensor(_FRACTIONS[:_NUM_SCORED], dtype=torch.float64)
        losses = []
        for levels in (marginals.levels[0] * fractions, 1 - (1 - marginals.levels[-1]) * fractions):
            pair = []
            for candidate in (marginals, self.apply(marginals)):
                error = future.unsqueeze(-1) - candidate.at(levels)
                pair.append(pinball_loss(error, levels).double().nanmean((0, 1)))  # (D, m)
            losses.append((pair[1] / pair[0]).nan_to_num(1.0, posinf=1.0).mean(-1))
        return torch.stack(losses)

    def apply(self, marginals: QuantileFunction) -> QuantileFunction:
        r"""Extend marginals by these tails.

        Arguments:
            marginals: The marginals, at the levels used in the fit.

        Returns:
            The marginals, with further levels beyond the outer ones.
        """
        low, high = float(marginals.levels[0]), float(marginals.levels[-1])
        fractions = torch.tensor(_FRACTIONS, dtype=torch.float64)
        (lower, upper), (first, last) = marginals.tail_scales, (marginals.values[..., :1], marginals.values[..., -1:])
        below, above = (
            torch.stack([_quantiles(tail, fractions) for tail in self.values[:, side]]).to(marginals.values)
            for side in (0, 1)
        )  # (D, m)
        values = torch.cat(
            [first - (lower.unsqueeze(-1) * below).flip(-1), marginals.values, last + upper.unsqueeze(-1) * above], -1
        )
        # Rounded, so that equal levels of different grids coincide.
        beneath, beyond = (
            [round(value, 10) for value in tail_levels.tolist()]
            for tail_levels in (low * fractions, 1 - (1 - high) * fractions)
        )
        levels = [*reversed(beneath), *marginals.levels.tolist(), *beyond]
        return QuantileFunction(levels, values, marginals.support)


def _excesses(marginals: QuantileFunction, future: Tensor, cells: Tensor) -> list[Tensor]:
    r"""Return exceedances of selected cells over the lower and upper outer quantiles, in units of the tail scale."""
    scores, edges = marginals.nonconformity(future).double(), nonconformity_of_levels(marginals.levels[[0, -1]])
    lower = future < marginals.at([0.5])[..., 0]
    exceedances = []
    for side, edge in zip((lower, ~lower), edges, strict=True):
        beyond = cells & side & (scores > edge) & (scores < 500)  # the score of a missing observation is NaN
        exceedances.append(5 * (scores[beyond] - edge))  # the score grows by .2 per tail scale
    return exceedances


def _exponential(marginals: QuantileFunction, future: Tensor, cells: Tensor) -> Tensor:
    r"""Return the exponential tails (2, 2) with the mean excesses."""
    means = [float(excesses.mean()) if len(excesses) else 1.0 for excesses in _excesses(marginals, future, cells)]
    return torch.tensor([[0.0, mean] for mean in means], dtype=torch.float64)


def _maximum_likelihood(
    marginals: QuantileFunction, future: Tensor, cells: Tensor, num_effective: float
) -> Tensor | None:
    r"""Return the maximum-likelihood tails (2, 2) pooled over selected cells; None if not significantly different."""
    exceedances = _excesses(marginals, future, cells)
    pooled = torch.cat(exceedances)
    effective_fraction = num_effective / max(1, len(future))
    if effective_fraction * len(pooled) < _MIN_EXCEEDANCES:
        return None
    shared, gain = _pareto(pooled)
    unchanged = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    tails = torch.stack([shared, shared]) if effective_fraction * gain > _CRITICAL else unchanged
    if min(map(len, exceedances)) * effective_fraction >= _MIN_EXCEEDANCES:
        separate, gains = zip(*map(_pareto, exceedances), strict=True)
        if effective_fraction * (sum(gains) - (gain if effective_fraction * gain > _CRITICAL else 0.0)) > _CRITICAL:
            tails = torch.stack(separate)
    return None if bool((tails == unchanged).all()) else tails


def _pareto(excess: Tensor) -> tuple[Tensor, float]:
    r"""Return the Pareto estimate (2,) of excesses (n,) and its likelihood ratio to the unit exponential."""
    largest, mean = float(excess.max()), float(excess.mean())
    ratio = torch.cat([
        -torch.linspace(0.99, 0.01, _GRID_SIZE // 4, dtype=torch.float64) / largest,
        torch.logspace(-3, 1.5, _GRID_SIZE, dtype=torch.float64) / mean,
    ])  # fmt: skip
    shape = torch.stack([(value * excess).log1p().mean() for value in ratio])
    scale = shape / ratio
    log_likelihood = -len(excess) * (scale.log() + shape + 1)
    log_likelihood = log_likelihood.where((shape >= _MIN_SHAPE) & (shape <= _MAX_SHAPE), -torch.inf)
    best = int(log_likelihood.argmax())
    fitted_exponential = -len(excess) * (math.log(mean) + 1)  # the limit of a zero shape
    unit_exponential = -float(excess.sum())
    if fitted_exponential >= float(log_likelihood[best]):
        return torch.tensor([0.0, mean], dtype=torch.float64), 2 * (fitted_exponential - unit_exponential)
    return torch.stack([shape[best], scale[best]]), 2 * (float(log_likelihood[best]) - unit_exponential)


def _quantiles(tail: Tensor, probability: Tensor) -> Tensor:
    r"""Return tail quantiles at exceedance probabilities (m,), given shape and scale (2,)."""
    shape, scale = tail
    exponential = float(shape.abs()) < 1e-9  # exponential
    quantiles: Tensor = (
        -scale * probability.log() if exponential else scale * torch.expm1(-shape * probability.log()) / shape
    )
    return quantiles

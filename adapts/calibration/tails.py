r"""Tails beyond the outer quantiles of a model, as past exceedances tell them."""

from __future__ import annotations

__all__ = ["Tails"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..distribution.quantile_function import QuantileFunction, reach_of_levels

_FEWEST = 50  # exceedances that are worth so many independent ones, the fewest that tell a tail
_SURE = 6.0  # twice the gain in log likelihood that two more parameters must bring: 95 % of chi-squared is 5.99
_LIGHTEST, _HEAVIEST = -0.95, 0.9  # shapes: no likelihood has a maximum below -1, no law a mean from 1 on
_SHARES = (0.5, 0.25, 0.1, 0.03, 0.01, 0.001)  # of what lies beyond an outer level, at which the tail is told
_SCORED = 5  # how many of these are often enough exceeded to score a tail
_TRIED = 400  # ratios of shape and scale that the likelihood is computed at


@dataclass(frozen=True)
class Tails:
    r"""Generalised Pareto tails beyond the outer quantiles of a law.

    A quantile function goes on exponentially beyond its outer quantiles, with the scale that its outer segments tell
    (`QuantileFunction.tail_scale`). In units of that scale, what exceeds an outer quantile has the mean 1 if this is
    right. What past outcomes exceeded by is fitted by a generalised Pareto law, pooled over all cells,

    .. math:: P(X > x) = (1 + \xi x / \beta)^{-1 / \xi}

    Quantiles within the outer ones stay as they are.

    References:
        | Residual Life Time at Great Age (Balkema and de Haan, 1974)
        | Statistical Inference Using Extreme Order Statistics (Pickands, 1975)
        | Computing Maximum Likelihood Estimates for the Generalized Pareto Distribution (Grimshaw, 1993)

    Arguments:
        values: The shape :math:`\xi` and the scale :math:`\beta` of the lower and of the upper tail of each channel,
            with shape :math:`(D, 2, 2)`.
    """

    values: Tensor

    @staticmethod
    def fit(law: QuantileFunction, future: Tensor, worth: float) -> Tails | None:
        r"""Fits tails to outcomes.

        Tails stay as they are where outcomes do not surely tell that they are wrong, and both are one where outcomes do
        not surely tell them apart: by likelihood ratios, as if of independent windows, pooled over channels. Scales
        that move from window to window by chance make excesses look heavier than those of any window are, though. So
        each side takes, of the likeliest tail, an exponential one with the mean excess, and its tail as it is, the one
        with the least quantile loss beyond the outer quantile; a channel that loses by it takes its own best of these,
        and does not count for the others.

        Arguments:
            law: The law of :math:`n` windows, with batch shape :math:`(n, H, D)`.
            future: The outcomes, with shape :math:`(n, H, D)`. NaN marks one that says nothing.
            worth: How many independent windows they hold as much as (see `effective_sample_size`).

        Returns:
            The tails; None where they stay as they are.
        """
        channels = future.shape[-1]
        cells = ~law.pits(future, torch.Generator().manual_seed(0)).jumps
        pooled = _likeliest(law, future, cells, worth)
        if pooled is not None:
            gains = Tails.of(pooled, channels)._losses(law, future).amax(0) <= 1  # (D,)
            pooled = _likeliest(law, future, cells & gains, worth) if bool(gains.any()) else None
        if pooled is None:
            return None
        plain = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        tried = [Tails.of(each, channels) for each in (plain, _exponential(law, future, cells), pooled)]
        losses = torch.stack([each._losses(law, future) for each in tried])  # (3, 2, D)
        best = losses.mean(-1, keepdim=True).argmin(0).expand(2, channels)
        best = torch.where(losses.gather(0, best.unsqueeze(0))[0] <= 1, best, losses.argmin(0))
        values = torch.stack([each.values for each in tried])  # (3, D, 2, 2)
        kept = values[best.T, torch.arange(channels).unsqueeze(-1), torch.arange(2)]
        return None if bool((kept == plain).all()) else Tails(kept)

    @staticmethod
    def of(values: Tensor, channels: int) -> Tails:
        r"""Returns the same tails for all channels.

        Arguments:
            values: Their shapes and scales, with shape (2, 2).
            channels: The number of channels :math:`D`.
        """
        return Tails(values.expand(channels, 2, 2))

    def _losses(self, law: QuantileFunction, future: Tensor) -> Tensor:
        r"""The quantile losses (2, D) below and above: of each level as a share of that of the law as it is."""
        share = torch.tensor(_SHARES[:_SCORED], dtype=torch.float64)
        losses = []
        for levels in (law.levels[0] * share, 1 - (1 - law.levels[-1]) * share):
            of_each = []
            for each in (law, self.apply(law)):
                error = future.unsqueeze(-1) - each.at(levels)
                of_each.append(torch.maximum(levels * error, (levels - 1) * error).double().nanmean((0, 1)))  # (D, m)
            losses.append((of_each[1] / of_each[0]).nan_to_num(1.0, posinf=1.0).mean(-1))
        return torch.stack(losses)

    def apply(self, law: QuantileFunction) -> QuantileFunction:
        r"""Gives margins these tails.

        Arguments:
            law: The margins, at the levels of the law that was fitted.

        Returns:
            The margins, at further levels beyond the outer ones.
        """
        low, high = float(law.levels[0]), float(law.levels[-1])
        share = torch.tensor(_SHARES, dtype=torch.float64)
        (lower, upper), (first, last) = law.tail_scales, (law.values[..., :1], law.values[..., -1:])
        below, above = (
            torch.stack([_quantiles(each, share) for each in self.values[:, side]]).to(law.values) for side in (0, 1)
        )  # (D, m)
        values = torch.cat(
            [first - (lower.unsqueeze(-1) * below).flip(-1), law.values, last + upper.unsqueeze(-1) * above], -1
        )
        # Rounded, so that a level of another grid that means the same number is the same one.
        beneath, beyond = (
            [round(each, 10) for each in some.tolist()] for some in (low * share, 1 - (1 - high) * share)
        )
        levels = [*reversed(beneath), *law.levels.tolist(), *beyond]
        return QuantileFunction(levels, values, law.support)


def _excesses(law: QuantileFunction, future: Tensor, cells: Tensor) -> list[Tensor]:
    r"""By how much outcomes of some cells exceed the outer quantiles, below and above, in units of the tails' scale."""
    reach, edges = law.reach(future).double(), reach_of_levels(law.levels[[0, -1]])
    lower = future < law.at([0.5])[..., 0]
    found = []
    for side, edge in zip((lower, ~lower), edges, strict=True):
        far = cells & side & (reach > edge) & (reach < 500)  # a missing outcome has no reach
        found.append(5 * (reach[far] - edge))  # reach grows by .2 where the mean excess is 1
    return found


def _exponential(law: QuantileFunction, future: Tensor, cells: Tensor) -> Tensor:
    r"""The exponential tails (2, 2) that have the mean excesses."""
    means = [float(each.mean()) if len(each) else 1.0 for each in _excesses(law, future, cells)]
    return torch.tensor([[0.0, mean] for mean in means], dtype=torch.float64)


def _likeliest(law: QuantileFunction, future: Tensor, cells: Tensor, worth: float) -> Tensor | None:
    r"""The likeliest tails (2, 2) of some cells, of all their channels; None where they are not surely other ones."""
    beyond = _excesses(law, future, cells)
    together = torch.cat(beyond)
    share = worth / max(1, len(future))
    if share * len(together) < _FEWEST:
        return None
    common, gain = _pareto(together)
    plain = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    found = torch.stack([common, common]) if share * gain > _SURE else plain
    if min(map(len, beyond)) * share >= _FEWEST:
        apart, gains = zip(*map(_pareto, beyond), strict=True)
        if share * (sum(gains) - (gain if share * gain > _SURE else 0.0)) > _SURE:
            found = torch.stack(apart)
    return None if bool((found == plain).all()) else found


def _pareto(excess: Tensor) -> tuple[Tensor, float]:
    r"""The likeliest shape and scale (2,) for excesses (n,), and twice their gain over an exponential law of mean 1."""
    most, mean = float(excess.max()), float(excess.mean())
    ratio = torch.cat([
        -torch.linspace(0.99, 0.01, _TRIED // 4, dtype=torch.float64) / most,
        torch.logspace(-3, 1.5, _TRIED, dtype=torch.float64) / mean,
    ])  # fmt: skip
    shape = torch.stack([(one * excess).log1p().mean() for one in ratio])
    scale = shape / ratio
    score = -len(excess) * (scale.log() + shape + 1)
    score = score.where((shape >= _LIGHTEST) & (shape <= _HEAVIEST), -torch.inf)
    best = int(score.argmax())
    plain = -len(excess) * (math.log(mean) + 1)  # exponential, the limit of no shape
    exponential = -float(excess.sum())
    if plain >= float(score[best]):
        return torch.tensor([0.0, mean], dtype=torch.float64), 2 * (plain - exponential)
    return torch.stack([shape[best], scale[best]]), 2 * (float(score[best]) - exponential)


def _quantiles(tail: Tensor, share: Tensor) -> Tensor:
    r"""What shares (m,) of exceedances exceed, by the shape and scale (2,) of their law."""
    shape, scale = tail
    even = float(shape.abs()) < 1e-9  # exponential
    found: Tensor = -scale * share.log() if even else scale * torch.expm1(-shape * share.log()) / shape
    return found

r"""Levels of quantile functions: their warp, their segments, and integrals over these."""

from __future__ import annotations

__all__ = ["LEVELS", "nonconformity_of_levels"]

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

#: The default level grid: a superset of the deciles, so that resampling deciles to it is exact.
LEVELS: tuple[float, ...] = (0.01, 0.025, *(round(0.05 * i, 2) for i in range(1, 20)), 0.975, 0.99)
LOW, HIGH = 0.1, 0.9  # where the warp changes from linear to logarithmic
EDGE = 2.0**-24  # minimum distance of levels from 0 and 1, where the tails are infinite
_BINS = 1024  # a power of two, so that the bin of a level is exact


def nonconformity_of_levels(u: Tensor) -> Tensor:
    r"""Return the nonconformity score (`QuantileFunction.nonconformity`) of levels `u`."""
    return (2 * warp_levels(u) - 1).abs()


def as_levels(levels: Tensor | Sequence[float]) -> Tensor:
    # A single-precision level stands for the decimal number that it was rounded from.
    if isinstance(levels, Tensor) and levels.dtype != torch.float64:
        levels = [float(f"{level:.7g}") for level in levels.tolist()]
    return torch.as_tensor(levels, dtype=torch.float64)


def sorted_values(x: Tensor) -> Tensor:
    r"""Sort along the last axis, by numpy (ten times as fast) unless gradients are needed."""
    if x.requires_grad or x.device.type != "cpu":
        return x.sort(dim=-1).values
    return torch.from_numpy(np.sort(x.contiguous().numpy(), axis=-1))


def warp_levels(u: Tensor) -> Tensor:
    outer = torch.minimum(u, 1 - u)
    tail = (outer.clamp(max=LOW) / LOW).log()
    lower = torch.add(outer.clamp(min=LOW), tail, alpha=LOW)
    return torch.where(u < 0.5, lower, 1 - lower)


def segment_of(levels: Tensor, u: Tensor) -> Tensor:
    r"""Return the segment between neighbouring levels that holds each of many u; the outer ones beyond."""
    base, knots = level_bins(tuple(levels.tolist()), _BINS)
    place = (u * _BINS).long()
    segment = base.to(u.device).take(place)
    for knot in knots.to(u):
        segment += u >= knot.take(place)
    return segment.clamp_(0, len(levels) - 2)


@lru_cache(maxsize=64)
def level_bins(levels: tuple[float, ...], number: int) -> tuple[Tensor, Tensor]:
    r"""Return equal bins of [0, 1) that locate a level without a search.

    Arguments:
        levels: The levels of a quantile function.
        number: The number of bins :math:`N`.

    Returns:
        The segment at the start of each bin, from -1 to :math:`Q - 1`, with shape (N,); and the levels strictly within
        each bin, padded with infinity, with shape (m, N).
    """
    grid = torch.tensor(levels, dtype=torch.float64)
    edges = torch.arange(number + 1, dtype=torch.float64) / number  # rounded like the decimal levels
    first = torch.searchsorted(grid, edges[:-1], right=True)  # the first level beyond the bin's left end
    count = torch.searchsorted(grid, edges[1:]) - first
    rank = torch.arange(int(count.max())).unsqueeze(-1)
    padded = torch.cat([grid, torch.full((len(rank),), torch.inf, dtype=torch.float64)])
    knots = padded[first + rank].where(rank < count, torch.inf)
    return first - 1, knots


def unwarp_levels(w: Tensor) -> Tensor:
    lower = LOW * torch.exp((w - LOW).clamp(max=0) / LOW)
    upper = 1 - LOW * torch.exp((HIGH - w).clamp(max=0) / LOW)
    return torch.where(w < LOW, lower, torch.where(w > HIGH, upper, w))


def place_within(levels: Tensor, u: float, inside: float) -> tuple[int, float]:
    r"""Locate a level relative to the segment that holds `inside`.

    Arguments:
        levels: The levels of a quantile function, with shape (Q,).
        u: The level to locate.
        inside: A level inside the desired segment.

    Returns:
        The index of the segment's left end, and the position of `u` as a fraction of the segment, in w.
    """
    below = min(max(int(torch.searchsorted(levels, inside, right=True)) - 1, 0), len(levels) - 2)
    left, right, position = warp_levels(torch.stack((levels[below], levels[below + 1], levels.new_tensor(u)))).tolist()
    return below, (position - left) / (right - left)


@lru_cache(maxsize=64)
def segment_integrals(levels: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    r"""Divide the distribution into thin slices of probability, whose first two moments are linear in the quantiles.

    Arguments:
        levels: The levels of a quantile function.

    Returns:
        The probabilities (P,) of the slices, and the matrices (Q, P) that map quantiles (*, Q) to the conditional means
        and standard deviations (*, P).
    """
    knots = sorted({*levels, LOW, HIGH})
    edges = [knots[0]]
    for right in knots[1:]:  # the outer segments in halves, so that neighbouring slices have similar probabilities
        left = edges[-1]
        if right <= LOW:
            edges.append(math.sqrt(left * right))
        elif left >= HIGH:
            edges.append(1 - math.sqrt((1 - left) * (1 - right)))
        edges.append(right)
    shrink = [0.5**k for k in range(1, 6)]
    edges = [0.0, *(knots[0] * x for x in reversed(shrink)), *edges, *(1 - (1 - knots[-1]) * x for x in shrink), 1.0]

    grid = torch.tensor(levels, dtype=torch.float64)
    widths = warp_levels(grid).diff().tolist()
    weights = torch.tensor(edges, dtype=torch.float64).diff()
    means, deviations = torch.zeros(2, len(levels), len(weights), dtype=torch.float64)
    for p, (left, right) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        middle = (left + right) / 2
        if LOW < middle < HIGH:
            anchor, shift, deviation = middle, 0.0, (right - left) / math.sqrt(12)
        else:  # with t uniform in [ratio, 1], the quantile is that of the inner end, + or - .1 ln t times the slope
            lower = middle <= LOW
            anchor = right if lower else left
            ratio = left / right if lower else (1 - right) / (1 - left)
            log = math.log(ratio) if ratio > 0 else 0.0
            mean = -1 - ratio * log / (1 - ratio)
            square = 2 - ratio * log**2 / (1 - ratio) + 2 * ratio * log / (1 - ratio)
            shift, deviation = LOW * (mean if lower else -mean), LOW * math.sqrt(square - mean**2)
        below, position = place_within(grid, anchor, middle)
        position += shift / widths[below]
        means[below, p], means[below + 1, p] = 1 - position, position
        deviations[below, p], deviations[below + 1, p] = -deviation / widths[below], deviation / widths[below]
    return weights, means, deviations


def shortfall(levels: Tensor, values: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return E (bound - X)^+ and the mean of its square, in closed form per segment.

    Arguments:
        levels: The levels, with shape (Q,).
        values: The quantiles of X, with shape (Q, N).
        bound: The bounds, with shape (N,).

    Returns:
        Both means, with shape (N,).
    """
    knots = [0.0, *sorted({*levels.tolist(), LOW, HIGH}), 1.0]
    widths = warp_levels(levels).diff().tolist()
    first, second = torch.zeros_like(bound), torch.zeros_like(bound)
    for left, right in zip(knots[:-1], knots[1:], strict=True):
        middle = (left + right) / 2
        below, _ = place_within(levels, middle, middle)
        base, rise = values[below], values[below + 1] - values[below]
        start, stop = (
            base + rise * place_within(levels, u, middle)[1]
            if 0 < u < 1
            else torch.full_like(base, (2 * u - 1) * math.inf)
            for u in (left, right)
        )
        shortfall_at_start, shortfall_at_stop = (
            (bound - start).clamp(min=0),
            (bound - stop).clamp(min=0),
        )  # at both ends of the segment
        if LOW < middle < HIGH:
            probability = torch.where(stop > start, (shortfall_at_start - shortfall_at_stop) / (stop - start), 1.0) * (
                right - left
            )
            total = probability * (shortfall_at_start + shortfall_at_stop) / 2
            square = (
                probability
                * (shortfall_at_start.square() + shortfall_at_start * shortfall_at_stop + shortfall_at_stop.square())
                / 3
            )
        else:
            slope = rise * (LOW / widths[below])  # Q = const + c ln u, or const - c ln(1 - u)
            if middle <= LOW:
                end = torch.where(bound < stop, torch.exp((bound - stop) / slope), 1.0) * right
                total, square = (
                    end * (shortfall_at_stop + slope),
                    end * ((shortfall_at_stop + slope).square() + slope.square()),
                )
                if left > 0:
                    total = total - left * (shortfall_at_start + slope)
                    square = square - left * ((shortfall_at_start + slope).square() + slope.square())
            else:
                end = torch.where(bound < stop, torch.exp((start - bound) / slope) * (1 - left), 1 - right)
                total = (1 - left) * (shortfall_at_start - slope) - end * (shortfall_at_stop - slope)
                square = (1 - left) * ((shortfall_at_start - slope).square() + slope.square()) - end * (
                    (shortfall_at_stop - slope).square() + slope.square()
                )
        inside = bound > start
        first += torch.where(inside, total, 0.0)
        second += torch.where(inside, square, 0.0)
    return first, second


def convolve_noise(levels: Tensor, values: Tensor, noise: Tensor) -> Tensor:
    r"""Return the quantiles of X + E at the same levels.

    Arguments:
        levels: The levels, with shape (Q,).
        values: The quantiles of X, with shape (N, Q).
        noise: The positive variances of E, with shape (N,).

    Returns:
        The quantiles, with shape (N, Q).
    """
    weights, means, deviations = (x.to(values) for x in segment_integrals(tuple(levels.tolist())))
    centre, deviation = values @ means, values @ deviations  # (N, P) each
    mean = centre @ weights
    variance = ((centre - mean.unsqueeze(-1)).square() + deviation.square()) @ weights
    scale = (variance + noise).sqrt().unsqueeze(-1)  # the standard deviation of the sum, the unit below
    centre = (centre - mean.unsqueeze(-1)) / scale
    precision = scale / (2 * (deviation.square() + noise.unsqueeze(-1))).sqrt()
    target = torch.special.ndtri(levels).to(values)  # Newton's method on normal scores is nearly linear
    # A first guess that is right if X is normal or the noise is small or large.
    signal_fraction = (variance / (variance + noise)).unsqueeze(-1)
    x = signal_fraction * (values - mean.unsqueeze(-1)) / variance.sqrt().unsqueeze(-1).clamp(min=1e-30)
    x = torch.where(signal_fraction > 0, x + (1 - signal_fraction) * target, target)
    high = (1 / torch.minimum(levels, 1 - levels).sqrt()).to(values).repeat(len(x), 1)  # Chebyshev's bound
    low = -high
    rows = torch.arange(len(x), device=x.device)  # not yet converged
    for _ in range(30):
        current = x[rows]
        z = (current.unsqueeze(-1) - centre[rows].unsqueeze(-2)).mul_(precision[rows].unsqueeze(-2))  # (N, Q, P)
        density = (z.square().neg_().exp_() @ (weights * precision[rows]).unsqueeze(-1)).squeeze(-1)
        probability = (z.erf_() @ weights + 1) / 2
        score = torch.special.ndtri(probability)
        below = score < target
        low[rows], high[rows] = torch.where(below, current, low[rows]), torch.where(below, high[rows], current)
        step = current + (target - score) * torch.exp(score.square() / -2) / (math.sqrt(2) * density)
        inside = (step >= low[rows]) & (step <= high[rows])  # a converged root stays; false for NaN steps too
        x[rows] = torch.where(inside, step, (low[rows] + high[rows]) / 2)
        rows = rows[
            ((x[rows] - current).abs() > 4e-3).any(-1)
        ]  # quadratic convergence: the next step is about the square
        if not len(rows):
            break
    return x * scale + mean.unsqueeze(-1)

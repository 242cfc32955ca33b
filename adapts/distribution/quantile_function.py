r"""Predictive marginals as quantile functions."""

from __future__ import annotations

__all__ = ["LEVELS", "QuantileFunction", "reach_of_levels"]

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .pits import JUMP, Pits

LEVELS: tuple[float, ...] = (0.01, 0.025, *(round(0.05 * i, 2) for i in range(1, 20)), 0.975, 0.99)
r"""The default level grid: a superset of the deciles, so that going from deciles to it loses nothing."""

_LOW, _HIGH = 0.1, 0.9  # where the warp turns from linear to logarithmic
_EDGE = 2.0**-24  # levels are held this far from 0 and 1, where the tails are infinite
_FARTHEST = 1000.0  # reach: no finite law of any use is left behind so far
_CHUNK = 2**22  # elements that one vectorised step may hold
_CACHED = 2**18  # those of a step made of many passes over the same ones, so few that a cache holds them
_BINS = 1024  # a power of two, so that the bin of a level is exact


class QuantileFunction:
    r"""The laws of many scalar variables, each by its quantiles at the same levels.

    Between the levels, the quantile is linear in the warped level

    .. math:: w(u) = \begin{cases} .1 + .1 \ln(u / .1) & u < .1 \\ u & .1 \le u \le .9 \\
        .9 - .1 \ln((1 - u) / .1) & u > .9 \end{cases}

    and it goes on linearly in :math:`w` beyond the outer ones: exponential tails, whose density is continuous at the
    outer deciles because :math:`w` is continuously differentiable there. Crossing quantiles are sorted (monotone
    rearrangement). Equal quantiles make an atom; if all are equal the law is that constant.

    With a support, the law is that of the variable clipped to it, which puts atoms on its bounds. The clip is
    monotone, so ranks, and with them a copula, stay. `values` holds the quantiles before the clip.

    References:
        | Quantile and Probability Curves Without Crossing (Chernozhukov et al., 2010)
        | https://arxiv.org/abs/0704.3649

    Arguments:
        levels: The levels, increasing within (0, 1), with shape :math:`(Q,)`.
        values: The quantiles at these levels, with shape :math:`(*, Q)`.
        support: The bounds (low, high), floats or tensors that broadcast to :math:`(*)`, infinite where there is
            none.

    Example:
        >>> law = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([-1.0, 0.0, 2.0]), support=(0.0, torch.inf))
        >>> law(0.9), law(0.25), law.cdf(torch.tensor(1.0))
        (tensor(2.), tensor(0.), tensor(0.7000))
    """

    levels: Tensor
    values: Tensor
    support: tuple[Tensor, Tensor] | None

    def __init__(
        self,
        levels: Tensor | Sequence[float],
        values: Tensor,
        support: tuple[Tensor | float, Tensor | float] | None = None,
    ) -> None:
        self.levels = _as_levels(levels).to(values.device)
        if len(self.levels) < 2 or bool((self.levels <= 0).any() | (self.levels >= 1).any()):
            raise ValueError(f"levels must be two or more numbers within (0, 1), got {self.levels.tolist()}")
        if bool((self.levels.diff() <= 0).any()):
            raise ValueError(f"levels must increase, got {self.levels.tolist()}")
        if values.ndim == 0 or values.shape[-1] != len(self.levels):
            raise ValueError(
                f"the last axis of values must hold one quantile for each of the {len(self.levels)} levels, "
                f"got shape {tuple(values.shape)}"
            )
        crossing = bool((values.diff(dim=-1) < 0).any())
        self.values = values.sort(dim=-1).values if crossing else values  # (*, Q)
        self.support = None
        if support is not None:
            low, high = (torch.as_tensor(bound, dtype=values.dtype, device=values.device) for bound in support)
            if bool((low > high).any()):
                raise ValueError("the lower bound of a support must not lie above the upper one")
            self.support = (low, high)

    @classmethod
    def from_samples(
        cls,
        samples: Tensor,
        levels: Tensor | Sequence[float] = LEVELS,
        support: tuple[Tensor | float, Tensor | float] | None = None,
    ) -> QuantileFunction:
        r"""The law whose quantiles are those of samples.

        The :math:`i`-th smallest of :math:`S` samples stands at the level :math:`(i - .5) / S`, linearly in between.

        Arguments:
            samples: Samples without NaN, with shape :math:`(S, *)`.
            levels: The levels of the result.
            support: As for the class.

        Returns:
            A law with batch shape :math:`(*)`.
        """
        levels = _as_levels(levels)
        ordered = _sorted(samples.movedim(0, -1))  # (*, S)
        number = ordered.shape[-1]
        position = (levels * number - 0.5).clamp(0, number - 1)
        below = position.floor().long().clamp(max=max(number - 2, 0))
        weight = (position - below).to(ordered)
        values = torch.lerp(ordered[..., below], ordered[..., (below + 1).clamp(max=number - 1)], weight)
        return cls(levels, values, support)

    @property
    def shape(self) -> torch.Size:
        r"""The batch shape :math:`(*)`."""
        return self.values.shape[:-1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={tuple(self.shape)}, levels={len(self.levels)})"

    def __getitem__(self, index: object) -> QuantileFunction:
        r"""The laws that `index` picks among those of the batch, as it would pick among the entries of a tensor.

        Arguments:
            index: Whatever indexes a tensor of the batch shape.

        Returns:
            The laws picked.
        """
        whole = (*index, slice(None)) if isinstance(index, tuple) and any(part is Ellipsis for part in index) else index
        values = self.values[whole]  # type: ignore[index]
        if self.support is None:
            return QuantileFunction(self.levels, values)
        low, high = (bound.expand(self.shape)[index] for bound in self.support)  # type: ignore[index]
        return QuantileFunction(self.levels, values, (low, high))

    def flatten(self) -> QuantileFunction:
        r"""The laws along one axis, as a tensor's `flatten` would lay them."""
        values = self.values.flatten(0, -2)
        if self.support is None:
            return QuantileFunction(self.levels, values)
        low, high = (bound.expand(self.shape).flatten() for bound in self.support)
        return QuantileFunction(self.levels, values, (low, high))

    # Quantiles -------------------------------------------------------------------------------------------------------

    def __call__(self, u: Tensor | float) -> Tensor:
        r"""Evaluates the quantile function.

        Arguments:
            u: Levels, with shape :math:`(S, *)` (or :math:`(*)`), or one level for all. Axes of length 1 stand for the
                whole axis of the batch, and spare looking up the same level again. They are held within
                :math:`[2^{-24}, 1 - 2^{-24}]`, beyond which the tails grow without bound.

        Returns:
            The quantiles, within the support, with shape :math:`(S, *)` (or :math:`(*)`).

        Raises:
            ValueError: If the last axes of `u` are not those of the batch.
        """
        if not isinstance(u, Tensor):
            return self.at((u,))[..., 0]
        batch = self.shape
        own = u.shape[u.ndim - len(batch) :]
        if len(own) != len(batch) or any(size not in (1, whole) for size, whole in zip(own, batch, strict=True)):
            raise ValueError(f"levels u must have shape (S, {', '.join(map(str, batch))}), got {tuple(u.shape)}")
        flat = u.reshape(-1, *own)
        step = max(1, _CACHED // max(1, math.prod(batch)))
        pieces = [self._quantile(some) for some in flat.split(step)]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).view(u.shape[: u.ndim - len(batch)] + batch)

    def _quantile(self, u: Tensor) -> Tensor:
        r"""The quantiles (S, *) at levels (S, *), within the support."""
        u = u.clamp(_EDGE, 1 - _EDGE)
        below = _segment(self.levels, u)
        offset, width = self._weights(u)
        weight = torch.addcmul(offset.take(below), _warp(u), width.take(below))
        weight, below = (x.expand(len(u), *self.shape) for x in (weight, below))
        values = self.values.expand(*weight.shape, -1)
        below = below.unsqueeze(-1)
        left, right = values.gather(-1, below), values.gather(-1, below + 1)
        return self._clip(torch.lerp(left.squeeze(-1), right.squeeze(-1), weight.to(left)))

    def _weights(self, u: Tensor) -> tuple[Tensor, Tensor]:
        r"""What a segment's weight, offset + w(u) * width, is made of, (Q - 1,) each."""
        warped = _warp(self.levels)
        return (-warped[:-1] / warped.diff()).to(u), (1 / warped.diff()).to(u)

    def stratified(self, place: Tensor) -> Tensor:
        r"""Evaluates the quantile function at one level in each of :math:`S` even strata of [0, 1].

        The same as `self((i + place) / S)`, in less time: all variables share most of what a level is looked up by.

        Arguments:
            place: The place of each level within its stratum, within [0, 1), with shape :math:`(*, S)`.

        Returns:
            The quantiles, within the support, with the shape of `place`.
        """
        number = place.shape[-1]
        u = place.add(torch.arange(number, device=place.device)).div_(number).clamp_(_EDGE, 1 - _EDGE)
        base, knots = _bins(tuple(self.levels.tolist()), number)
        below = base.to(u.device)  # (S,), of each stratum
        if len(knots):
            below = below + (u.unsqueeze(0) >= knots.to(u).view(len(knots), *[1] * (u.ndim - 1), -1)).sum(0)
        below = below.clamp(0, len(self.levels) - 2)
        offset, width = self._weights(u)
        first = math.ceil(_LOW * number)  # the strata that reach beyond the outer deciles end, and begin again
        for tail in (u[..., :first], u[..., max(first, number - first) :]):
            tail.copy_(_warp(tail))
        weight = u.mul_(width[below]).add_(offset[below])
        if below.ndim == 1:
            left, right = self.values[..., below], self.values[..., below + 1]
        else:
            left, right = self.values.gather(-1, below), self.values.gather(-1, below + 1)
        x = left.lerp_(right, weight.to(left))
        if self.support is None:
            return x
        low, high = (bound.unsqueeze(-1) for bound in self.support)
        return x.clamp_(low, high)

    def at(self, levels: Tensor | Sequence[float]) -> Tensor:
        r"""The quantiles at further levels, the same for all variables.

        Arguments:
            levels: Levels within (0, 1), with shape :math:`(Q',)`.

        Returns:
            The quantiles, within the support, with shape :math:`(*, Q')`.
        """
        values = self._raw(_as_levels(levels))
        if self.support is None:
            return values
        low, high = (bound.unsqueeze(-1) for bound in self.support)
        return values.maximum(low).minimum(high)

    def central(self, reach: Tensor, tail_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""The interval about the median that holds the outcomes whose `reach` is no larger.

        Arguments:
            reach: How far each interval reaches, 0 or more, with a shape that broadcasts to :math:`(*)`. Up to .8 it is
                the probability of the interval; from there on each .2 more divide what lies outside by :math:`e`.
            tail_scale: As for `reach`.

        Returns:
            The lower and the upper end, within the support, with shape :math:`(*)`.
        """
        warped, scales = _warp(self.levels).to(self.values), self._tail_scales(tail_scale)
        first, last = self.values[..., 0], self.values[..., -1]
        ends = []
        for w in ((1 - reach) / 2, (1 + reach) / 2):
            w = w.to(self.values).expand(self.shape).contiguous()
            below = torch.searchsorted(warped, w, right=True).sub_(1).clamp_(0, len(warped) - 2)
            left, right = (self.values.gather(-1, (below + i).unsqueeze(-1)).squeeze(-1) for i in (0, 1))
            x = torch.lerp(left, right, (w - warped[below]) / warped.diff()[below])
            x = x.where(w >= warped[0], first + (w - warped[0]) * scales[0] / _LOW)
            ends.append(self._clip(x.where(w <= warped[-1], last + (w - warped[-1]) * scales[1] / _LOW)))
        return ends[0], ends[1]

    def _raw(self, levels: Tensor) -> Tensor:
        r"""The quantiles before the clip, (*, Q'), at levels (Q',) or (..., Q') that broadcast against the batch."""
        levels = levels.to(self.levels).clamp(_EDGE, 1 - _EDGE)
        below = torch.searchsorted(self.levels, levels, right=True).sub_(1).clamp_(0, len(self.levels) - 2)
        warped = _warp(self.levels)
        weight = ((_warp(levels) - warped[below]) / warped.diff()[below]).to(self.values)
        if levels.ndim == 1:
            return torch.lerp(self.values[..., below], self.values[..., below + 1], weight)
        below, weight = (x.expand(*self.shape, -1) for x in (below, weight))  # views, made real piece by piece
        values = self.values.new_empty(below.shape)
        step = max(1, _CHUNK // max(1, math.prod(below.shape[1:])))
        for start in range(0, len(values), step):
            part = slice(start, start + step)
            left, right = (self.values[part].gather(-1, below[part] + i) for i in (0, 1))
            values[part] = torch.lerp(left, right, weight[part])
        return values

    def _clip(self, x: Tensor) -> Tensor:
        return x if self.support is None else x.maximum(self.support[0]).minimum(self.support[1])

    def resample(self, levels: Tensor | Sequence[float]) -> QuantileFunction:
        r"""The same laws by their quantiles at other levels; exact if all present levels are among them.

        Arguments:
            levels: The new levels.

        Returns:
            The laws at these levels.
        """
        levels = _as_levels(levels)
        return QuantileFunction(levels, self._raw(levels), self.support)

    # Probabilities ---------------------------------------------------------------------------------------------------

    def cdf(self, y: Tensor) -> Tensor:
        r"""The distribution function, the middle of its jump at an atom.

        Arguments:
            y: Outcomes, with shape :math:`(*)` or :math:`(S, *)`. NaN marks a missing one.

        Returns:
            The probabilities, with the shape of `y`; NaN where `y` is.
        """
        lower, upper = self._jump(y)
        return (lower + upper) / 2

    def pit(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""The probability integral transform, uniform within the jump at an atom.

        If `y` follows the law, the transform is uniform on [0, 1], whatever atoms the law has.

        Arguments:
            y: Outcomes, with shape :math:`(*)` or :math:`(S, *)`. NaN marks a missing one.
            generator: The source of randomness.

        Returns:
            The transforms, with the shape of `y`; NaN where `y` is.
        """
        return self.pits(y, generator).values

    def pits(self, y: Tensor, generator: torch.Generator | None = None) -> Pits:
        r"""The probability integral transform, with the jump that it lies in where the law has an atom.

        Arguments:
            y: As for `pit`.
            generator: As for `pit`.

        Returns:
            The transforms, with the shape of `y`; NaN where `y` is.
        """
        lower, upper = self._jump(y)
        place = torch.rand(lower.shape, generator=generator, dtype=lower.dtype).to(lower.device)
        drawn, jump = torch.lerp(lower, upper, place), upper - lower > JUMP
        return Pits(lower.where(jump, drawn), upper.where(jump, drawn), place)

    def reach(self, y: Tensor, tail_scale: Tensor | None = None) -> Tensor:
        r"""How far into the tails outcomes lie: how far `central` must reach to hold them.

        It is :math:`|2 w - 1|` with :math:`w` the warped level of the outcome, and of the levels of an atom the one
        that is nearest to the median. Unlike a level it tells outcomes apart however far out they lie.

        Arguments:
            y: Outcomes, with the shape :math:`(*)` of the batch. NaN marks a missing one.
            tail_scale: The least scale that tails beyond the outer quantiles are taken to have, which broadcasts to
                :math:`(*)`; none if None. For laws that are at times surer than they should be.

        Returns:
            The reach, 1,000 at most, with the shape of `y`; NaN where `y` is.
        """
        lower, upper = self._warped_jump(y, tail_scale)
        nearest = lower.new_tensor(0.5).clamp(lower, upper)
        return (2 * nearest - 1).abs().clamp(max=_FARTHEST).where(~y.isnan(), torch.nan)

    @property
    def tail_scale(self) -> Tensor:
        r"""By how much an outcome beyond an outer quantile exceeds it on the mean; the mean of both tails.

        It has shape :math:`(*)`, and is that of the variable before the clip to the support.
        """
        lower, upper = self._tail_scales()
        return (lower + upper) / 2

    @property
    def tail_scales(self) -> tuple[Tensor, Tensor]:
        r"""The same of the lower and of the upper tail, each with shape :math:`(*)`."""
        return self._tail_scales()

    def _tail_scales(self, least: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = (self.values[..., 1] - self.values[..., 0], self.values[..., -1] - self.values[..., -2])
        rises = _warp(self.levels).diff()[[0, -1]].tolist()
        lower, upper = (_LOW * step / rise for step, rise in zip(steps, rises, strict=True))
        return (lower, upper) if least is None else (lower.maximum(least.to(lower)), upper.maximum(least.to(upper)))

    def _jump(self, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""F(y-) and F(y)."""
        lower, upper = (_unwarp(w).where(~y.isnan(), torch.nan) for w in self._warped_jump(y))
        return lower, upper

    def _warped_jump(self, y: Tensor, tail_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""w(F(y-)) and w(F(y)), read some rounding errors apart so that computed atoms are found too."""
        y = y.to(self.values)
        if y.shape[y.ndim - len(self.shape) :] != self.shape:
            raise ValueError(f"outcomes must have shape {tuple(self.shape)}, got {tuple(y.shape)}")
        size = torch.maximum(self.values[..., 0].abs(), self.values[..., -1].abs()).maximum(y.abs())
        slack = 4 * torch.finfo(y.dtype).eps * size
        before, after = y - slack, y + slack
        lower, upper = self._warped(before, False, tail_scale), self._warped(after, True, tail_scale)
        if self.support is not None:
            low, high = self.support
            lower = lower.where(before > low, -torch.inf).where(before <= high, torch.inf)
            upper = upper.where(after >= low, -torch.inf).where(after < high, torch.inf)
        return lower, upper

    def _warped(self, y: Tensor, right: bool, tail_scale: Tensor | None) -> Tensor:
        r"""w(P(X <= y)) before the clip if `right`, else w(P(X < y))."""
        batch = self.shape
        outcomes = y.reshape(-1, *batch).movedim(0, -1).contiguous()  # (*, S)
        count = torch.searchsorted(self.values.contiguous(), outcomes, right=right)  # quantiles below y
        number = len(self.levels)
        below = count.sub(1).clamp_(0, number - 2)
        warped = _warp(self.levels)
        left, right_ = self.values.gather(-1, below), self.values.gather(-1, below + 1)
        weight = (outcomes - left) / (right_ - left)
        w = torch.lerp(warped.to(y)[below], warped.to(y)[below + 1], weight)
        flat = right_ <= left  # only in a tail without spread, where all of its mass sits on the outer quantile
        w = torch.where(flat, torch.where(count > 0, torch.inf, -torch.inf).to(w), w)
        if tail_scale is not None:
            lower, upper = (scale.unsqueeze(-1) / _LOW for scale in self._tail_scales(tail_scale))
            under, over = (outcomes - self.values[..., i : i + 1 or None] for i in (0, -1))
            w = w.where(under >= 0, float(warped[0]) + under / lower).where(over <= 0, float(warped[-1]) + over / upper)
        return w.movedim(-1, 0).reshape(y.shape)

    # Moments ---------------------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        r"""The mean, exact (with tails and the atoms of the support), with shape :math:`(*)`."""
        mean = self._moments()[0].to(self.values)
        return self._clip(torch.where(self._certain, self.values[..., 0], mean))  # rounding may take it beyond a bound

    @property
    def variance(self) -> Tensor:
        r"""The variance, exact (with tails and the atoms of the support), with shape :math:`(*)`."""
        return torch.where(self._certain, 0.0, self._moments()[1].to(self.values))

    @property
    def _certain(self) -> Tensor:
        r"""Which laws are a constant, whose moments have no rounding error, with shape (*)."""
        return self.values[..., 0] == self.values[..., -1]

    def _moments(self) -> tuple[Tensor, Tensor]:
        weights, means, deviations = (x.to(self.levels.device) for x in _pieces(tuple(self.levels.tolist())))
        square = (means * weights) @ means.T + (deviations * weights) @ deviations.T  # (Q, Q)
        values = self.values.reshape(-1, len(self.levels))
        support = None if self.support is None else [bound.expand(self.shape).reshape(-1) for bound in self.support]
        mean, variance = torch.empty(2, len(values), dtype=torch.float64, device=values.device)
        for start in range(0, len(values), 2**14):  # small enough for the processor's cache
            part = slice(start, start + 2**14)
            quantiles = values[part].double().T.contiguous()  # (Q, N)
            mean[part] = (means @ weights) @ quantiles
            quantiles = quantiles - mean[part]
            variance[part] = (square @ quantiles * quantiles).sum(0)
            if support is None:
                continue
            # Y = X + (low - X)^+ - (X - high)^+, and of the two additions at least one is zero.
            low, high = (bound[part].double() - mean[part] for bound in support)
            below, below_squared = _shortfall(self.levels, quantiles, low)
            above, above_squared = _shortfall(1 - self.levels.flip(0), -quantiles.flip(0), -high)
            low, high = low.where(below > 0, 0.0), high.where(above > 0, 0.0)  # 0 * inf is 0 here
            shift = below - above
            mean[part] += shift
            variance[part] += 2 * low * below - below_squared - 2 * high * above - above_squared - shift.square()
        return mean.view(self.shape), variance.clamp_(min=0).view(self.shape)

    # New laws --------------------------------------------------------------------------------------------------------

    def rescaled(self, location: Tensor | float, scale: Tensor | float) -> QuantileFunction:
        r"""The laws of location + scale * X.

        Arguments:
            location: The shift, a float or a tensor that broadcasts to :math:`(*)`.
            scale: The factor, positive, a float or a tensor that broadcasts to :math:`(*)`.

        Returns:
            The laws, with their supports, in the new units.

        Raises:
            ValueError: If a factor is not positive.
        """
        location, scale = (torch.as_tensor(x).to(self.values) for x in (location, scale))
        if not bool((scale > 0).all()):
            raise ValueError("a law is rescaled by positive factors only")
        values = self.values * scale.unsqueeze(-1) + location.unsqueeze(-1)
        support = None if self.support is None else tuple(bound * scale + location for bound in self.support)
        return QuantileFunction(self.levels, values, support)  # type: ignore[arg-type]

    def reread(self, levels: Tensor | Sequence[float], sources: Tensor) -> QuantileFunction:
        r"""The laws whose quantiles at `levels` are those of these laws at other levels.

        Arguments:
            levels: The levels of the result, with shape :math:`(Q',)`.
            sources: The levels to read at, increasing along the last axis, with shape :math:`(Q',)` or a shape that
                broadcasts to :math:`(*, Q')`.

        Returns:
            The laws, with the same support.
        """
        return QuantileFunction(levels, self._raw(sources), self.support)

    def supported(self, low: Tensor | float, high: Tensor | float) -> QuantileFunction:
        r"""The same laws, clipped to other bounds.

        Arguments:
            low: The lower bound, a float or a tensor that broadcasts to :math:`(*)`.
            high: The upper bound, likewise.

        Returns:
            The laws with this support instead of their own.
        """
        return QuantileFunction(self.levels, self.values, (low, high))

    def add_noise(self, variance: Tensor | float) -> QuantileFunction:
        r"""The laws of X + E with E normal, centred, independent of X; a support clips the sum.

        X is cut into many thin slices of known mean and variance, each slice taken as normal, so that X + E is a
        mixture of normals, whose quantiles Newton's method finds: normal plus normal comes out right within a few
        thousandths of its standard deviation.

        Arguments:
            variance: The variance of E, a float or a tensor that broadcasts to :math:`(*)`; where it is zero the
                quantiles stay as they are, to the bit.

        Returns:
            The laws of the sums, at the same levels.

        Raises:
            ValueError: If a variance is negative.
        """
        noise = torch.as_tensor(variance).to(self.values).expand(self.shape).reshape(-1)
        if bool((noise < 0).any()):
            raise ValueError("the variance of the added noise must not be negative")
        rows = noise.nonzero().squeeze(-1)
        if not len(rows):
            return self
        values = self.values.reshape(-1, len(self.levels)).clone()
        step = max(1, _CACHED // (32 * len(self.levels)))  # 32: about the slices that `_pieces` makes
        for i in range(0, len(rows), step):
            part = rows[i : i + step]
            values[part] = _convolve(self.levels, values[part], noise[part])
        return QuantileFunction(self.levels, values.view_as(self.values), self.support)

    @staticmethod
    def mix(g: Tensor | float, a: QuantileFunction, b: QuantileFunction) -> QuantileFunction:
        r"""Mixes two laws with common ranks: the quantiles of :math:`g A + (1 - g) B`.

        Arguments:
            g: The share of `a` in [0, 1], a float or a tensor that broadcasts to :math:`(*)`; 0 and 1 give the
                quantiles of `b` and of `a`, to the bit.
            a: A law.
            b: Another one of the same shape.

        Returns:
            The mixed law, at the levels of both.

        Raises:
            ValueError: If the laws differ in shape.
        """
        if a.shape != b.shape:
            raise ValueError(f"only laws of one shape mix, got {tuple(a.shape)} and {tuple(b.shape)}")
        if not torch.equal(a.levels, b.levels):
            levels = sorted({*a.levels.tolist(), *b.levels.tolist()})
            a, b = a.resample(levels), b.resample(levels)
        share = torch.as_tensor(g).to(a.values)

        def blend(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
            return torch.where(share == 0, y, torch.where(share == 1, x, share * x + (1 - share) * y))

        support = None
        if a.support is not None or b.support is not None:
            everywhere = (
                torch.tensor(-torch.inf, dtype=torch.float32).to(share),
                torch.tensor(torch.inf, dtype=torch.float32).to(share),
            )
            left, right = a.support or everywhere, b.support or everywhere
            support = (blend(left[0], right[0], share), blend(left[1], right[1], share))
        return QuantileFunction(a.levels, blend(a.values, b.values, share.unsqueeze(-1)), support)


def reach_of_levels(u: Tensor) -> Tensor:
    r"""Returns the `QuantileFunction.reach` of outcomes whose levels are `u`."""
    return (2 * _warp(u) - 1).abs()


def _as_levels(levels: Tensor | Sequence[float]) -> Tensor:
    # A level that comes in single precision means the decimal number it was rounded from.
    if isinstance(levels, Tensor) and levels.dtype != torch.float64:
        levels = [float(f"{level:.7g}") for level in levels.tolist()]
    return torch.as_tensor(levels, dtype=torch.float64)


def _sorted(x: Tensor) -> Tensor:
    r"""Sorts along the last axis; numpy's sort is ten times as fast, and has no gradients."""
    if x.requires_grad or x.device.type != "cpu":
        return x.sort(dim=-1).values
    return torch.from_numpy(np.sort(x.contiguous().numpy(), axis=-1))


def _warp(u: Tensor) -> Tensor:
    outer = torch.minimum(u, 1 - u)
    tail = (outer.clamp(max=_LOW) / _LOW).log()
    lower = torch.add(outer.clamp(min=_LOW), tail, alpha=_LOW)
    return torch.where(u < 0.5, lower, 1 - lower)


def _segment(levels: Tensor, u: Tensor) -> Tensor:
    r"""Which segment between neighbouring levels each of many u lies in, the outer ones where it lies beyond."""
    base, knots = _bins(tuple(levels.tolist()), _BINS)
    place = (u * _BINS).long()
    segment = base.to(u.device).take(place)
    for knot in knots.to(u):
        segment += u >= knot.take(place)
    return segment.clamp_(0, len(levels) - 2)


@lru_cache(maxsize=64)
def _bins(levels: tuple[float, ...], number: int) -> tuple[Tensor, Tensor]:
    r"""Even bins of [0, 1), in which a level is found without a search.

    Arguments:
        levels: The levels of a quantile function.
        number: The number of bins :math:`N`.

    Returns:
        The segment that each bin begins in, from -1 to :math:`Q - 1`, with shape (N,), and the levels that lie strictly
        within each, infinite where there are fewer, with shape (m, N).
    """
    grid = torch.tensor(levels, dtype=torch.float64)
    edges = torch.arange(number + 1, dtype=torch.float64) / number  # rounded as the same decimals are
    first = torch.searchsorted(grid, edges[:-1], right=True)  # the first level beyond the bin's left end
    count = torch.searchsorted(grid, edges[1:]) - first
    rank = torch.arange(int(count.max())).unsqueeze(-1)
    padded = torch.cat([grid, torch.full((len(rank),), torch.inf, dtype=torch.float64)])
    knots = padded[first + rank].where(rank < count, torch.inf)
    return first - 1, knots


def _unwarp(w: Tensor) -> Tensor:
    lower = _LOW * torch.exp((w - _LOW).clamp(max=0) / _LOW)
    upper = 1 - _LOW * torch.exp((_HIGH - w).clamp(max=0) / _LOW)
    return torch.where(w < _LOW, lower, torch.where(w > _HIGH, upper, w))


def _place(levels: Tensor, u: float, inside: float) -> tuple[int, float]:
    r"""Where a level stands, seen from the segment that holds `inside`.

    Arguments:
        levels: The levels of a quantile function, with shape (Q,).
        u: The level to place.
        inside: A level inside the segment wanted.

    Returns:
        The index of the segment's left end, and the way to `u` as a share of the segment, in w.
    """
    below = min(max(int(torch.searchsorted(levels, inside, right=True)) - 1, 0), len(levels) - 2)
    left, right, here = _warp(torch.stack((levels[below], levels[below + 1], levels.new_tensor(u)))).tolist()
    return below, (here - left) / (right - left)


@lru_cache(maxsize=64)
def _pieces(levels: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    r"""Cuts the law into thin slices of probability, whose first two moments are linear in the quantiles.

    Arguments:
        levels: The levels of a quantile function.

    Returns:
        The probabilities (P,) of the slices, and the matrices (Q, P) that turn quantiles (*, Q) into the conditional
        means and standard deviations (*, P).
    """
    knots = sorted({*levels, _LOW, _HIGH})
    edges = [knots[0]]
    for right in knots[1:]:  # the outer segments in halves, so that no slice is much heavier than the next
        left = edges[-1]
        if right <= _LOW:
            edges.append(math.sqrt(left * right))
        elif left >= _HIGH:
            edges.append(1 - math.sqrt((1 - left) * (1 - right)))
        edges.append(right)
    shrink = [0.5**k for k in range(1, 6)]
    edges = [0.0, *(knots[0] * x for x in reversed(shrink)), *edges, *(1 - (1 - knots[-1]) * x for x in shrink), 1.0]

    grid = torch.tensor(levels, dtype=torch.float64)
    widths = _warp(grid).diff().tolist()
    weights = torch.tensor(edges, dtype=torch.float64).diff()
    means, deviations = torch.zeros(2, len(levels), len(weights), dtype=torch.float64)
    for p, (left, right) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        middle = (left + right) / 2
        if _LOW < middle < _HIGH:
            anchor, shift, deviation = middle, 0.0, (right - left) / math.sqrt(12)
        else:  # with t uniform in [ratio, 1], the quantile is that of the inner end, + or - .1 ln t times the slope
            lower = middle <= _LOW
            anchor = right if lower else left
            ratio = left / right if lower else (1 - right) / (1 - left)
            log = math.log(ratio) if ratio > 0 else 0.0
            mean = -1 - ratio * log / (1 - ratio)
            square = 2 - ratio * log**2 / (1 - ratio) + 2 * ratio * log / (1 - ratio)
            shift, deviation = _LOW * (mean if lower else -mean), _LOW * math.sqrt(square - mean**2)
        below, share = _place(grid, anchor, middle)
        share += shift / widths[below]
        means[below, p], means[below + 1, p] = 1 - share, share
        deviations[below, p], deviations[below + 1, p] = -deviation / widths[below], deviation / widths[below]
    return weights, means, deviations


def _shortfall(levels: Tensor, values: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    r"""E (bound - X)^+ and the mean of its square, segment by segment in closed form.

    Arguments:
        levels: The levels, with shape (Q,).
        values: The quantiles of X, with shape (Q, N).
        bound: The bounds, with shape (N,).

    Returns:
        Both means, with shape (N,).
    """
    knots = [0.0, *sorted({*levels.tolist(), _LOW, _HIGH}), 1.0]
    widths = _warp(levels).diff().tolist()
    first, second = torch.zeros_like(bound), torch.zeros_like(bound)
    for left, right in zip(knots[:-1], knots[1:], strict=True):
        middle = (left + right) / 2
        below, _ = _place(levels, middle, middle)
        base, rise = values[below], values[below + 1] - values[below]
        start, stop = (
            base + rise * _place(levels, u, middle)[1] if 0 < u < 1 else torch.full_like(base, (2 * u - 1) * math.inf)
            for u in (left, right)
        )
        lack, rest = (bound - start).clamp(min=0), (bound - stop).clamp(min=0)  # at both ends
        if _LOW < middle < _HIGH:
            part = torch.where(stop > start, (lack - rest) / (stop - start), 1.0) * (right - left)
            total = part * (lack + rest) / 2
            square = part * (lack.square() + lack * rest + rest.square()) / 3
        else:
            c = rise * (_LOW / widths[below])  # Q = const + c ln u, or const - c ln(1 - u)
            if middle <= _LOW:
                end = torch.where(bound < stop, torch.exp((bound - stop) / c), 1.0) * right
                total, square = end * (rest + c), end * ((rest + c).square() + c.square())
                if left > 0:
                    total = total - left * (lack + c)
                    square = square - left * ((lack + c).square() + c.square())
            else:
                end = torch.where(bound < stop, torch.exp((start - bound) / c) * (1 - left), 1 - right)
                total = (1 - left) * (lack - c) - end * (rest - c)
                square = (1 - left) * ((lack - c).square() + c.square()) - end * ((rest - c).square() + c.square())
        inside = bound > start
        first += torch.where(inside, total, 0.0)
        second += torch.where(inside, square, 0.0)
    return first, second


def _convolve(levels: Tensor, values: Tensor, noise: Tensor) -> Tensor:
    r"""The quantiles of X + E at the same levels.

    Arguments:
        levels: The levels, with shape (Q,).
        values: The quantiles of X, with shape (N, Q).
        noise: The positive variances of E, with shape (N,).

    Returns:
        The quantiles, with shape (N, Q).
    """
    weights, means, deviations = (x.to(values) for x in _pieces(tuple(levels.tolist())))
    centre, spread = values @ means, values @ deviations  # (N, P) each
    mean = centre @ weights
    variance = ((centre - mean.unsqueeze(-1)).square() + spread.square()) @ weights
    scale = (variance + noise).sqrt().unsqueeze(-1)  # the standard deviation of the sum, the unit below
    centre = (centre - mean.unsqueeze(-1)) / scale
    precision = scale / (2 * (spread.square() + noise.unsqueeze(-1))).sqrt()
    target = torch.special.ndtri(levels).to(values)  # Newton's method runs on the normal scores: nearly straight
    # A first guess that is right if X is normal or the noise is small or large.
    share = (variance / (variance + noise)).unsqueeze(-1)
    x = share * (values - mean.unsqueeze(-1)) / variance.sqrt().unsqueeze(-1).clamp(min=1e-30)
    x = torch.where(share > 0, x + (1 - share) * target, target)
    high = (1 / torch.minimum(levels, 1 - levels).sqrt()).to(values).repeat(len(x), 1)  # Chebyshev's bound
    low = -high
    rows = torch.arange(len(x), device=x.device)  # those not settled yet
    for _ in range(30):
        here = x[rows]
        z = (here.unsqueeze(-1) - centre[rows].unsqueeze(-2)).mul_(precision[rows].unsqueeze(-2))  # (N, Q, P)
        density = (z.square().neg_().exp_() @ (weights * precision[rows]).unsqueeze(-1)).squeeze(-1)
        probability = (z.erf_() @ weights + 1) / 2
        score = torch.special.ndtri(probability)
        short = score < target
        low[rows], high[rows] = torch.where(short, here, low[rows]), torch.where(short, high[rows], here)
        step = here + (target - score) * torch.exp(score.square() / -2) / (math.sqrt(2) * density)
        inside = (step >= low[rows]) & (step <= high[rows])  # a root found stays; false where the step is NaN too
        x[rows] = torch.where(inside, step, (low[rows] + high[rows]) / 2)
        rows = rows[((x[rows] - here).abs() > 4e-3).any(-1)]  # the next step would be about the square of this
        if not len(rows):
            break
    return x * scale + mean.unsqueeze(-1)

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

_LOW, _HIGH = 0.1, 0.9  # where the warp changes from linear to logarithmic
_EDGE = 2.0**-24  # minimum distance of levels from 0 and 1, where the tails are infinite
_FARTHEST = 1000.0  # maximum nonconformity score, beyond that of any useful distribution
_CHUNK = 2**22  # maximum number of elements of a vectorised step
_CACHED = 2**18  # the same where a step makes many passes over its elements, which must fit into the cache
_BINS = 1024  # a power of two, so that the bin of a level is exact


class QuantileFunction:
    r"""Distributions of many scalar variables, given by quantiles at common levels.

    Between the levels, a quantile is linear in the warped level

    .. math:: w(u) = \begin{cases} .1 + .1 \ln(u / .1) & u < .1 \\ u & .1 \le u \le .9 \\
        .9 - .1 \ln((1 - u) / .1) & u > .9 \end{cases}

    and extrapolates linearly in :math:`w` beyond the outer ones. The tails are therefore exponential. The density is
    continuous at the outer deciles, as :math:`w` is continuously differentiable there. Crossing quantiles are sorted
    (monotone rearrangement). Equal quantiles form an atom; if all are equal, the distribution is a constant.

    With a support, the distribution is that of the variable clipped to it, which puts atoms on the bounds. Clipping is
    monotone, so it preserves ranks and thus copulas. `values` holds the quantiles before clipping.

    References:
        | Quantile and Probability Curves Without Crossing (Chernozhukov et al., 2010)
        | https://arxiv.org/abs/0704.3649

    Arguments:
        levels: The levels, increasing within (0, 1), with shape :math:`(Q,)`.
        values: The quantiles at these levels, with shape :math:`(*, Q)`.
        support: The bounds (low, high), floats or tensors that broadcast to :math:`(*)`; infinite where unbounded.

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
        r"""Estimate the distribution from the quantiles of samples.

        The :math:`i`-th smallest of :math:`S` samples is the quantile at level :math:`(i - .5) / S`, with linear
        interpolation.

        Arguments:
            samples: Samples without NaN, with shape :math:`(S, *)`.
            levels: The levels of the result.
            support: As for the class.

        Returns:
            Distributions with batch shape :math:`(*)`.
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
        r"""Return the batch shape :math:`(*)`."""
        return self.values.shape[:-1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={tuple(self.shape)}, levels={len(self.levels)})"

    def __getitem__(self, index: object) -> QuantileFunction:
        r"""Return the distributions that `index` selects from the batch, with tensor semantics.

        Arguments:
            index: Any index of a tensor of the batch shape.

        Returns:
            The selected distributions.
        """
        full_index = (
            (*index, slice(None)) if isinstance(index, tuple) and any(part is Ellipsis for part in index) else index
        )
        values = self.values[full_index]  # type: ignore[index]
        if self.support is None:
            return QuantileFunction(self.levels, values)
        low, high = (bound.expand(self.shape)[index] for bound in self.support)  # type: ignore[index]
        return QuantileFunction(self.levels, values, (low, high))

    def flatten(self) -> QuantileFunction:
        r"""Return the distributions along one axis, in the order of a tensor's `flatten`."""
        values = self.values.flatten(0, -2)
        if self.support is None:
            return QuantileFunction(self.levels, values)
        low, high = (bound.expand(self.shape).flatten() for bound in self.support)
        return QuantileFunction(self.levels, values, (low, high))

    # Quantiles -------------------------------------------------------------------------------------------------------

    def __call__(self, u: Tensor | float) -> Tensor:
        r"""Evaluate the quantile function.

        Arguments:
            u: The levels, with shape :math:`(S, *)` (or :math:`(*)`), or one level for all. Batch axes of length 1
                broadcast and save repeated look-ups. Levels are clipped to :math:`[2^{-24}, 1 - 2^{-24}]`, beyond which
                the tails grow without bound.

        Returns:
            The quantiles, within the support, with shape :math:`(S, *)` (or :math:`(*)`).

        Raises:
            ValueError: If the last axes of `u` do not match the batch.
        """
        if not isinstance(u, Tensor):
            return self.at((u,))[..., 0]
        batch = self.shape
        trailing = u.shape[u.ndim - len(batch) :]
        if len(trailing) != len(batch) or any(
            size not in (1, whole) for size, whole in zip(trailing, batch, strict=True)
        ):
            raise ValueError(f"levels u must have shape (S, {', '.join(map(str, batch))}), got {tuple(u.shape)}")
        flat = u.reshape(-1, *trailing)
        step = max(1, _CACHED // max(1, math.prod(batch)))
        pieces = [self._quantile(chunk) for chunk in flat.split(step)]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).view(u.shape[: u.ndim - len(batch)] + batch)

    def _quantile(self, u: Tensor) -> Tensor:
        r"""Return the quantiles (S, *) at levels (S, *), within the support."""
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
        r"""Return offset and width, (Q - 1,) each, of a segment's weight: offset + w(u) * width."""
        warped = _warp(self.levels)
        return (-warped[:-1] / warped.diff()).to(u), (1 / warped.diff()).to(u)

    def stratified(self, place: Tensor) -> Tensor:
        r"""Evaluate the quantile function at one level in each of :math:`S` equal strata of [0, 1].

        Equal to `self((i + place) / S)`, but faster, as all variables share most of the look-up.

        Arguments:
            place: The position of each level within its stratum, within [0, 1), with shape :math:`(*, S)`.

        Returns:
            The quantiles, within the support, with the shape of `place`.
        """
        number = place.shape[-1]
        u = place.add(torch.arange(number, device=place.device)).div_(number).clamp_(_EDGE, 1 - _EDGE)
        base, knots = _bins(tuple(self.levels.tolist()), number)
        below = base.to(u.device)  # (S,), per stratum
        if len(knots):
            below = below + (u.unsqueeze(0) >= knots.to(u).view(len(knots), *[1] * (u.ndim - 1), -1)).sum(0)
        below = below.clamp(0, len(self.levels) - 2)
        offset, width = self._weights(u)
        first = math.ceil(_LOW * number)  # number of strata that touch an outer decile's tail
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
        r"""Return the quantiles at given levels, common to all variables.

        Arguments:
            levels: The levels within (0, 1), with shape :math:`(Q',)`.

        Returns:
            The quantiles, within the support, with shape :math:`(*, Q')`.
        """
        values = self._raw(_as_levels(levels))
        if self.support is None:
            return values
        low, high = (bound.unsqueeze(-1) for bound in self.support)
        return values.maximum(low).minimum(high)

    def central(self, reach: Tensor, tail_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return the interval about the median that holds the outcomes with nonconformity scores up to `reach`.

        Arguments:
            reach: The score of each interval, 0 or more, with a shape that broadcasts to :math:`(*)`. Up to .8 it is
                the probability of the interval; each further .2 divides the probability outside by :math:`e`.
            tail_scale: As for `reach`.

        Returns:
            The lower and the upper bound, within the support, with shape :math:`(*)`.
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
        r"""Return unclipped quantiles (*, Q') at levels (Q',), or at (..., Q') that broadcast against the batch."""
        levels = levels.to(self.levels).clamp(_EDGE, 1 - _EDGE)
        below = torch.searchsorted(self.levels, levels, right=True).sub_(1).clamp_(0, len(self.levels) - 2)
        warped = _warp(self.levels)
        weight = ((_warp(levels) - warped[below]) / warped.diff()[below]).to(self.values)
        if levels.ndim == 1:
            return torch.lerp(self.values[..., below], self.values[..., below + 1], weight)
        below, weight = (x.expand(*self.shape, -1) for x in (below, weight))  # views, materialised chunk by chunk
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
        r"""Return the same distributions by quantiles at other levels; exact if these include all current levels.

        Arguments:
            levels: The new levels.

        Returns:
            The distributions at these levels.
        """
        levels = _as_levels(levels)
        return QuantileFunction(levels, self._raw(levels), self.support)

    # Probabilities ---------------------------------------------------------------------------------------------------

    def cdf(self, y: Tensor) -> Tensor:
        r"""Return the distribution function; at an atom, the midpoint of its jump.

        Arguments:
            y: The observed values, with shape :math:`(*)` or :math:`(S, *)`. NaN marks a missing one.

        Returns:
            The probabilities, with the shape of `y`; NaN where `y` is.
        """
        lower, upper = self._jump(y)
        return (lower + upper) / 2

    def pit(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""Return the probability integral transform (PIT), randomised within the jump at an atom.

        If `y` follows the distribution, the PIT is uniform on [0, 1], with or without atoms.

        Arguments:
            y: The observed values, with shape :math:`(*)` or :math:`(S, *)`. NaN marks a missing one.
            generator: The random number generator.

        Returns:
            The PITs, with the shape of `y`; NaN where `y` is.
        """
        return self.pits(y, generator).values

    def pits(self, y: Tensor, generator: torch.Generator | None = None) -> Pits:
        r"""Return the PITs together with the jumps of atoms that hold them.

        Arguments:
            y: As for `pit`.
            generator: As for `pit`.

        Returns:
            The PITs, with the shape of `y`; NaN where `y` is.
        """
        lower, upper = self._jump(y)
        place = torch.rand(lower.shape, generator=generator, dtype=lower.dtype).to(lower.device)
        drawn, jump = torch.lerp(lower, upper, place), upper - lower > JUMP
        return Pits(lower.where(jump, drawn), upper.where(jump, drawn), place)

    def reach(self, y: Tensor, tail_scale: Tensor | None = None) -> Tensor:
        r"""Return nonconformity scores: how far observed values lie in the tails.

        The score is :math:`|2 w - 1|` with :math:`w` the warped level of the value; for an atom, the level nearest to
        the median. It is the score of the smallest `central` interval that holds the value. Unlike a level, it resolves
        values however far out they lie.

        Arguments:
            y: The observed values, with the shape :math:`(*)` of the batch. NaN marks a missing one.
            tail_scale: The lower bound of the scale of tails beyond the outer quantiles, which broadcasts to
                :math:`(*)`; no bound if None. It guards against overconfident distributions.

        Returns:
            The scores, 1,000 at most, with the shape of `y`; NaN where `y` is.
        """
        lower, upper = self._warped_jump(y, tail_scale)
        nearest = lower.new_tensor(0.5).clamp(lower, upper)
        return (2 * nearest - 1).abs().clamp(max=_FARTHEST).where(~y.isnan(), torch.nan)

    @property
    def tail_scale(self) -> Tensor:
        r"""Return the mean exceedance over an outer quantile, averaged over both tails.

        It has shape :math:`(*)` and refers to the variable before clipping to the support.
        """
        lower, upper = self._tail_scales()
        return (lower + upper) / 2

    @property
    def tail_scales(self) -> tuple[Tensor, Tensor]:
        r"""Return the mean exceedance of the lower and of the upper tail, each with shape :math:`(*)`."""
        return self._tail_scales()

    def _tail_scales(self, least: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = (self.values[..., 1] - self.values[..., 0], self.values[..., -1] - self.values[..., -2])
        rises = _warp(self.levels).diff()[[0, -1]].tolist()
        lower, upper = (_LOW * step / rise for step, rise in zip(steps, rises, strict=True))
        return (lower, upper) if least is None else (lower.maximum(least.to(lower)), upper.maximum(least.to(upper)))

    def _jump(self, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return F(y-) and F(y)."""
        lower, upper = (_unwarp(w).where(~y.isnan(), torch.nan) for w in self._warped_jump(y))
        return lower, upper

    def _warped_jump(self, y: Tensor, tail_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return w(F(y-)) and w(F(y)), with a tolerance for rounding errors so that computed atoms match."""
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
        r"""Return w(P(X <= y)) before clipping if `right`, else w(P(X < y))."""
        batch = self.shape
        outcomes = y.reshape(-1, *batch).movedim(0, -1).contiguous()  # (*, S)
        count = torch.searchsorted(self.values.contiguous(), outcomes, right=right)  # quantiles below y
        number = len(self.levels)
        below = count.sub(1).clamp_(0, number - 2)
        warped = _warp(self.levels)
        lower_quantile, upper_quantile = self.values.gather(-1, below), self.values.gather(-1, below + 1)
        weight = (outcomes - lower_quantile) / (upper_quantile - lower_quantile)
        w = torch.lerp(warped.to(y)[below], warped.to(y)[below + 1], weight)
        degenerate = (
            upper_quantile <= lower_quantile
        )  # only in a degenerate tail, whose mass sits on the outer quantile
        w = torch.where(degenerate, torch.where(count > 0, torch.inf, -torch.inf).to(w), w)
        if tail_scale is not None:
            lower, upper = (scale.unsqueeze(-1) / _LOW for scale in self._tail_scales(tail_scale))
            under, over = (outcomes - self.values[..., i : i + 1 or None] for i in (0, -1))
            w = w.where(under >= 0, float(warped[0]) + under / lower).where(over <= 0, float(warped[-1]) + over / upper)
        return w.movedim(-1, 0).reshape(y.shape)

    # Moments ---------------------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        r"""Return the mean, exact (with tails and the atoms of the support), with shape :math:`(*)`."""
        mean = self._moments()[0].to(self.values)
        return self._clip(torch.where(self._certain, self.values[..., 0], mean))  # rounding may cross a bound

    @property
    def variance(self) -> Tensor:
        r"""Return the variance, exact (with tails and the atoms of the support), with shape :math:`(*)`."""
        return torch.where(self._certain, 0.0, self._moments()[1].to(self.values))

    @property
    def _certain(self) -> Tensor:
        r"""Return which distributions are constants, whose moments are free of rounding errors, with shape (*)."""
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

    # Transformations -------------------------------------------------------------------------------------------------

    def rescaled(self, location: Tensor | float, scale: Tensor | float) -> QuantileFunction:
        r"""Return the distributions of location + scale * X.

        Arguments:
            location: The shift, a float or a tensor that broadcasts to :math:`(*)`.
            scale: The factor, positive, a float or a tensor that broadcasts to :math:`(*)`.

        Returns:
            The distributions, with their supports, in the new units.

        Raises:
            ValueError: If a scale is not positive.
        """
        location, scale = (torch.as_tensor(x).to(self.values) for x in (location, scale))
        if not bool((scale > 0).all()):
            raise ValueError("a law is rescaled by positive factors only")
        values = self.values * scale.unsqueeze(-1) + location.unsqueeze(-1)
        support = None if self.support is None else tuple(bound * scale + location for bound in self.support)
        return QuantileFunction(self.levels, values, support)  # type: ignore[arg-type]

    def reread(self, levels: Tensor | Sequence[float], sources: Tensor) -> QuantileFunction:
        r"""Return distributions whose quantiles at `levels` are those of these at other levels.

        Arguments:
            levels: The levels of the result, with shape :math:`(Q',)`.
            sources: The levels to evaluate, increasing along the last axis, with shape :math:`(Q',)` or a shape that
                broadcasts to :math:`(*, Q')`.

        Returns:
            The distributions, with the same support.
        """
        return QuantileFunction(levels, self._raw(sources), self.support)

    def supported(self, low: Tensor | float, high: Tensor | float) -> QuantileFunction:
        r"""Return the same distributions, clipped to other bounds.

        Arguments:
            low: The lower bound, a float or a tensor that broadcasts to :math:`(*)`.
            high: The upper bound, likewise.

        Returns:
            The distributions with this support instead of their own.
        """
        return QuantileFunction(self.levels, self.values, (low, high))

    def add_noise(self, variance: Tensor | float) -> QuantileFunction:
        r"""Return the distributions of X + E, with E normal, centred and independent of X.

        A support clips the sum. The distribution of X is divided into many thin slices with known mean and variance,
        each approximated as normal. Then X + E is a mixture of normals, and Newton's method finds its quantiles. For
        normal X the error is a few thousandths of the standard deviation.

        Arguments:
            variance: The variance of E, a float or a tensor that broadcasts to :math:`(*)`; where it is zero, the
                quantiles stay bitwise equal.

        Returns:
            The distributions of the sums, at the same levels.

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
        step = max(1, _CACHED // (32 * len(self.levels)))  # 32: about the number of slices from `_pieces`
        for i in range(0, len(rows), step):
            part = rows[i : i + step]
            values[part] = _convolve(self.levels, values[part], noise[part])
        return QuantileFunction(self.levels, values.view_as(self.values), self.support)

    @staticmethod
    def mix(g: Tensor | float, a: QuantileFunction, b: QuantileFunction) -> QuantileFunction:
        r"""Average the quantiles of two distributions: those of :math:`g A + (1 - g) B` with common ranks.

        Arguments:
            g: The weight of `a` in [0, 1], a float or a tensor that broadcasts to :math:`(*)`; 0 and 1 give the
                quantiles of `b` and of `a`, bitwise.
            a: The first distribution.
            b: The second distribution, of the same shape.

        Returns:
            The averaged distribution, at the levels of both.

        Raises:
            ValueError: If the distributions differ in shape.
        """
        if a.shape != b.shape:
            raise ValueError(f"only laws of one shape mix, got {tuple(a.shape)} and {tuple(b.shape)}")
        if not torch.equal(a.levels, b.levels):
            levels = sorted({*a.levels.tolist(), *b.levels.tolist()})
            a, b = a.resample(levels), b.resample(levels)
        weight = torch.as_tensor(g).to(a.values)

        def blend(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
            return torch.where(weight == 0, y, torch.where(weight == 1, x, weight * x + (1 - weight) * y))

        support = None
        if a.support is not None or b.support is not None:
            everywhere = (
                torch.tensor(-torch.inf, dtype=torch.float32).to(weight),
                torch.tensor(torch.inf, dtype=torch.float32).to(weight),
            )
            left, right = a.support or everywhere, b.support or everywhere
            support = (blend(left[0], right[0], weight), blend(left[1], right[1], weight))
        return QuantileFunction(a.levels, blend(a.values, b.values, weight.unsqueeze(-1)), support)


def reach_of_levels(u: Tensor) -> Tensor:
    r"""Return the nonconformity score (`QuantileFunction.reach`) of levels `u`."""
    return (2 * _warp(u) - 1).abs()


def _as_levels(levels: Tensor | Sequence[float]) -> Tensor:
    # A single-precision level stands for the decimal number that it was rounded from.
    if isinstance(levels, Tensor) and levels.dtype != torch.float64:
        levels = [float(f"{level:.7g}") for level in levels.tolist()]
    return torch.as_tensor(levels, dtype=torch.float64)


def _sorted(x: Tensor) -> Tensor:
    r"""Sort along the last axis, by numpy (ten times as fast) unless gradients are needed."""
    if x.requires_grad or x.device.type != "cpu":
        return x.sort(dim=-1).values
    return torch.from_numpy(np.sort(x.contiguous().numpy(), axis=-1))


def _warp(u: Tensor) -> Tensor:
    outer = torch.minimum(u, 1 - u)
    tail = (outer.clamp(max=_LOW) / _LOW).log()
    lower = torch.add(outer.clamp(min=_LOW), tail, alpha=_LOW)
    return torch.where(u < 0.5, lower, 1 - lower)


def _segment(levels: Tensor, u: Tensor) -> Tensor:
    r"""Return the segment between neighbouring levels that holds each of many u; the outer ones beyond."""
    base, knots = _bins(tuple(levels.tolist()), _BINS)
    place = (u * _BINS).long()
    segment = base.to(u.device).take(place)
    for knot in knots.to(u):
        segment += u >= knot.take(place)
    return segment.clamp_(0, len(levels) - 2)


@lru_cache(maxsize=64)
def _bins(levels: tuple[float, ...], number: int) -> tuple[Tensor, Tensor]:
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


def _unwarp(w: Tensor) -> Tensor:
    lower = _LOW * torch.exp((w - _LOW).clamp(max=0) / _LOW)
    upper = 1 - _LOW * torch.exp((_HIGH - w).clamp(max=0) / _LOW)
    return torch.where(w < _LOW, lower, torch.where(w > _HIGH, upper, w))


def _place(levels: Tensor, u: float, inside: float) -> tuple[int, float]:
    r"""Locate a level relative to the segment that holds `inside`.

    Arguments:
        levels: The levels of a quantile function, with shape (Q,).
        u: The level to locate.
        inside: A level inside the desired segment.

    Returns:
        The index of the segment's left end, and the position of `u` as a fraction of the segment, in w.
    """
    below = min(max(int(torch.searchsorted(levels, inside, right=True)) - 1, 0), len(levels) - 2)
    left, right, position = _warp(torch.stack((levels[below], levels[below + 1], levels.new_tensor(u)))).tolist()
    return below, (position - left) / (right - left)


@lru_cache(maxsize=64)
def _pieces(levels: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    r"""Divide the distribution into thin slices of probability, whose first two moments are linear in the quantiles.

    Arguments:
        levels: The levels of a quantile function.

    Returns:
        The probabilities (P,) of the slices, and the matrices (Q, P) that map quantiles (*, Q) to the conditional means
        and standard deviations (*, P).
    """
    knots = sorted({*levels, _LOW, _HIGH})
    edges = [knots[0]]
    for right in knots[1:]:  # the outer segments in halves, so that neighbouring slices have similar probabilities
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
        below, position = _place(grid, anchor, middle)
        position += shift / widths[below]
        means[below, p], means[below + 1, p] = 1 - position, position
        deviations[below, p], deviations[below + 1, p] = -deviation / widths[below], deviation / widths[below]
    return weights, means, deviations


def _shortfall(levels: Tensor, values: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return E (bound - X)^+ and the mean of its square, in closed form per segment.

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
        shortfall_at_start, shortfall_at_stop = (
            (bound - start).clamp(min=0),
            (bound - stop).clamp(min=0),
        )  # at both ends of the segment
        if _LOW < middle < _HIGH:
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
            slope = rise * (_LOW / widths[below])  # Q = const + c ln u, or const - c ln(1 - u)
            if middle <= _LOW:
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


def _convolve(levels: Tensor, values: Tensor, noise: Tensor) -> Tensor:
    r"""Return the quantiles of X + E at the same levels.

    Arguments:
        levels: The levels, with shape (Q,).
        values: The quantiles of X, with shape (N, Q).
        noise: The positive variances of E, with shape (N,).

    Returns:
        The quantiles, with shape (N, Q).
    """
    weights, means, deviations = (x.to(values) for x in _pieces(tuple(levels.tolist())))
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

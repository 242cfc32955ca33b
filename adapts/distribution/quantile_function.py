r"""Predictive marginals as quantile functions."""

from __future__ import annotations

__all__ = ["QuantileFunction"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..batching import slices
from .levels import (
    EDGE,
    LEVELS,
    LOW,
    as_levels,
    convolve_noise,
    level_bins,
    segment_integrals,
    segment_of,
    shortfall,
    sorted_values,
    unwarp_levels,
    warp_levels,
)
from .pits import JUMP, Pits

_MAX_SCORE = 1000.0  # maximum nonconformity score, beyond that of any useful distribution
_CHUNK = 2**22  # maximum number of elements of a vectorised step
_CACHED = 2**18  # the same where a step makes many passes over its elements, which must fit into the cache


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
        >>> x = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([-1.0, 0.0, 2.0]), support=(0.0, torch.inf))
        >>> x(0.9), x(0.25), x.cdf(torch.tensor(1.0))
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
        self.levels = as_levels(levels).to(values.device)
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
        levels = as_levels(levels)
        ordered = sorted_values(samples.movedim(0, -1))  # (*, S)
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
        pieces = [self._quantile(flat[chunk]) for chunk in slices(len(flat), math.prod(batch), _CACHED)]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).view(u.shape[: u.ndim - len(batch)] + batch)

    def _quantile(self, u: Tensor) -> Tensor:
        r"""Return the quantiles (S, *) at levels (S, *), within the support."""
        u = u.clamp(EDGE, 1 - EDGE)
        below = segment_of(self.levels, u)
        offset, width = self._weights(u)
        weight = torch.addcmul(offset.take(below), warp_levels(u), width.take(below))
        weight, below = (x.expand(len(u), *self.shape) for x in (weight, below))
        values = self.values.expand(*weight.shape, -1)
        below = below.unsqueeze(-1)
        left, right = values.gather(-1, below), values.gather(-1, below + 1)
        return self._clip(torch.lerp(left.squeeze(-1), right.squeeze(-1), weight.to(left)))

    def _weights(self, u: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return offset and width, (Q - 1,) each, of a segment's weight: offset + w(u) * width."""
        warped = warp_levels(self.levels)
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
        u = place.add(torch.arange(number, device=place.device)).div_(number).clamp_(EDGE, 1 - EDGE)
        base, knots = level_bins(tuple(self.levels.tolist()), number)
        below = base.to(u.device)  # (S,), per stratum
        if len(knots):
            below = below + (u.unsqueeze(0) >= knots.to(u).view(len(knots), *[1] * (u.ndim - 1), -1)).sum(0)
        below = below.clamp(0, len(self.levels) - 2)
        offset, width = self._weights(u)
        first = math.ceil(LOW * number)  # number of strata that touch an outer decile's tail
        for tail in (u[..., :first], u[..., max(first, number - first) :]):
            tail.copy_(warp_levels(tail))
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
        values = self._unclipped(as_levels(levels))
        if self.support is None:
            return values
        low, high = (bound.unsqueeze(-1) for bound in self.support)
        return values.maximum(low).minimum(high)

    def central(self, score: Tensor, tail_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return the interval about the median that holds the outcomes with nonconformity scores up to `score`.

        Arguments:
            score: The score of each interval, 0 or more, with a shape that broadcasts to :math:`(*)`. Up to .8 it is
                the probability of the interval; each further .2 divides the probability outside by :math:`e`.
            tail_scale: As for `score`.

        Returns:
            The lower and the upper bound, within the support, with shape :math:`(*)`.
        """
        warped, scales = warp_levels(self.levels).to(self.values), self._tail_scales(tail_scale)
        first, last = self.values[..., 0], self.values[..., -1]
        ends = []
        for w in ((1 - score) / 2, (1 + score) / 2):
            w = w.to(self.values).expand(self.shape).contiguous()
            below = torch.searchsorted(warped, w, right=True).sub_(1).clamp_(0, len(warped) - 2)
            left, right = (self.values.gather(-1, (below + i).unsqueeze(-1)).squeeze(-1) for i in (0, 1))
            x = torch.lerp(left, right, (w - warped[below]) / warped.diff()[below])
            x = x.where(w >= warped[0], first + (w - warped[0]) * scales[0] / LOW)
            ends.append(self._clip(x.where(w <= warped[-1], last + (w - warped[-1]) * scales[1] / LOW)))
        return ends[0], ends[1]

    def _unclipped(self, levels: Tensor) -> Tensor:
        r"""Return unclipped quantiles (*, Q') at levels (Q',), or at (..., Q') that broadcast against the batch."""
        levels = levels.to(self.levels).clamp(EDGE, 1 - EDGE)
        below = torch.searchsorted(self.levels, levels, right=True).sub_(1).clamp_(0, len(self.levels) - 2)
        warped = warp_levels(self.levels)
        weight = ((warp_levels(levels) - warped[below]) / warped.diff()[below]).to(self.values)
        if levels.ndim == 1:
            return torch.lerp(self.values[..., below], self.values[..., below + 1], weight)
        below, weight = (x.expand(*self.shape, -1) for x in (below, weight))  # views, materialised chunk by chunk
        values = self.values.new_empty(below.shape)
        for part in slices(len(values), math.prod(below.shape[1:]), _CHUNK):
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
        levels = as_levels(levels)
        return QuantileFunction(levels, self._unclipped(levels), self.support)

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

    def nonconformity(self, y: Tensor, tail_scale: Tensor | None = None) -> Tensor:
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
        return (2 * nearest - 1).abs().clamp(max=_MAX_SCORE).where(~y.isnan(), torch.nan)

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
        rises = warp_levels(self.levels).diff()[[0, -1]].tolist()
        lower, upper = (LOW * step / rise for step, rise in zip(steps, rises, strict=True))
        return (lower, upper) if least is None else (lower.maximum(least.to(lower)), upper.maximum(least.to(upper)))

    def _jump(self, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return F(y-) and F(y)."""
        lower, upper = (unwarp_levels(w).where(~y.isnan(), torch.nan) for w in self._warped_jump(y))
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
        warped = warp_levels(self.levels)
        lower_quantile, upper_quantile = self.values.gather(-1, below), self.values.gather(-1, below + 1)
        weight = (outcomes - lower_quantile) / (upper_quantile - lower_quantile)
        w = torch.lerp(warped.to(y)[below], warped.to(y)[below + 1], weight)
        degenerate = (
            upper_quantile <= lower_quantile
        )  # only in a degenerate tail, whose mass sits on the outer quantile
        w = torch.where(degenerate, torch.where(count > 0, torch.inf, -torch.inf).to(w), w)
        if tail_scale is not None:
            lower, upper = (scale.unsqueeze(-1) / LOW for scale in self._tail_scales(tail_scale))
            under, over = (outcomes - self.values[..., i : i + 1 or None] for i in (0, -1))
            w = w.where(under >= 0, float(warped[0]) + under / lower).where(over <= 0, float(warped[-1]) + over / upper)
        return w.movedim(-1, 0).reshape(y.shape)

    # Moments ---------------------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        r"""Return the mean, exact (with tails and the atoms of the support), with shape :math:`(*)`."""
        mean = self._moments()[0].to(self.values)
        return self._clip(torch.where(self._degenerate, self.values[..., 0], mean))  # rounding may cross a bound

    @property
    def variance(self) -> Tensor:
        r"""Return the variance, exact (with tails and the atoms of the support), with shape :math:`(*)`."""
        return torch.where(self._degenerate, 0.0, self._moments()[1].to(self.values))

    @property
    def _degenerate(self) -> Tensor:
        r"""Return which distributions are constants, whose moments are free of rounding errors, with shape (*)."""
        return self.values[..., 0] == self.values[..., -1]

    def _moments(self) -> tuple[Tensor, Tensor]:
        weights, means, deviations = (x.to(self.levels.device) for x in segment_integrals(tuple(self.levels.tolist())))
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
            below, below_squared = shortfall(self.levels, quantiles, low)
            above, above_squared = shortfall(1 - self.levels.flip(0), -quantiles.flip(0), -high)
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
            raise ValueError("rescaled expects positive scales")
        values = self.values * scale.unsqueeze(-1) + location.unsqueeze(-1)
        support = None if self.support is None else tuple(bound * scale + location for bound in self.support)
        return QuantileFunction(self.levels, values, support)  # type: ignore[arg-type]

    def remap_levels(self, levels: Tensor | Sequence[float], sources: Tensor) -> QuantileFunction:
        r"""Return distributions whose quantiles at `levels` are those of these at other levels.

        Arguments:
            levels: The levels of the result, with shape :math:`(Q',)`.
            sources: The levels to evaluate, increasing along the last axis, with shape :math:`(Q',)` or a shape that
                broadcasts to :math:`(*, Q')`.

        Returns:
            The distributions, with the same support.
        """
        return QuantileFunction(levels, self._unclipped(sources), self.support)

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
        # 32: about the number of slices from `segment_integrals`
        for chunk in slices(len(rows), 32 * len(self.levels), _CACHED):
            part = rows[chunk]
            values[part] = convolve_noise(self.levels, values[part], noise[part])
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
            raise ValueError(f"mix expects distributions of the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")
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

r"""Channels of which a context shows a few values only, told by what the train rows know of how long values last."""

from __future__ import annotations

__all__ = ["ENOUGH", "ColdStart"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..persistence.tensors import require_names, taken
from ..statistics.gaussian import autocovariance
from .interpolation import short_gaps

#: The values that a window must show of a channel for the frozen model alone to be asked of it: the fewest, and more.
ENOUGH = (16, 24, 36, 48, 72, 96, 144, 192)
#: The numbers of values that both laws are tried on, beside those.
TRIED = (3, 6, 10)
#: The squared distance of values from the level of the train rows, in deviations, beyond which they have their own.
ODD = 9.0
#: The last values that are looked at.
LATEST = 64
_TENSORS = ("correlation", "variance", "levels", "errors")
#: What a value says of itself that is not the channel's: a share of the variance, which makes the equations soluble.
NUGGET = 1e-3
#: The largest correlation, up to rounding.
_UNIT = 1.0 + 1e-9
#: The errors that quantiles are taken of, at least; a normal law's stand in where there are fewer.
ERRORS = 50
#: The origins that errors are measured at, and the numbers that these errors may take together.
ORIGINS, CELLS = 2000, 2**23
#: The numbers of equations that are held at a time, and the channels whose quantiles are found together.
HELD, WIDTH = 2**22, 256


@dataclass(frozen=True, eq=False)
class ColdStart:
    r"""What a few values of a channel tell of those to come.

    The train rows' correlations over time give the best linear forecast from whatever values there are, at any ages
    (simple kriging): with :math:`R` the correlations of the values :math:`x` with each other and :math:`r_h` those
    with the value :math:`h` steps ahead,

    .. math:: \mu_h = r_h^\top R^{-1} x, \qquad \sigma_h^2 = \gamma_0 (1 - r_h^\top R^{-1} r_h)

    For a single value :math:`a` steps old these are :math:`\rho_{h+a} x` and :math:`\gamma_0 (1 - \rho_{h+a}^2)`. Rows
    are standardised over all items, so that where items have levels of their own, values far apart are correlated too,
    and the forecast stays near the level of the item. The quantiles about the mean are those of the train rows' errors,
    forecast from one value, in units of :math:`\sigma_h`.

    With :math:`a = 1^\top R^{-1} 1` and :math:`b = 1^\top R^{-1} x / \sqrt{\gamma_0}`, values for which
    :math:`b^2 / a > 9` lie more than three deviations from the level of the train rows. They have a level of their own,
    normal with variance :math:`\tau^2 \gamma_0`, :math:`\tau^2 = (b^2 / a - 9) / a`, which is told with them: kriging
    with an unknown mean, as :math:`\tau` grows.

    References:
        | Interpolation of Spatial Data: Some Theory for Kriging (Stein, 1999)

    Arguments:
        correlation: The correlations :math:`\rho` at lags from 0 on, with shape :math:`(M, D)`, positive semidefinite.
        variance: The variance :math:`\gamma_0` about zero, with shape :math:`(D,)`.
        levels: The levels of the quantiles, with shape :math:`(Q,)`.
        errors: The quantiles of the errors at each lead, with shape :math:`(H, D, Q)`.
        enough: The number of values from which on the frozen model is asked alone.
    """

    correlation: Tensor
    variance: Tensor
    levels: Tensor
    errors: Tensor
    enough: int = ENOUGH[0]

    @classmethod
    def fit(
        cls, items: Sequence[Tensor], context_length: int, blocks: Tensor, levels: Tensor | Sequence[float]
    ) -> ColdStart:
        r"""Estimates it of train rows.

        Arguments:
            items: The standardised rows of each item in order of time, each with shape :math:`(T_i, D)`. NaN marks a
                missing cell.
            context_length: The number of context steps :math:`L`.
            blocks: The block of leads that each lead belongs to, with shape :math:`(H,)`; the errors of a block share
                their quantiles.
            levels: The levels of these, with shape :math:`(Q,)`.

        Returns:
            What a few values tell. A channel that never changes is forecast to stay as it is, with no width.
        """
        horizon, levels = len(blocks), torch.as_tensor(levels, dtype=torch.float64)
        covariance = autocovariance(items, context_length + horizon)
        variance = covariance[0]
        correlation = torch.where(variance > 1e-12, covariance / variance.clamp(min=1e-12), 1.0)
        errors = _errors(items, correlation[1 : horizon + 1], variance)  # (n, H, D)
        normal = torch.special.ndtri(levels)
        quantiles = torch.empty(horizon, errors.shape[-1], len(levels), dtype=torch.float64)
        for block in blocks.unique():
            some = errors[:, blocks == block].flatten(0, 1)
            enough = (~some.isnan()).sum(0) >= ERRORS
            found = torch.cat([torch.nanquantile(part, levels, dim=0) for part in some.split(WIDTH, 1)], 1).mT  # (D, Q)
            quantiles[blocks == block] = torch.where(enough[:, None], found, normal)
        return cls(correlation, variance, levels, quantiles)

    def left(self, past: Tensor) -> Tensor:
        r"""Returns what share of the law of a channel is left to the frozen model.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN marks a missing step.

        Returns:
            The shares, with shape :math:`(n, D)`: 0 of one or two values, which tell a model no spread, then rising to
            1 for `enough`; 1 where no value is seen, which tells nothing of those to come. Of the steps of short gaps,
            which the frozen model sees bridged, two count for each value.
        """
        count = (~past.isnan()).sum(1)
        interpolated = short_gaps(past.mT.flatten(0, 1)).sum(1).view_as(count)
        count = count + torch.minimum(2 * count, interpolated)
        return torch.where(count > 0, _share(count, self.enough), 1.0)

    def handed_over(
        self, past: Tensor, future: Tensor, channel: Tensor, forecast: Callable[[Tensor], Tensor]
    ) -> ColdStart:
        r"""Finds how many values are enough for the frozen model alone, by contexts cut short.

        Both laws are made of the last 3, 6, ... values of each context; what their mixtures lose, by the mean pinball
        loss over all of these numbers, is least for the number that is taken.

        Arguments:
            past: The contexts of one channel each, with shape :math:`(p, L)`, best of rows behind those that it was
                fitted on. NaN marks a missing step. No more than :math:`L / 2` values are ever asked for.
            future: What came true, with shape :math:`(p, H)`.
            channel: The channel of each, with shape :math:`(p,)`.
            forecast: Gives the frozen model's quantiles at `levels`, :math:`(p, H, Q)`, of contexts.

        Returns:
            The same, handed over there.
        """
        most = past.shape[1] // 2
        candidates = [number for number in ENOUGH if number <= most] or [ENOUGH[0]]
        later = (~past.isnan()).flip(1).cumsum(1).flip(1)  # values from each step on
        losses = torch.zeros(len(candidates), dtype=torch.float64)
        for count in (*TRIED, *candidates[:-1]):
            some = later[:, 0] >= count
            if not bool(some.any()):
                break
            cut = past[some].where(later[some] <= count, torch.nan)
            cut = cut[:, int((~cut.isnan()).any(0).int().argmax()) :]
            frozen, told, truth = forecast(cut).double(), self.law(cut, channel[some]).double(), future[some, :, None]
            for number, enough in enumerate(candidates):
                error = truth - torch.lerp(told, frozen, float(_share(torch.tensor(count), enough)))
                losses[number] += torch.maximum(self.levels * error, (self.levels - 1) * error).nanmean()
        return replace(self, enough=candidates[int(losses.argmin())])

    def law(self, past: Tensor, channel: Tensor) -> Tensor:
        r"""Forecasts windows of one channel each from the values that they show, the last `LATEST` of them.

        Arguments:
            past: The contexts, with shape :math:`(p, L)`. NaN marks a missing step.
            channel: The channel of each, with shape :math:`(p,)`.

        Returns:
            The quantiles at `levels`, with shape :math:`(p, H, Q)`, of the precision of `past`.
        """
        step = max(1, HELD // (LATEST * (LATEST + len(self.errors))))
        pairs = zip(past.split(step), channel.split(step), strict=True)
        return torch.cat([self._law(*some) for some in pairs]).to(past)

    def _law(self, past: Tensor, channel: Tensor) -> Tensor:
        length, horizon = past.shape[1], len(self.errors)
        seen = torch.where(past.isnan(), -1, torch.arange(length))
        at = seen.topk(min(LATEST, length), dim=1).values  # (p, k), -1 where there are fewer values
        known = at >= 0
        x = torch.where(known, past.double().gather(1, at.clamp(min=0)), 0.0)
        between = self._at((at[:, :, None] - at[:, None, :]).abs(), channel)
        ahead = self._at(torch.arange(length, length + horizon) - at[:, :, None], channel)  # (p, k, H)
        own = torch.where(known, NUGGET, 1.0)  # a unit equation for each value that is not there
        matrix = between * (known[:, :, None] & known[:, None, :]) + torch.diag_embed(own)
        ahead = ahead * known[:, :, None]
        ones = known[:, :, None].double()
        solved = torch.linalg.solve(matrix, torch.cat([ahead, ones], 2))
        weights, even = solved[..., :-1], solved[..., -1]  # (p, k, H), (p, k)
        # The level of its own that the values are likeliest about, where they are all but impossible about zero.
        variance = self.variance[channel].clamp(min=1e-12)
        told, far = (even * ones[..., 0]).sum(1), (even * x).sum(1) / variance.sqrt()
        own = ((far.square() / told - ODD) / told).clamp(min=0)  # its variance, 0 mostly
        level = (variance.sqrt() * own * far / (1 + own * told)).unsqueeze(1)
        mean = level + (weights * (x - level)[:, :, None]).sum(1)
        doubt = (1 - (weights * ones).sum(1)).square() * (own / (1 + own * told)).unsqueeze(1)
        left = (1 - (weights * ahead).sum(1)).clamp(min=0) + doubt
        spread = (self.variance[channel, None] * left).sqrt()
        quantiles: Tensor = mean[..., None] + spread[..., None] * self.errors[:, channel].transpose(0, 1)
        return quantiles

    def _at(self, lag: Tensor, channel: Tensor) -> Tensor:
        r"""The correlations of one channel each at lags (p, *)."""
        found: Tensor = self.correlation[lag.clamp(max=len(self.correlation) - 1), channel[:, None, None]]
        return found

    def state(self) -> dict[str, Tensor]:
        r"""Returns the tensors, by name."""
        return {name: torch.as_tensor(getattr(self, name)) for name in (*_TENSORS, "enough")}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> ColdStart:
        r"""Makes it of its tensors.

        Arguments:
            state: What `state` returned.

        Returns:
            What a few values tell.

        Raises:
            ValueError: If a tensor is not as `state` makes it.
        """
        require_names("what a few values tell", state, [*_TENSORS, "enough"])
        count = len(state["variance"]) if state["variance"].ndim else 0
        correlation = taken(state, "correlation", torch.float64, (None, count), low=-_UNIT, high=_UNIT)
        if not correlation.numel() or bool(((correlation[0] - 1).abs() > _UNIT - 1).any()):
            raise ValueError("the tensor 'correlation' is expected to begin with 1, the correlation at lag 0")
        power = torch.fft.rfft(torch.cat([correlation, correlation[1:-1].flip(0)]), dim=0).real
        if bool((power < -1e-6 * len(correlation)).any()):
            raise ValueError("the tensor 'correlation' is expected to be positive semidefinite")
        levels = taken(state, "levels", torch.float64, (None,), low=0.0, high=1.0)
        if not len(levels) or bool((levels.diff() <= 0).any()):
            raise ValueError("the tensor 'levels' is expected to hold levels that rise")
        errors = taken(state, "errors", torch.float64, (None, count, len(levels)))
        enough = int(taken(state, "enough", torch.int64, (), low=ENOUGH[0], high=ENOUGH[-1]))
        variance = taken(state, "variance", torch.float64, (count,), low=0.0)
        return cls(correlation, variance, levels, errors, enough)


def _share(count: Tensor, enough: int) -> Tensor:
    r"""The frozen model's share of laws of so many values."""
    return ((count - 2) / (enough - 2)).clamp(0, 1)


def _errors(items: Sequence[Tensor], correlation: Tensor, variance: Tensor) -> Tensor:
    r"""The errors (n, H, D) of forecasts from one value, at origins that lie evenly in the rows, in their own units."""
    horizon, channels = correlation.shape
    apart = torch.full((horizon, channels), torch.nan, dtype=torch.float64)
    rows = torch.cat([piece for item in items for piece in (item.double(), apart)])
    number = min(len(rows) - horizon, ORIGINS, max(ERRORS, CELLS // (horizon * channels)))
    origin = torch.linspace(0, len(rows) - horizon - 1, number, dtype=torch.float32).long()
    now, later = rows[origin, None], rows[origin[:, None] + torch.arange(1, horizon + 1)]
    spread = (variance * (1 - correlation.square())).clamp(min=1e-12).sqrt()
    return (later - correlation * now) / spread

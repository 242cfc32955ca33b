r"""Cold-start forecasts of channels with few observed values, from the autocorrelation of the train rows."""

from __future__ import annotations

__all__ = ["THRESHOLDS", "ColdStart"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..persistence.tensors import require_names, taken
from ..statistics.gaussian import autocovariance
from ..statistics.losses import pinball_loss
from .interpolation import short_gaps

#: The candidate cold-start thresholds: from so many values on, the zero-shot forecast is used alone.
THRESHOLDS = (16, 24, 36, 48, 72, 96, 144, 192)
#: Further numbers of values at which both forecasts are compared.
COMPARED_COUNTS = (3, 6, 10)
#: The squared standardised distance from the level of the train rows beyond which values get a separate level.
MAX_SQUARED_DISTANCE = 9.0
#: The maximum number of values used, the latest ones.
MAX_VALUES = 64
_TENSORS = ("correlation", "variance", "levels", "errors")
#: The nugget of the kriging equations, as a fraction of the variance, which keeps them solvable.
NUGGET = 1e-3
#: The largest correlation, up to rounding.
_UNIT = 1.0 + 1e-9
#: The minimum number of errors for empirical quantiles; below it, normal quantiles are used.
MIN_ERRORS = 50
#: The maximum numbers of origins and of errors.
MAX_ORIGINS, MAX_ERRORS = 2000, 2**23
#: The batch sizes: elements of equations in memory, and channels per quantile computation.
MAX_ELEMENTS, CHANNELS_PER_BATCH = 2**22, 256


@dataclass(frozen=True, eq=False)
class ColdStart:
    r"""Cold-start forecast of a channel from a few values, by simple kriging.

    The best linear forecast follows from the autocorrelations of the train rows, for any number of values at any ages.
    With :math:`R` the correlations of the values :math:`x` and :math:`r_h` those with the value :math:`h` steps ahead,

    .. math:: \mu_h = r_h^\top R^{-1} x, \qquad \sigma_h^2 = \gamma_0 (1 - r_h^\top R^{-1} r_h)

    For a single value :math:`a` steps old these are :math:`\rho_{h+a} x` and :math:`\gamma_0 (1 - \rho_{h+a}^2)`. Rows
    are standardised over all items. If items differ in level, distant values are therefore correlated too, and the
    forecast stays near the item's level. The quantiles about the mean are those of errors on the train rows, forecast
    from one value, in units of :math:`\sigma_h`.

    Let :math:`a = 1^\top R^{-1} 1` and :math:`b = 1^\top R^{-1} x / \sqrt{\gamma_0}`. Values with :math:`b^2 / a > 9`
    lie more than three standard deviations from the level of the train rows, and get a separate level. This level
    has a normal prior with variance :math:`\tau^2 \gamma_0`, where :math:`\tau^2 = (b^2 / a - 9) / a`, and is estimated
    from the values. As :math:`\tau` grows, this becomes kriging with an unknown mean.

    References:
        | Interpolation of Spatial Data: Some Theory for Kriging (Stein, 1999)

    Arguments:
        correlation: The autocorrelations :math:`\rho` at lags from 0 on, with shape :math:`(M, D)`, positive
            semidefinite.
        variance: The variance :math:`\gamma_0` about zero, with shape :math:`(D,)`.
        levels: The levels of the quantiles, with shape :math:`(Q,)`.
        errors: The error quantiles at each horizon step (lead time), with shape :math:`(H, D, Q)`.
        threshold: The cold-start threshold: the number of values from which on the zero-shot forecast is used alone.
    """

    correlation: Tensor
    variance: Tensor
    levels: Tensor
    errors: Tensor
    threshold: int = THRESHOLDS[0]

    @classmethod
    def fit(
        cls, items: Sequence[Tensor], context_length: int, blocks: Tensor, levels: Tensor | Sequence[float]
    ) -> ColdStart:
        r"""Estimate autocorrelations and error quantiles from train rows.

        Arguments:
            items: The standardised rows of each item in order of time, each with shape :math:`(T_i, D)`. NaN marks a
                missing cell.
            context_length: The context length :math:`L`.
            blocks: The block of each horizon step, with shape :math:`(H,)`; the steps of a block share their error
                quantiles.
            levels: The levels of these quantiles, with shape :math:`(Q,)`.

        Returns:
            The cold-start forecast. A constant channel is forecast to stay constant, with zero variance.
        """
        horizon, levels = len(blocks), torch.as_tensor(levels, dtype=torch.float64)
        covariance = autocovariance(items, context_length + horizon)
        variance = covariance[0]
        correlation = torch.where(variance > 1e-12, covariance / variance.clamp(min=1e-12), 1.0)
        errors = _errors(items, correlation[1 : horizon + 1], variance)  # (n, H, D)
        normal = torch.special.ndtri(levels)
        quantiles = torch.empty(horizon, errors.shape[-1], len(levels), dtype=torch.float64)
        for block in blocks.unique():
            block_errors = errors[:, blocks == block].flatten(0, 1)
            sufficient = (~block_errors.isnan()).sum(0) >= MIN_ERRORS
            empirical = torch.cat(
                [torch.nanquantile(channels, levels, dim=0) for channels in block_errors.split(CHANNELS_PER_BATCH, 1)],
                1,
            ).mT  # (D, Q)
            quantiles[blocks == block] = torch.where(sufficient[:, None], empirical, normal)
        return cls(correlation, variance, levels, quantiles)

    def zero_shot_weight(self, past: Tensor) -> Tensor:
        r"""Return the weight of the zero-shot forecast of each channel.

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`. NaN marks a missing step.

        Returns:
            The weights, with shape :math:`(n, D)`: 0 for one or two values, which give a model no variance, then rising
            linearly to 1 at `threshold` values. The weight is also 1 without any value, when a cold-start forecast has
            no information. Steps in short gaps, which are linearly interpolated for the frozen model, count as values
            too, up to two per observed value.
        """
        count = (~past.isnan()).sum(1)
        interpolated = short_gaps(past.mT.flatten(0, 1)).sum(1).view_as(count)
        count = count + torch.minimum(2 * count, interpolated)
        return torch.where(count > 0, _weight(count, self.threshold), 1.0)

    def with_selected_threshold(
        self, past: Tensor, future: Tensor, channel: Tensor, forecast: Callable[[Tensor], Tensor]
    ) -> ColdStart:
        r"""Select the cold-start threshold on truncated contexts.

        Both forecasts are computed from the last 3, 6, ... values of each context. The selected threshold minimises the
        mean quantile loss of their weighted average over all of these numbers.

        Arguments:
            past: The contexts of one channel each, with shape :math:`(p, L)`, preferably from rows after those of the
                fit. NaN marks a missing step. The threshold is at most :math:`L / 2`, or 16 if that is larger.
            future: The observed values, with shape :math:`(p, H)`.
            channel: The channel of each context, with shape :math:`(p,)`.
            forecast: A function that maps contexts to the frozen model's quantiles at `levels`, :math:`(p, H, Q)`.

        Returns:
            The same forecast with the selected threshold.
        """
        longest = past.shape[1] // 2
        candidates = [number for number in THRESHOLDS if number <= longest] or [THRESHOLDS[0]]
        values_from = (~past.isnan()).flip(1).cumsum(1).flip(1)  # number of values from each step on
        losses = torch.zeros(len(candidates), dtype=torch.float64)
        for count in (*COMPARED_COUNTS, *candidates[:-1]):
            usable = values_from[:, 0] >= count
            if not bool(usable.any()):
                break
            truncated = past[usable].where(values_from[usable] <= count, torch.nan)
            truncated = truncated[:, int((~truncated.isnan()).any(0).int().argmax()) :]
            zero_shot, own_forecast, truth = (
                forecast(truncated).double(),
                self.quantiles(truncated, channel[usable]).double(),
                future[usable, :, None],
            )
            for number, threshold in enumerate(candidates):
                error = truth - torch.lerp(own_forecast, zero_shot, float(_weight(torch.tensor(count), threshold)))
                losses[number] += pinball_loss(error, self.levels).nanmean()
        return replace(self, threshold=candidates[int(losses.argmin())])

    def quantiles(self, past: Tensor, channel: Tensor) -> Tensor:
        r"""Forecast windows of one channel each from their last `MAX_VALUES` values.

        Arguments:
            past: The contexts, with shape :math:`(p, L)`. NaN marks a missing step.
            channel: The channel of each context, with shape :math:`(p,)`.

        Returns:
            The quantiles at `levels`, with shape :math:`(p, H, Q)`, in the data type of `past`.
        """
        step = max(1, MAX_ELEMENTS // (MAX_VALUES * (MAX_VALUES + len(self.errors))))
        pairs = zip(past.split(step), channel.split(step), strict=True)
        return torch.cat([self._quantiles(*batch) for batch in pairs]).to(past)

    def _quantiles(self, past: Tensor, channel: Tensor) -> Tensor:
        length, horizon = past.shape[1], len(self.errors)
        observed = torch.where(past.isnan(), -1, torch.arange(length))
        positions = observed.topk(min(MAX_VALUES, length), dim=1).values  # (p, k), -1 where there are fewer values
        known = positions >= 0
        x = torch.where(known, past.double().gather(1, positions.clamp(min=0)), 0.0)
        between = self._at((positions[:, :, None] - positions[:, None, :]).abs(), channel)
        ahead = self._at(torch.arange(length, length + horizon) - positions[:, :, None], channel)  # (p, k, H)
        nugget = 1 + (NUGGET - 1) * known.double()  # a unit equation for each absent value
        matrix = between * (known[:, :, None] & known[:, None, :]) + torch.diag_embed(nugget)
        ahead = ahead * known[:, :, None]
        ones = known[:, :, None].double()
        solved = torch.linalg.solve(matrix, torch.cat([ahead, ones], 2))
        weights, solved_ones = solved[..., :-1], solved[..., -1]  # (p, k, H), (p, k)
        # A separate level for values that are almost impossible about zero.
        variance = self.variance[channel].clamp(min=1e-12)
        precision, score = (solved_ones * ones[..., 0]).sum(1), (solved_ones * x).sum(1) / variance.sqrt()
        prior = ((score.square() / precision - MAX_SQUARED_DISTANCE) / precision).clamp(
            min=0
        )  # relative prior variance, usually 0
        level = (variance.sqrt() * prior * score / (1 + prior * precision)).unsqueeze(1)
        mean = level + (weights * (x - level)[:, :, None]).sum(1)
        level_variance = (1 - (weights * ones).sum(1)).square() * (prior / (1 + prior * precision)).unsqueeze(1)
        relative_variance = (1 - (weights * ahead).sum(1)).clamp(min=0) + level_variance
        deviation = (self.variance[channel, None] * relative_variance).sqrt()
        quantiles: Tensor = mean[..., None] + deviation[..., None] * self.errors[:, channel].transpose(0, 1)
        return quantiles

    def _at(self, lag: Tensor, channel: Tensor) -> Tensor:
        r"""Return the autocorrelations of one channel each at lags (p, *)."""
        correlations: Tensor = self.correlation[lag.clamp(max=len(self.correlation) - 1), channel[:, None, None]]
        return correlations

    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors by name."""
        tensors = {name: torch.as_tensor(getattr(self, name)) for name in _TENSORS}
        return {**tensors, "enough": torch.as_tensor(self.threshold)}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> ColdStart:
        r"""Restore the forecast from its tensors.

        Arguments:
            state: The result of `state`.

        Returns:
            The cold-start forecast.

        Raises:
            ValueError: If a tensor is invalid.
        """
        require_names("the cold-start model", state, [*_TENSORS, "enough"])
        count = len(state["variance"]) if state["variance"].ndim else 0
        correlation = taken(state, "correlation", torch.float64, (None, count), low=-_UNIT, high=_UNIT)
        if not correlation.numel() or bool(((correlation[0] - 1).abs() > _UNIT - 1).any()):
            raise ValueError("the tensor 'correlation' is expected to begin with 1, the correlation at lag 0")
        power = torch.fft.rfft(torch.cat([correlation, correlation[1:-1].flip(0)]), dim=0).real
        if bool((power < -1e-6 * len(correlation)).any()):
            raise ValueError("the tensor 'correlation' is expected to be positive semidefinite")
        levels = taken(state, "levels", torch.float64, (None,), low=0.0, high=1.0)
        if not len(levels) or bool((levels.diff() <= 0).any()):
            raise ValueError("the tensor 'levels' is expected to hold increasing levels")
        errors = taken(state, "errors", torch.float64, (None, count, len(levels)))
        threshold = int(taken(state, "enough", torch.int64, (), low=THRESHOLDS[0], high=THRESHOLDS[-1]))
        variance = taken(state, "variance", torch.float64, (count,), low=0.0)
        return cls(correlation, variance, levels, errors, threshold)


def _weight(count: Tensor, threshold: int) -> Tensor:
    r"""Return the weight of the zero-shot forecast at given numbers of values."""
    return ((count.float() - 2) / (threshold - 2)).clamp(0, 1)


def _errors(items: Sequence[Tensor], correlation: Tensor, variance: Tensor) -> Tensor:
    r"""Return standardised errors (n, H, D) of forecasts from one value, at evenly spaced origins."""
    horizon, channels = correlation.shape
    separator = torch.full((horizon, channels), torch.nan, dtype=torch.float64)
    rows = torch.cat([block for item in items for block in (item.double(), separator)])
    count = min(len(rows) - horizon, MAX_ORIGINS, max(MIN_ERRORS, MAX_ERRORS // (horizon * channels)))
    origin = torch.linspace(0, len(rows) - horizon - 1, count, dtype=torch.float32).long()
    current, later = rows[origin, None], rows[origin[:, None] + torch.arange(1, horizon + 1)]
    deviation = (variance * (1 - correlation.square())).clamp(min=1e-12).sqrt()
    return (later - correlation * current) / deviation

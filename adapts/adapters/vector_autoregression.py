r"""A vector autoregression of all channels, with the width of the frozen model's forecast."""

from __future__ import annotations

__all__ = ["VectorAutoregression", "growth_rate"]

import math

import torch
from torch import Tensor

from .. import checks
from ..batching import evenly_spaced, slices
from ..persistence.tensors import taken
from ..statistics.ridge import RidgePath, count_folds, cross_validated_error
from .base import RegressionData, State, fill_missing, register, shares, varies, window_moments
from .closed_form import ClosedForm

#: Ridge strengths, relative to the mean square of the regressors.
STRENGTHS = torch.logspace(-6, 3, 19, dtype=torch.float64)
#: The age of a lag, in steps, at which its regressors are scaled by one half before the ridge.
AGEING = 12
#: The maximum number of lags times channels.
MOST_REGRESSORS = 1536
#: The approximate number of one-step pairs of a solution, and the minimum number of windows they come from.
PAIRS, LEAST_WINDOWS = 30_000, 40
#: The mean absolute error in units of the frozen model's is clipped here.
LEAST_WIDTH, MOST_WIDTH = 0.2, 3.0
#: The maximum growth of iterated forecasts per step, and over the whole horizon.
GROWTH_PER_STEP, GROWTH_OVER_HORIZON = 1.02, math.exp(2)
#: Values beyond the range of the train windows by this fraction of it are too far for the autoregression.
BEYOND = 0.5


@register("var")
class VectorAutoregression(ClosedForm):
    r"""Forecasts all channels from the lags of all channels, one step after the other.

    .. math::
        m'_{h+1} &= m'_h + c + \sum_{k < P} A_k m'_{h-k} \\
        \hat q_{h, d}(\tau) &= m'_{h, d} + b_{h, d} (q_{h, d}(\tau) - m_{h, d})

    where :math:`m'` continues the context, :math:`q` are the zero-shot quantiles, :math:`m` their median, and
    :math:`b_{h, d}` the mean absolute error of :math:`m'` divided by that of :math:`m`. The frozen model adds its
    width, and not its location.

    A ridge gives :math:`A` and :math:`c` from one-step pairs whose targets lie in the horizons of the train windows.
    Regressors of lag :math:`k` are divided by :math:`1 + k / 12` before the ridge, so that old lags shrink more, as
    under a Minnesota prior. Infinite shrinkage gives a random walk. Each channel has its own strength, from blocked
    cross-validation of the one-step errors. The errors in :math:`b` are those of cross-validation too, except where
    there are fewer than two folds. Unstable solutions are shrunk more: strengths are multiplied by 10 until iterated
    forecasts grow by at most 2 % per step, and :math:`e^2`-fold over the horizon.

    Deterministic; marginals stay monotone in the level. The latent channels are the observed ones, so that one pass of
    the frozen model serves the adapter and the zero-shot forecast. Cost is cubic in :math:`P D`, at most 1536; with
    more than 1536 channels the family stays the frozen model. `Adapter.update` adds the pairs of new windows to the
    sufficient statistics and refits at the selected strengths. A pair counts once for each window whose horizon holds
    it, in fits and updates alike; a fit on a part of the windows scales its sums up to all of them.

    Missing steps enter as their conditional means given the channels observed at the same step. Pairs with a step
    where no channel is observed are left out. A channel with a constant context keeps its zero-shot forecast. So does a
    window with a value among the lags that lies beyond the range of the train windows by more than half of it. The
    coefficients belong to levels in the units of the train rows, which `Adapter` standardises. Forecasts are therefore
    equivariant to location and scale of the whole series, but not of a single window.

    References:
        | Forecasting with Bayesian Vector Autoregressions: Five Years of Experience (Litterman, 1986)
        | https://doi.org/10.1080/07350015.1986.10509491

    Arguments:
        lags: The maximum number of lags :math:`P`; there are fewer for a shorter context, or for more than 64 channels.

    Example:
        >>> var = VectorAutoregression(lags=12).build(channels=7)
        >>> z, state = var.encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([1, 32, 96, 7])
    """

    lags: int = 24

    solution = ("weights", "width", "strength", "gram", "cross", "extent")
    weights: Tensor  # (P D + 1, D), the oldest lag first, the constant last
    width: Tensor  # (H, D)
    strength: Tensor  # (D,)
    gram: Tensor  # (P D + 1, P D + 1), of scaled regressors
    cross: Tensor  # (P D + 1, D)
    extent: Tensor  # (2, D), the lowest and the highest value of the windows

    def _check(self) -> None:
        checks.integer("VectorAutoregression expects lags", self.lags)

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        if not (state := self.solved):
            return
        size = self._count_lags(context_length) * self.channels + 1
        taken(state, "strength", torch.float64, (self.channels,), low=0.0)
        taken(state, "width", torch.float32, (prediction_length, self.channels), low=LEAST_WIDTH, high=MOST_WIDTH)
        taken(state, "gram", torch.float64, (size, size))
        taken(state, "cross", torch.float64, (size, self.channels))
        taken(state, "weights", torch.float32, (size, self.channels))
        taken(state, "extent", torch.float32, (2, self.channels))
        if growth_rate(self.weights) > 1.001 * _most_growth(prediction_length):  # with room for single precision
            raise ValueError(
                "the forecasts of VectorAutoregression are expected to be stable: no fit gives its weights"
            )

    def _count_lags(self, context_length: int) -> int:
        r"""Return the number of lags :math:`P`; 0 for too many channels."""
        return min(self.lags, context_length, MOST_REGRESSORS // self.channels)

    # ------------------------------------------------------------------ regression

    @torch.no_grad()
    def solve(self, data: RegressionData, *, choose: bool) -> None:
        if not self._count_lags(data.past.shape[1]):
            return
        data = data[data.fold >= 0] if choose else data
        used = data[torch.from_numpy(evenly_spaced(len(data.past), self._count_windows(data)))]
        fold = used.fold if choose else torch.zeros(len(used.past), dtype=torch.long)
        parts = [used[fold == index] for index in range(int(fold.max()) + 1)]
        gram, cross, square = (torch.stack(sums) for sums in zip(*map(self._sums, parts), strict=True))
        weight = len(data.past) / len(used.past)
        self.extent = _extent(used)
        self.gram, self.cross = gram.sum(0) * weight, cross.sum(0) * weight
        if choose:
            self.strength = STRENGTHS[-1].repeat(self.channels)
            self.width = torch.ones(data.future.shape[1:], dtype=torch.float32)
            if count_folds(fold) > 1:
                strengths = STRENGTHS * self._typical(gram.sum(0))
                self.strength = STRENGTHS[cross_validated_error(gram, cross, square, strengths).argmin(0)]
        self.refit()
        if choose:
            weights = [self.weights] * len(parts)
            if count_folds(fold) > 1:
                weights = [
                    self._coefficients(gram.sum(0) - g, cross.sum(0) - c) for g, c in zip(gram, cross, strict=True)
                ]
            self.width = self._relative_error(parts, weights)

    @torch.no_grad()
    def partial_fit(self, data: RegressionData) -> None:
        if self.gram.numel():
            gram, cross, _ = self._sums(data)
            self.gram, self.cross = self.gram + gram, self.cross + cross
            (low, high), (lowest, highest) = self.extent, _extent(data)
            self.extent = torch.stack([torch.minimum(low, lowest), torch.maximum(high, highest)])

    @torch.no_grad()
    def refit(self) -> None:
        if self.gram.numel():
            self.weights = self._coefficients(self.gram, self.cross)

    def _count_windows(self, data: RegressionData) -> int:
        r"""Return the maximum number of windows whose pairs enter a solution."""
        return max(LEAST_WINDOWS, PAIRS // data.future.shape[1])

    def _scaling(self, size: int) -> Tensor:
        r"""Return the scales of regressors before the ridge, (p, 1): less for old lags, 1 for the constant."""
        age = torch.arange((size - 1) // self.channels - 1, -1, -1, dtype=torch.float64)
        lags = (1 / (1 + age / AGEING)).repeat_interleave(self.channels)
        return torch.cat([lags, lags.new_ones(1)]).unsqueeze(-1)

    def _sums(self, data: RegressionData) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return :math:`X^\top X` and :math:`X^\top Y` of scaled regressors, and the sums of squares, (D,)."""
        lags = self._count_lags(data.past.shape[1])
        size = lags * self.channels + 1
        gram, cross = (torch.zeros(size, columns, dtype=torch.float64) for columns in (size, self.channels))
        square = torch.zeros(self.channels, dtype=torch.float64)
        scaling = self._scaling(size).squeeze(-1)
        observed = ~torch.cat([data.past[:, -1:], data.future], 1).isnan().all(-1)  # (n, 1 + H)
        for rows in slices(len(data.past), data.future.shape[1] * size, 2**22):
            location, _ = window_moments(data.past[rows])
            future = fill_missing(data.future[rows] - location, self.covariance) + location
            series = torch.cat([self._lagged(data.past[rows]), future], 1).double()  # (b, P + H, D)
            both = observed[rows, 1:] & observed[rows, :-1]
            x = series[:, :-1].unfold(1, lags, 1).mT[both].flatten(1)  # (m, P D)
            x = torch.cat([x, x.new_ones(len(x), 1)], 1) * scaling
            y = series[:, lags - 1 :].diff(dim=1)[both]  # (m, D)
            gram, cross, square = gram + x.mT @ x, cross + x.mT @ y, square + y.square().sum(0)
        return gram, cross, square

    def _coefficients(self, gram: Tensor, cross: Tensor) -> Tensor:
        r"""Return the weights (p, D) at the selected strengths, or greater ones until forecasts are stable."""
        path, scaling = RidgePath(gram, cross), self._scaling(len(gram))
        strength = self.strength * self._typical(gram)
        weights = scaling * path.solve(strength)
        while not growth_rate(weights) <= _most_growth(len(self.width)):  # also if it is NaN
            strength = 10 * strength
            weights = scaling * path.solve(strength)
        return weights.float()

    def _typical(self, gram: Tensor) -> Tensor:
        r"""Return the mean square of the regressors, the reference of relative strengths."""
        return gram.diagonal().mean().clamp(min=1e-12)

    def _relative_error(self, parts: list[RegressionData], weights: list[Tensor]) -> Tensor:
        r"""Return the mean absolute error of forecasts in units of the frozen model's, (H, D)."""
        own, frozen = [], []
        for part, each in zip(parts, weights, strict=True):
            own.append((part.future - self._forecast(part.past, part.forecast, each)).abs())
            frozen.append((part.future - part.forecast).abs())
        error, reference = torch.cat(own).nanmean(0), torch.cat(frozen).nanmean(0)
        ratio = error / torch.where(reference > 0, reference, 1.0)
        return torch.where(reference > 0, ratio, 1.0).nan_to_num(1.0).clamp(LEAST_WIDTH, MOST_WIDTH)

    # ------------------------------------------------------------------ decoding

    @torch.no_grad()
    def source_weights(self, state: State) -> Tensor:
        r"""Return each source's share in the change since the last value: the mean absolute part of its lags in it.

        Forecasts are sums of parts, one for the lags of each channel. A constant context counts as unchanged.

        Arguments:
            state: As for `AdapterModule.source_weights`.
        """
        assert state.forecast is not None
        horizon = state.forecast.shape[1]
        parts = state.past.new_zeros(horizon, self.channels, self.channels)
        if self.weights.numel() == 0:
            return parts
        lagged, varying = self._lagged(state.past), varies(*window_moments(state.past))
        without_constant = torch.cat([self.weights[:-1], torch.zeros_like(self.weights[-1:])])
        for source in range(self.channels):
            alone = torch.zeros_like(lagged)
            alone[..., source] = lagged[..., source]
            change = _iterate(alone, without_constant, horizon) - alone[:, -1:]
            parts[..., source] = torch.where(varying, change, 0.0).abs().mean(0)
        return shares(parts)

    def _decode(self, z: Tensor, state: State) -> Tensor:
        if self.weights.numel() == 0:
            return z
        assert state.forecast is not None
        median = self._forecast(state.past, state.forecast, self.weights)
        varying = varies(*window_moments(state.past)) & self._near(state.past)
        return torch.where(varying, median + (z - state.forecast) * self.width, z)

    def _forecast(self, past: Tensor, forecast: Tensor, weights: Tensor) -> Tensor:
        r"""Return the iterated forecast (B, H, D); that of the frozen model for a constant context."""
        ahead = _iterate(self._lagged(past), weights, forecast.shape[1])
        return torch.where(varies(*window_moments(past)), ahead, forecast)

    def _near(self, past: Tensor) -> Tensor:
        r"""Return whether all lags of windows lie within the range of the train windows, or near it, (B, 1, 1)."""
        lagged, (low, high) = self._lagged(past), self.extent
        margin = BEYOND * (high - low)
        near: Tensor = ((lagged >= low - margin) & (lagged <= high + margin)).flatten(1).all(1)[:, None, None]
        return near

    def _lagged(self, past: Tensor) -> Tensor:
        r"""Return the last steps, complete, with shape (B, P, D)."""
        location, _ = window_moments(past)
        return fill_missing(past[:, -self._count_lags(past.shape[1]) :] - location, self.covariance) + location


def _extent(data: RegressionData) -> Tensor:
    r"""Return the lowest and the highest observed value of each channel in windows, (2, D); 0 without any."""
    rows = torch.cat([data.past, data.future], 1).flatten(0, 1)
    low, high = rows.nan_to_num(torch.inf).amin(0), rows.nan_to_num(-torch.inf).amax(0)
    return torch.where(low <= high, torch.stack([low, high]), 0.0).float()


def _iterate(lagged: Tensor, weights: Tensor, steps: int) -> Tensor:
    r"""Return the steps (B, steps, D) that continue windows (B, P, D)."""
    last, constant = lagged[:, -1], weights[-1]
    ahead = []
    for _ in range(steps):
        last = last + lagged.flatten(1) @ weights[:-1] + constant
        lagged = torch.cat([lagged[:, 1:], last.unsqueeze(1)], 1)
        ahead.append(last)
    return torch.stack(ahead, 1)


def _most_growth(horizon: int) -> float:
    r"""Return the maximum growth per step."""
    return min(GROWTH_PER_STEP, math.pow(GROWTH_OVER_HORIZON, 1 / horizon))


@torch.no_grad()
def growth_rate(weights: Tensor) -> float:
    r"""Return the factor per step by which iterated forecasts grow in the long run.

    It is the spectral radius of the companion matrix, by the power method: from 32 random contexts, over 480 steps. The
    radius is accurate to about 1 %.

    Arguments:
        weights: The weights of `VectorAutoregression`, with shape :math:`(P D + 1, D)`.

    Returns:
        The growth rate; 0 if forecasts vanish, infinity or NaN if they overflow.
    """
    channels, weights = weights.shape[1], weights.detach().double().cpu()
    weights = torch.cat([weights[:-1], torch.zeros_like(weights[-1:])])
    lags = (len(weights) - 1) // channels
    context = torch.randn(32, lags, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blocks, logarithm = math.ceil(240 / lags), 0.0
    for block in range(2 * blocks):
        context = _iterate(context, weights, lags)
        norm = float(context.norm())
        if norm == 0 or not math.isfinite(norm):
            return norm
        context = context / norm
        logarithm += math.log(norm) if block >= blocks else 0.0
    return math.exp(logarithm / (blocks * lags))

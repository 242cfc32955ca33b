r"""A linear map of the raw context, with the width of the frozen model's forecast."""

from __future__ import annotations

__all__ = ["ContextLinear"]

import torch
from torch import Tensor

from .. import checks
from ..batching import slices
from ..persistence.tensors import taken
from ..statistics.ridge import RidgePath, count_folds, cross_validated_error
from .base import RegressionData, State, fill_missing, register, varies, window_moments
from .closed_form import ClosedForm

#: Ridge strengths, relative to the mean square of the regressors.
STRENGTHS = torch.logspace(-3, 5, 17, dtype=torch.float64)
#: The numbers of the regressors in double precision at a time: 128 MB.
MAX_NUMBERS = 2**24
#: The mean absolute error in units of the frozen model's is clipped here.
LEAST_WIDTH, MOST_WIDTH = 0.5, 2.0


@register("context")
class ContextLinear(ClosedForm):
    r"""Forecasts by one linear map of the context, shared by all channels, as NLinear does.

    .. math:: \hat q_{h, d}(\tau) = x_{L, d} + \sum_l W_{l, h} (x_{l, d} - x_{L, d}) + b_d (q_{h, d}(\tau) - m_{h, d})

    where :math:`x_{L, d}` is the last value of the context, :math:`q` are the zero-shot quantiles, :math:`m` their
    median, and :math:`b_d` the mean absolute error of the linear forecast divided by that of the median, on the train
    windows. The frozen model adds its width, and not its location: the errors of both differ, so that their average in
    `Portfolio` is better than either. By itself the family is rarely the best choice.

    A ridge gives :math:`W`, with one strength from blocked cross-validation over the train windows. Windows count in
    proportion to their scale.

    Deterministic; marginals stay monotone in the level. The latent channels are the observed ones, so that one pass of
    the frozen model serves the adapter and the zero-shot forecast. Cost is cubic in the number of context steps and
    linear in the number of channels. `Adapter.update` refits with new windows, from sufficient statistics, at the
    selected strength. Missing context steps enter as their conditional means given the channels observed at the same
    step. Missing targets are replaced by the zero-shot median in the regression. A constant context keeps its zero-shot
    forecast.

    References:
        | Are Transformers Effective for Time Series Forecasting? (Zeng et al., 2023), NLinear
        | https://arxiv.org/abs/2205.13504

    Arguments:
        lags: The number of last context steps that enter; if None, the context length.

    Example:
        >>> linear = ContextLinear().build(channels=7)
        >>> z, state = linear.encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([1, 32, 96, 7])
    """

    lags: int | None = None

    solution = ("weights", "width", "strength", "gram", "cross")
    weights: Tensor  # (P, H)
    width: Tensor  # (D,)
    strength: Tensor  # ()
    gram: Tensor  # (P, P)
    cross: Tensor  # (P, H)

    def _check(self) -> None:
        checks.integer("ContextLinear expects lags", self.lags, none=True)

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        if not (state := self.solved):
            return
        lags = min(self.lags or context_length, context_length)
        taken(state, "strength", torch.float64, (), low=0.0)
        taken(state, "width", torch.float32, (self.channels,), low=LEAST_WIDTH, high=MOST_WIDTH)
        taken(state, "gram", torch.float64, (lags, lags))
        taken(state, "cross", torch.float64, (lags, prediction_length))
        taken(state, "weights", torch.float32, (lags, prediction_length))

    # ------------------------------------------------------------------ regression

    @torch.no_grad()
    def solve(self, data: RegressionData, *, choose: bool) -> None:
        fold = data.fold if choose else torch.zeros(len(data.past), dtype=torch.long)
        parts = [data[fold == index] for index in range(int(fold.max()) + 1)]
        gram, cross, square = (torch.stack(sums) for sums in zip(*map(self._sums, parts), strict=True))
        self.gram, self.cross = gram.sum(0), cross.sum(0)
        if choose:
            strengths, self.strength = STRENGTHS * self._typical(self.gram), STRENGTHS[-1]
            if count_folds(fold) > 1:
                self.strength = STRENGTHS[cross_validated_error(gram, cross, square, strengths).sum(1).argmin()]
        self.refit()
        if choose:
            self.width = self._relative_error(data)

    @torch.no_grad()
    def partial_fit(self, data: RegressionData) -> None:
        gram, cross, _ = self._sums(data)
        self.gram, self.cross = self.gram + gram, self.cross + cross

    @torch.no_grad()
    def refit(self) -> None:
        strength = float(self.strength) * float(self._typical(self.gram))
        self.weights = RidgePath(self.gram, self.cross).solve(strength).float()

    def _sums(self, data: RegressionData) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return :math:`X^\top X`, :math:`X^\top Y` and the sums of squares :math:`y^2`, (H,), over all channels."""
        x, last, scale = self._differences(data.past)  # (n, P, D), (n, 1, D)
        observed = ~data.future.isnan()
        y = torch.where(observed, data.future, data.forecast[..., : data.future.shape[-1]]) - last
        informative = observed.any(1, keepdim=True)
        weight = torch.where(informative, scale, 0.0).sqrt() / scale  # in units of the window, weighted by its scale
        steps, horizon = x.shape[1], y.shape[1]
        gram, cross = x.new_zeros(steps, steps).double(), x.new_zeros(steps, horizon).double()
        for part in slices(x.shape[-1], len(x) * steps, MAX_NUMBERS):
            rows, targets = (
                (each * weight)[..., part].mT.flatten(0, 1).double() for each in (x, y)
            )  # (n*d, P), (n*d, H)
            gram, cross = gram + rows.mT @ rows, cross + rows.mT @ targets
        return gram, cross, (y * weight).double().square().sum((0, 2))

    def _typical(self, gram: Tensor) -> Tensor:
        r"""Return the mean square of the regressors, the reference of relative strengths."""
        return gram.diagonal().mean().clamp(min=1e-12)

    def _relative_error(self, data: RegressionData) -> Tensor:
        r"""Return the mean absolute error of the linear forecast in units of the frozen model's, (D,)."""
        linear = (data.future - self._median(data.past, data.forecast)).abs().nanmean((0, 1))
        frozen = (data.future - data.forecast).abs().nanmean((0, 1))
        ratio = linear / torch.where(frozen > 0, frozen, 1.0)
        return torch.where(frozen > 0, ratio, 1.0).nan_to_num(1.0).clamp(LEAST_WIDTH, MOST_WIDTH)

    # ------------------------------------------------------------------ decoding

    def _decode(self, z: Tensor, state: State) -> Tensor:
        if self.weights.numel() == 0:
            return z
        assert state.forecast is not None
        return self._median(state.past, state.forecast) + (z - state.forecast) * self.width

    def source_weights(self, state: State) -> Tensor:
        r"""Return the identity: each channel is forecast from itself. Zero before the family is solved.

        Arguments:
            state: As for `AdapterModule.source_weights`.
        """
        return torch.eye(self.channels, device=state.past.device).unsqueeze(0) * float(self.weights.numel() > 0)

    def _median(self, past: Tensor, forecast: Tensor) -> Tensor:
        r"""Return the linear forecast (B, H, D); that of the frozen model for a constant context."""
        x, last, _ = self._differences(past)
        linear = (x.mT @ self.weights).mT + last
        return torch.where(varies(*window_moments(past)), linear, forecast)

    def _differences(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the last steps as differences (B, P, D) from the last value, that value and the scales (B, 1, D)."""
        location, variance = window_moments(past)
        varying = varies(location, variance)
        filled = fill_missing(past[:, -(self.lags or past.shape[1]) :] - location, self.covariance) + location
        last = filled[:, -1:]
        return filled - last, last, torch.where(varying, variance.clamp(min=0).sqrt(), 1.0).clamp(min=1e-6)

r"""Closed-form corrections of the frozen model's forecasts."""

from __future__ import annotations

__all__ = ["Residual"]

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .. import checks
from .._random import seeded
from ..persistence.tensors import taken
from ..statistics.ridge import RidgePath, count_folds, cross_validated_error
from .base import (
    RegressionData,
    State,
    fill_missing,
    register,
    shares,
    varies,
    window_moments,
    window_statistics,
)
from .capabilities import Capabilities
from .closed_form import ClosedForm

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-3, 5, 17, dtype=torch.float64)
#: The default number of lagged steps.
LAGS = 96
#: The age of a lagged step, in steps, at which its regressor is scaled by one half before the ridge.
AGEING = 12
#: Candidate scales of the joint regressors before the ridge; with 0 a channel uses only its own past.
JOINT_SCALES = (0.0, 0.3, 1.0)
#: The number of iterations that impute missing targets in the initial estimate `guess`.
FILLINGS = 10


class Regressors(NamedTuple):
    r"""Window-normalised regressors.

    Arguments:
        own: Those of each channel itself, with shape :math:`(D, n, p)`.
        joint: Those of all channels, with shape :math:`(n, C)`; their principal components after `projected`.
        unit: The scale of each window, with shape :math:`(n, 1, D)`.
    """

    own: Tensor
    joint: Tensor
    unit: Tensor

    def projected(self, basis: Tensor) -> Regressors:
        r"""Return the same with the joint regressors multiplied by a basis :math:`(C, k)`."""
        return self._replace(joint=self.joint @ basis)


class Equations(NamedTuple):
    r"""Regression of one channel's errors, in double precision.

    Arguments:
        x: The regressors, with shape :math:`(n, p)`; zero where no target of the window is observed.
        y: The targets, with shape :math:`(n, H)`; zero where missing.
        gap: The weights of missing targets in windows with other targets, with shape :math:`(n, H)`.
    """

    x: Tensor
    y: Tensor
    gap: Tensor

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return :math:`X^\top X`, :math:`X^\top Y` and the summed weights of missing targets."""
        return self.x.mT @ self.x, self.x.mT @ self.y, self.gap.sum(0)

    def filled(self, weights: Tensor) -> Tensor:
        r"""Return the contribution to :math:`X^\top Y` of missing targets imputed by coefficients :math:`(p, H)`."""
        missing = self.gap > 0
        return self.x.mT @ (missing * (self.x @ weights)) if bool(missing.any()) else torch.zeros_like(weights)

    def error(self, weights: Tensor) -> Tensor:
        r"""Return the squared errors of coefficients :math:`(p, H)`, summed over observed targets, :math:`(H,)`."""
        return torch.where(self.gap > 0, 0.0, self.y - self.x @ weights).square().sum(0)


@register("residual")
class Residual(ClosedForm):
    r"""Adds a ridge regression of the frozen model's forecast errors to its forecasts.

    .. math:: y_{d} = f(x_d) + s_d \, \Phi W_d

    where :math:`f` is the frozen model, :math:`s_d` the window's scale and :math:`\Phi` the regressors, normalised by
    the window: the channel's last value, its lagged steps and forecast as differences from that value, and the leading
    principal components of the same for all channels. Each channel has its own :math:`W_d`. Blocked cross-validation
    over the train windows selects its strength, its weight of the other channels, and whether to correct at all.
    Without a gain it selects :math:`W = 0`, the frozen model itself.

    Deterministic; shifts the frozen model's quantiles and keeps their width. The latent channels are the observed ones,
    so that one pass of the frozen model serves the adapter and the zero-shot forecast; decoding costs one matrix
    product. `Adapter.update` refits with new windows, from sufficient statistics, at the selected strengths. With fewer
    than about a hundred train windows it stays at zero.

    A channel ignores windows in which all its targets are missing. For windows with some missing targets, one Gram
    matrix serves all horizon steps. Iterated imputation gives an initial estimate; its errors on observed targets,
    scaled up, stand for those on missing targets. On the windows that select the strengths, the result is the ridge on
    the observed cells. With later windows it is unbiased if cells are missing at random, at any rate. Strengths are
    relative to the observed data.

    References:
        | Lightweight Online Adaption for Time Series Foundation Model Forecasts (Lee et al., 2025), the ridge beside
        | a frozen model, https://arxiv.org/abs/2502.12920
        | CoRA (2026), zero-initialised corrections across channels, https://arxiv.org/abs/2603.21828

    Arguments:
        lags: The number of lagged steps in a channel's own correction; if None, the context length, at most 96.
        components: The number of principal components of all channels' lagged steps and forecasts; if None, 2048 by
            the number of channels, within 32 to 128.
        lead_blocks: The number of blocks of horizon steps with separate strengths; use one if windows are few.

    Example:
        >>> residual = Residual().build(channels=7)
        >>> z, state = residual.encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([1, 32, 96, 7])
    """

    lags: int | None = None
    components: int | None = None
    lead_blocks: int = 1

    solution = ("basis", "weights", "strength", "share", "gram", "cross", "gap", "guess", "filled")
    basis: Tensor
    weights: Tensor
    strength: Tensor
    share: Tensor  # (D, blocks), the selected scale of the joint regressors; the name is a key of saved adapters
    gram: Tensor  # (C, p, p), of the corrected channels; `partial_fit` adds to these sums
    cross: Tensor  # (C, p, H)
    gap: Tensor  # (C, H), the summed weights of missing targets
    guess: Tensor  # (D, p, H), the coefficients that impute missing targets
    filled: Tensor  # (C, p, H), the contribution of imputed targets to `cross`

    def _check(self) -> None:
        checks.integer("Residual expects lags", self.lags, none=True)
        checks.integer("Residual expects components", self.components, least=0, none=True)
        checks.integer("Residual expects lead_blocks", self.lead_blocks)

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, unbounded=("strength",))

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        if not (state := self.solved):
            return
        own_count = min(self.lags or LAGS, context_length) + prediction_length + 1
        basis = taken(state, "basis", torch.float32, ((own_count - 1) * self.channels, None))
        blocks, count = int(self._blocks(prediction_length).max()) + 1, own_count + basis.shape[1]
        taken(state, "strength", torch.float64, (self.channels, blocks), low=0.0, infinite=True)
        taken(state, "share", torch.float64, (self.channels, blocks), low=0.0, high=1.0)
        for name in ("weights", "guess"):
            taken(state, name, torch.float32, (self.channels, count, prediction_length))
        shapes = {"gram": (count, count), "cross": (count, prediction_length), "filled": (count, prediction_length)}
        for name, shape in {**shapes, "gap": (prediction_length,)}.items():
            corrected = len(self._correcting)
            taken(state, name, torch.float32, (corrected, *shape) if corrected else (0,))

    def _decode(self, z: Tensor, state: State) -> Tensor:
        if self.weights.numel() == 0:
            return z
        assert state.forecast is not None
        own, joint, _ = self.regressors(state.past, state.forecast).projected(self.basis)
        correction = torch.cat([own, joint.expand(self.channels, -1, -1)], -1) @ self.weights  # (D, B, H)
        # A constant window has no scale and gets no correction: the frozen model forecasts a constant by itself.
        size = torch.where(varies(*window_moments(state.past)), state.scale, 0.0)
        return z + correction.permute(1, 2, 0) * size

    @torch.no_grad()
    def source_weights(self, state: State) -> Tensor:
        r"""Return each source's share in the correction: the mean absolute sum of its regressors times coefficients.

        A channel's own regressors, with the constant, and its part of the principal components count together.

        Arguments:
            state: As for `AdapterModule.source_weights`.
        """
        assert state.forecast is not None
        horizon = state.forecast.shape[1]
        parts = state.past.new_zeros(horizon, self.channels, self.channels)
        if self.weights.numel() == 0:
            return parts
        own, joint, _ = self.regressors(state.past, state.forecast)
        size = torch.where(varies(*window_moments(state.past)), state.scale, 0.0).mT  # (B, D, 1)
        own_weights, joint_weights = self.weights.split([own.shape[-1], self.basis.shape[1]], 1)
        joint = joint.unflatten(1, (-1, self.channels))  # (B, P + H, D)
        basis = self.basis.unflatten(0, (-1, self.channels))  # (P + H, D, k)
        for source in range(self.channels):
            scores = joint[..., source] @ basis[:, source]  # (B, k)
            part = torch.einsum("bk,dkh->bdh", scores, joint_weights)
            part[:, source] += own[source] @ own_weights[source]
            parts[..., source] = (part * size).abs().mean(0).mT
        return shares(parts)

    def regressors(self, past: Tensor, forecast: Tensor) -> Regressors:
        r"""Return the window-normalised regressors.

        Arguments:
            past: The standardised past, with shape :math:`(B, L, D)`. NaN marks a missing step.
            forecast: The frozen model's median forecasts, with shape :math:`(B, H, D)`.

        Returns:
            The regressors of the windows.
        """
        location, scale = window_statistics(past)
        lags = min(self.lags or LAGS, past.shape[1])
        recent = fill_missing((past[:, -lags:] - location) / scale, self.covariance)  # (B, P, D)
        last = recent[:, -1:]
        ahead = (forecast - location) / scale - last  # (B, H, D)
        # The ridge shrinks small regressors more, hence a scale that falls with age; all as differences from the last.
        weight = 1 / (1 + torch.arange(lags - 1, 0, -1, device=past.device, dtype=torch.float32) / AGEING)
        regressors = torch.cat([(recent[:, :-1] - last) * weight[:, None], last, ahead], 1)  # (B, P + H, D)
        constant = torch.ones_like(regressors[:, :1])
        return Regressors(torch.cat([regressors, constant], 1).permute(2, 0, 1), regressors.flatten(1), scale)

    @torch.no_grad()
    def solve(self, data: RegressionData, *, choose: bool) -> None:
        regressors = self.regressors(data.past, data.forecast)
        own, joint = regressors.own, regressors.joint
        horizon = data.future.shape[1]
        if choose:
            most = min(max(2048 // self.channels, 32), 128) if self.components is None else self.components
            count = min(most, *joint.shape)
            with seeded(0):  # the randomised decomposition uses the global generator
                self.basis = torch.svd_lowrank(joint, q=count)[2] if count else joint.new_zeros(joint.shape[1], 0)
            blocks = int(self._blocks(horizon).max()) + 1
            self.strength = torch.full((self.channels, blocks), torch.inf, dtype=torch.float64)
            self.share = torch.zeros_like(self.strength)
        self.weights = own.new_zeros(self.channels, own.shape[-1] + self.basis.shape[1], horizon)
        fold = data.fold if choose else torch.zeros(len(joint), dtype=torch.long)
        if choose:
            self.guess = torch.zeros_like(self.weights)
        regressors = regressors.projected(self.basis)
        folds = [fold == index for index in range(int(fold.max()) + 1)]
        statistics: list[tuple[Tensor, ...]] = []
        for channel in range(self.channels):
            equations = self.equations(channel, regressors, data)
            fold_equations = [Equations(*(tensors[part] for tensors in equations)) for part in folds]
            sums = [index.sums() for index in fold_equations]
            if choose and count_folds(fold) < 2:
                self.strength[channel], self.share[channel] = STRENGTHS[-1], min(JOINT_SCALES)
            elif choose:
                self._choose(channel, fold_equations, sums)
            if bool(self.strength[channel].isfinite().any()):  # other channels are not corrected
                gram, cross, gap = (torch.stack(tensors).sum(0) for tensors in zip(*sums, strict=True))
                if choose:
                    self.guess[channel] = self._guess(channel, fold_equations, gram, cross, gap).to(self.guess)
                guess = self.guess[channel].double()
                statistics.append(
                    (gram, cross, gap, torch.stack([index.filled(guess) for index in fold_equations]).sum(0))
                )
        self.gram, self.cross, self.gap, self.filled = (
            torch.stack(tensors).float() if tensors else torch.empty(0, dtype=torch.float32)
            for tensors in (zip(*statistics, strict=True) if statistics else [()] * 4)
        )
        self.refit()

    @torch.no_grad()
    def partial_fit(self, data: RegressionData) -> None:
        regressors = self.regressors(data.past, data.forecast).projected(self.basis)
        for index, channel in enumerate(self._correcting):
            equations = self.equations(channel, regressors, data)
            sums = *equations.sums(), equations.filled(self.guess[channel].double())
            for total, added in zip((self.gram, self.cross, self.gap, self.filled), sums, strict=True):
                total[index] += added.float()

    @torch.no_grad()
    def refit(self) -> None:
        for index, channel in enumerate(self._correcting):
            sums = (total[index].double() for total in (self.gram, self.cross, self.gap, self.filled))
            gram, cross = self.completed(channel, *sums)
            self.weights[channel] = self._ridge(channel, gram, cross).to(self.weights)

    def _ridge(self, channel: int, gram: Tensor, cross: Tensor, inflation: float | Tensor = 1.0) -> Tensor:
        r"""Return the ridge solution (p, H) at the selected strengths, divided by the inflation of the sums."""
        blocks, typical = self._blocks(cross.shape[1]), self._typical(gram)
        solution = torch.zeros_like(cross)
        for joint_scale in JOINT_SCALES:
            selected = (self.share[channel] == joint_scale)[blocks]  # (H,)
            if not bool(selected.any()):
                continue
            scaling = self._scaling(len(gram), joint_scale)
            path = RidgePath(gram * scaling * scaling.mT, cross * scaling)
            strength = self.strength[channel][blocks] * typical / inflation  # (H,)
            solution += torch.where(selected, path.solve(strength) * scaling, 0.0)
        return solution

    def _guess(self, channel: int, fold_equations: list[Equations], gram: Tensor, cross: Tensor, gap: Tensor) -> Tensor:
        r"""Return the ridge on observed cells, by iterated imputation of the missing targets."""
        inflation = self.inflation(gram, gap)
        weights = self._ridge(channel, gram, cross * inflation)
        for _ in range(FILLINGS if bool(gap.any()) else 0):
            filled = torch.stack([equations.filled(weights) for equations in fold_equations]).sum(0)
            weights = self._ridge(channel, gram, cross + filled, inflation)
        return weights

    def completed(
        self, channel: int, gram: Tensor, cross: Tensor, gap: Tensor, filled: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""Return the sums as if all targets were observed: imputed by `guess`, corrected by its observed errors."""
        inflation, guess = self.inflation(gram, gap), self.guess[channel].double()
        return gram, inflation * (cross + filled) + (1 - inflation) * (gram @ guess)

    @property
    def _correcting(self) -> list[int]:
        r"""The indices of the corrected channels."""
        return self.strength.isfinite().any(-1).nonzero().flatten().tolist() if self.strength.numel() else []

    def _blocks(self, horizon: int) -> Tensor:
        r"""Return the block index of each horizon step, (H,)."""
        return torch.arange(horizon) * min(self.lead_blocks, horizon) // horizon

    def equations(self, channel: int, regressors: Regressors, data: RegressionData) -> Equations:
        r"""Return a channel's regression, each window weighted by its scale."""
        residual = data.future[..., channel] - data.forecast[..., channel]  # (n, H)
        x = torch.cat([regressors.own[channel], regressors.joint], -1).double()
        unit = regressors.unit[..., channel].double()  # (n, 1)
        observed = ~residual.isnan()
        informative = observed.any(1, keepdim=True)  # windows without any observed target carry no information
        x = torch.where(informative, x * unit.sqrt(), 0.0)
        return Equations(x, residual.nan_to_num(0.0).double() / unit.sqrt(), (~observed & informative) * unit)

    def inflation(self, gram: Tensor, gap: Tensor) -> Tensor:
        r"""Return the factors that scale sums over observed targets up to all targets, (*, H)."""
        constant = gram.shape[-1] - self.basis.shape[1] - 1  # its square is the weight of the windows
        total = gram[..., constant, constant].unsqueeze(-1).clamp(min=1e-30)
        return total / (total - gap).clamp(min=1e-6 * total)

    def _typical(self, gram: Tensor) -> Tensor:
        r"""Return the mean square of a channel's own regressors, the reference of relative strengths."""
        own_count = gram.shape[-1] - self.basis.shape[1]
        return gram.diagonal()[:own_count].mean().clamp(min=1e-12)

    def _scaling(self, regressors: int, joint_scale: float) -> Tensor:
        r"""Return the factors (p, 1) of the regressors: 1 for own ones, `joint_scale` for joint ones."""
        scaling = torch.full((regressors, 1), joint_scale, dtype=torch.float64)
        scaling[: regressors - self.basis.shape[1]] = 1.0
        return scaling

    def _choose(self, channel: int, fold_equations: list[Equations], sums: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        r"""Select strength and scale of joint regressors, per block of horizon steps, by cross-validated error."""
        gram, cross, gap = (torch.stack(tensors) for tensors in zip(*sums, strict=True))
        square = torch.stack([equations.y.square().sum(0) for equations in fold_equations])
        blocks, strengths = self._blocks(cross.shape[-1]), STRENGTHS * self._typical(gram.sum(0))
        best = torch.zeros(int(blocks.max()) + 1, dtype=torch.float64).index_add_(0, blocks, square.sum(0))
        for joint_scale in JOINT_SCALES:
            scaling = self._scaling(gram.shape[-1], joint_scale)
            if bool(gap.any()):
                inflated = (cross.sum(0) - cross) * self.inflation(gram.sum(0) - gram, gap.sum(0) - gap).unsqueeze(1)
                path = RidgePath((gram.sum(0) - gram) * scaling * scaling.mT, inflated * scaling)
                solutions = (path.solve(strength) * scaling for strength in strengths)
                errors = torch.stack([
                    torch.stack([fold.error(w) for fold, w in zip(fold_equations, solution, strict=True)]).sum(0)
                    for solution in solutions
                ])  # fmt: skip
            else:
                errors = cross_validated_error(gram * scaling * scaling.mT, cross * scaling, square, strengths)
            for block in range(len(best)):
                error = errors[:, blocks == block].sum(1)  # (m,)
                best_index = int(error.argmin())
                if error[best_index] < best[block]:
                    best[block] = error[best_index]
                    self.strength[channel, block], self.share[channel, block] = STRENGTHS[best_index], joint_scale

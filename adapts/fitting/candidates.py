r"""Candidate effects of known covariates on each target: linear slopes, or a covariate as divisor."""

from __future__ import annotations

__all__ = ["Candidate", "Ratio", "Slopes", "candidate_layers", "candidate_losses"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..copulas.selection import mean_pinball
from ..covariate_effect import KnownEffect, generalised_slopes, predictable, slopes, within_items
from ..data.panel import Panel
from ..data.windows import Windows
from ..distribution.quantile_function import QuantileFunction
from ..imputation.interpolation import short_gaps
from .context import CHUNK, rows_of
from .state import FitState

#: The maximum number of known covariates that are tried as divisors.
MOST_RATIOS = 8
#: The maximum number of quantile functions per batch in the losses of candidates.
MAX_CELLS = 2**18


@dataclass(frozen=True)
class _Batch:
    r"""Windows to evaluate candidates on.

    Arguments:
        past: The contexts of the targets, with shape :math:`(b, L, D)`.
        before: The covariates of the contexts, with shape :math:`(b, L, C)`, 0 where missing.
        ahead: The covariates of the target steps, with shape :math:`(b, H, C)`, 0 where missing.
        short: Short gaps of the covariates in the context, with shape :math:`(b, L, C)`. Targets that use a covariate
            count as missing there.
        absent: Missing covariates at the target steps, with shape :math:`(b, H, C)`; they have no effect.
        offset: The targets' location in units of their scale, with shape :math:`(D,)`.
        fold: The fold of each window, with shape :math:`(b,)`; -1 for windows that no slopes were fitted on.
        forecast: The map from contexts to zero-shot quantiles :math:`(b, H, D, Q)`.
    """

    past: Tensor
    before: Tensor
    ahead: Tensor
    short: Tensor
    absent: Tensor
    offset: Tensor
    fold: Tensor
    forecast: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Slopes:
    r"""Additive effect of covariates, optionally with their products with static columns.

    Arguments:
        weights: The slopes fitted without each fold, and last on all folds, with shape :math:`(F + 1, C, D)`.
    """

    weights: Tensor

    def quantiles(self, effect: KnownEffect, batch: _Batch) -> tuple[Tensor, Tensor]:
        r"""Forecast targets with these slopes.

        Arguments:
            effect: The scaling of the covariates.
            batch: The windows.

        Returns:
            The quantiles, with shape :math:`(b, H, D, Q)`, and whether a covariate is missing, :math:`(b, H, D)`.
        """
        weights, width, count = self.weights[batch.fold].float(), self.weights.shape[1], len(effect.names)  # (b, C, D)
        reads = (weights.unflatten(1, (-1, count)) != 0).any(1).float()
        unknown, absent = (missing.float() @ reads > 0 for missing in (batch.short, batch.absent))
        before, ahead = (
            effect.with_interactions(covariates)[..., :width] for covariates in (batch.before, batch.ahead)
        )
        residual = (batch.past - before @ weights).where(~unknown, torch.nan)
        return batch.forecast(residual) + (ahead @ weights).unsqueeze(-1), absent

    def allowed(self, negative: Tensor) -> Tensor:
        r"""Return the targets that may have this effect, with shape :math:`(D,)`: all.

        Arguments:
            negative: Whether each target is ever negative, with shape :math:`(D,)`.
        """
        return torch.ones_like(negative)


@dataclass(frozen=True)
class Ratio:
    r"""Multiplicative effect of a covariate: targets are divided by it.

    Arguments:
        covariate: The index of the covariate.
    """

    covariate: int

    def quantiles(self, effect: KnownEffect, batch: _Batch) -> tuple[Tensor, Tensor]:
        r"""Forecast targets as ratios to the covariate.

        Arguments:
            effect: The scaling of the covariates.
            batch: The windows.

        Returns:
            As `Slopes.quantiles`.
        """
        unknown, absent = (missing[..., self.covariate, None] for missing in (batch.short, batch.absent))
        factor, divisor = (effect.ratio(x)[..., self.covariate, None] for x in (batch.ahead, batch.before))
        residual = ((batch.past + batch.offset) / divisor).where(~unknown, torch.nan)
        return batch.forecast(residual) * factor.unsqueeze(-1) - batch.offset.unsqueeze(-1), absent

    def allowed(self, negative: Tensor) -> Tensor:
        r"""Return the targets that may have this effect, with shape :math:`(D,)`: those that are never negative.

        Arguments:
            negative: Whether each target is ever negative, with shape :math:`(D,)`.
        """
        return ~negative


Candidate = Slopes | Ratio


def candidate_layers(
    state: FitState, effect: KnownEffect, known: Panel, fold: Tensor, subsample: np.ndarray
) -> list[list[Candidate]]:
    r"""Fit candidate effects, in layers of increasing complexity.

    A layer replaces the best of the earlier layers only if it is significantly better, so that more candidates cost
    little: the given covariates, then also the calendar, then effects that differ between items.

    Arguments:
        state: The fit.
        effect: The scaling of the covariates.
        known: The panel of the standardised covariates.
        fold: The fold of each train window, with shape :math:`(n,)`.
        subsample: The indices of the train windows to forecast with the frozen model.

    Returns:
        The layers.
    """
    # Slopes are estimated in two ways: on deviations from the context's mean, and on the frozen model's errors of both
    # targets and covariates, which is right if a target is a random walk. Ratios have no parameters.
    panel, train = state.fitted.panel, state.context.windows["train"]
    target, covariate = state.standardiser.plain(train), replace(train, panel=known.select(effect.names))
    item, static = torch.as_tensor(train.item), replace(train, panel=known.select(effect.static)).future()
    folds, count = int(fold.max()) + 1, len(effect.names)

    def centred(transform: Callable[[Windows], Tensor], indices: slice | np.ndarray) -> tuple[Tensor, Tensor]:
        x, y = (within_items(transform(windows[indices]), item[indices]) for windows in (covariate, target))
        return x, y

    deviations = centred(_deviations, slice(None))
    errors = centred(lambda windows: _errors(state, windows), subsample)
    all_covariates, informative = torch.ones(count, dtype=torch.bool), ~predictable(deviations[0], errors[0])
    estimators = [
        (slopes, *deviations, all_covariates, static, fold),
        (slopes, *errors, informative, static[subsample], fold[subsample]),
        (generalised_slopes, *errors, informative, static[subsample], fold[subsample]),
    ]
    most_precise, others = estimators[2:], estimators[:2]

    def regressed(first: int, last: int, estimators: Sequence[tuple], *, per_item: bool) -> list[Candidate]:  # type: ignore[type-arg]
        r"""Return the slopes of covariates before `last`, by estimators with any informative one from `first` on."""
        candidates: list[Candidate] = []
        for solve, x, y, usable, static, window_fold in estimators:
            if not bool(usable[first:last].any()):
                continue
            x = effect.with_interactions(torch.cat([x, static], -1)) if per_item else x
            columns = [n for n in range(x.shape[-1]) if n % count < last and usable[n % count]]  # and their products
            weights = torch.zeros(folds + 1, x.shape[-1], state.channels, dtype=torch.float64)
            weights[:, columns] = solve(x[..., columns], y, window_fold, folds)
            candidates.append(Slopes(weights))
        return candidates

    given = len(panel.given)
    sets = [(0, given), (given, count)] if panel.given and panel.calendar else [(0, count)]
    # The most precise slopes come first: noisier ones may look better by chance, on the windows they were fitted to.
    layers = [
        [*regressed(*sets[0], most_precise, per_item=False), *_ratios(state, effect)],
        regressed(*sets[0], others, per_item=False),
    ]
    layers += [regressed(*bounds, estimators, per_item=False) for bounds in sets[1:]]
    if effect.static:  # no ratios: forecasts are equivariant to a constant factor
        layers.append([slope for bounds in sets for slope in regressed(*bounds, estimators, per_item=True)])
    return layers


def candidate_losses(
    state: FitState, windows: Windows, known: Panel, candidates: Sequence[Candidate], fold: Tensor, effect: KnownEffect
) -> Tensor:
    r"""Compute the frozen model's quantile loss of each target, without covariates and with each candidate.

    Arguments:
        state: The fit.
        windows: The windows, in the caller's units.
        known: The panel of the standardised covariates.
        candidates: The candidates.
        fold: The fold of each window, to use the slopes fitted without it; -1 for the slopes of all windows.
        effect: The scaling of the covariates.

    Returns:
        The losses, with shape :math:`(1 + k, n, D)`, first those without covariates.
    """
    predictor, levels = state.predictor, torch.tensor(state.model.quantile_levels, dtype=torch.float32)
    horizon, channels, count = state.context.horizon, state.channels, len(effect.names)
    offset = torch.from_numpy(state.fitted.location / state.fitted.scale)[:channels].float()
    target, covariate = state.standardiser.plain(windows), replace(windows, panel=known)
    losses = [torch.zeros(1 + len(candidates), 0, channels, dtype=torch.float32)]
    step = max(1, min(CHUNK, MAX_CELLS // (horizon * channels)))
    for part in (slice(start, start + step) for start in range(0, len(windows), step)):
        future = target[part].future()
        # Targets count as missing in short gaps of their past covariates, as when the effect is subtracted. Missing
        # future covariates have no effect.
        before, ahead = covariate[part].past(), covariate[part].future()
        short = short_gaps(before.mT.flatten(0, 1)).view_as(before.mT).mT[..., :count]
        batch = _Batch(
            target[part].past(), before.nan_to_num(0.0), ahead.nan_to_num(0.0), short, ahead.isnan()[..., :count],
            offset, fold[part], lambda past: predictor.zero_shot_quantiles(past, horizon),
        )  # fmt: skip

        def loss(values: Tensor, future: Tensor = future) -> Tensor:
            return mean_pinball(QuantileFunction(levels, values, predictor.support), future)

        without = loss(batch.forecast(batch.past))
        batch_losses = [without]
        for candidate in candidates:
            values, absent = candidate.quantiles(effect, batch)
            batch_losses.append(loss(values).where(~absent, without))
        losses.append(torch.stack(batch_losses).nanmean(2))
    return torch.cat(losses, 1)


def _ratios(state: FitState, effect: KnownEffect) -> list[Ratio]:
    r"""Return the covariates that may be divisors: given ones that are never negative."""
    panel = state.fitted.panel
    lowest = np.nanmin(rows_of(panel.select(panel.given), state.context.train), axis=0, initial=np.inf)
    divisors = [n for n, low in enumerate(lowest) if low >= 0 and effect.location[n] > 0]
    return [Ratio(n) for n in divisors[:MOST_RATIOS]]


def _deviations(windows: Windows) -> Tensor:
    r"""Return the targets as deviations from the context's mean, (n, H, D)."""
    parts = (windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK))
    means = torch.cat([part.past().nanmean(1, keepdim=True) for part in parts])
    return windows.future() - means.nan_to_num(0.0)


def _errors(state: FitState, windows: Windows) -> Tensor:
    r"""Return the errors of the means of the zero-shot forecast, (n, H, D)."""
    # The median of a binary covariate is 0 or 1, so that its error depends on the past; that of the mean does not.
    errors = []
    for part in (windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK)):
        forecast = state.predictor.zero_shot(part)
        mean = QuantileFunction(forecast.levels, forecast.values).mean  # without support: also of covariates
        errors.append(part.future() - mean)
    return torch.cat(errors)

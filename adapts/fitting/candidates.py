r"""What known covariates may explain of each target: slopes, or a covariate that divides."""

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

#: The most known covariates that are tried as divisors.
MOST_RATIOS = 8
#: The numbers of quantile functions that the losses of candidates are computed of at a time.
TRIED = 2**18


@dataclass(frozen=True)
class _Batch:
    r"""Windows that candidates are tried on.

    Arguments:
        past: The contexts of the targets, with shape :math:`(b, L, D)`.
        before: Their covariates, with shape :math:`(b, L, C)`, 0 where missing.
        ahead: The covariates of the target steps, with shape :math:`(b, H, C)`, 0 where missing.
        short: Where a covariate of the past is missing for a short while, with shape :math:`(b, L, C)`: the row of a
            target that reads it is unknown.
        absent: Where a covariate ahead is missing, with shape :math:`(b, H, C)`: then it explains nothing.
        offset: The targets' location in units of their scale, with shape :math:`(D,)`.
        fold: The fold of each window, with shape :math:`(b,)`; -1 for those that no slopes were fitted on.
        forecast: Gives the zero-shot quantiles :math:`(b, H, D, Q)` of contexts.
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
    r"""Covariates, and perhaps their products with static columns, that add to targets.

    Arguments:
        weights: The slopes without each fold and with all of them, with shape :math:`(F + 1, C, D)`.
    """

    weights: Tensor

    def quantiles(self, effect: KnownEffect, batch: _Batch) -> tuple[Tensor, Tensor]:
        r"""Forecasts targets with these slopes.

        Arguments:
            effect: What knows the covariates.
            batch: The windows.

        Returns:
            The quantiles, with shape :math:`(b, H, D, Q)`, and where a covariate ahead is missing, :math:`(b, H, D)`.
        """
        weights, width, count = self.weights[batch.fold].float(), self.weights.shape[1], len(effect.names)  # (b, C, D)
        reads = (weights.unflatten(1, (-1, count)) != 0).any(1).float()
        unknown, untold = (some.float() @ reads > 0 for some in (batch.short, batch.absent))
        behind, onward = (effect.with_interactions(each)[..., :width] for each in (batch.before, batch.ahead))
        rest = (batch.past - behind @ weights).where(~unknown, torch.nan)
        return batch.forecast(rest) + (onward @ weights).unsqueeze(-1), untold

    def allowed(self, negative: Tensor) -> Tensor:
        r"""Returns which targets may have them, with shape :math:`(D,)`: all.

        Arguments:
            negative: Which targets are ever negative, with shape :math:`(D,)`.
        """
        return torch.ones_like(negative)


@dataclass(frozen=True)
class Ratio:
    r"""A covariate that targets are divided by.

    Arguments:
        covariate: Its number.
    """

    covariate: int

    def quantiles(self, effect: KnownEffect, batch: _Batch) -> tuple[Tensor, Tensor]:
        r"""Forecasts targets as ratios to the covariate.

        Arguments:
            effect: What knows the covariates.
            batch: The windows.

        Returns:
            As `Slopes.quantiles`.
        """
        unknown, untold = (some[..., self.covariate, None] for some in (batch.short, batch.absent))
        over, under = (effect.ratio(each)[..., self.covariate, None] for each in (batch.ahead, batch.before))
        rest = ((batch.past + batch.offset) / under).where(~unknown, torch.nan)
        return batch.forecast(rest) * over.unsqueeze(-1) - batch.offset.unsqueeze(-1), untold

    def allowed(self, negative: Tensor) -> Tensor:
        r"""Returns which targets may be divided by it, with shape :math:`(D,)`: those that are never negative.

        Arguments:
            negative: Which targets are ever negative, with shape :math:`(D,)`.
        """
        return ~negative


Candidate = Slopes | Ratio


def candidate_layers(
    state: FitState, effect: KnownEffect, known: Panel, fold: Tensor, some: np.ndarray
) -> list[list[Candidate]]:
    r"""Fits what each target may be given, in layers.

    A layer is chosen from only where it is significantly better than the best of those before, so that more to choose
    from costs no gain: the given covariates, the calendar beside them, and items that differ.

    Arguments:
        state: The fit.
        effect: What knows the covariates.
        known: The panel of the standardised covariates.
        fold: The fold of each train window, with shape :math:`(n,)`.
        some: Which train windows the frozen model is asked of.

    Returns:
        The layers.
    """
    # What they add, seen in two ways: in distances from the context's mean, and in what the frozen model misses of
    # both, which is right where a target wanders. What they multiply has nothing to be found.
    panel, train = state.fitted.panel, state.context.windows["train"]
    target, covariate = state.standardiser.plain(train), replace(train, panel=known.select(effect.names))
    item, kind = torch.as_tensor(train.item), replace(train, panel=known.select(effect.static)).future()
    folds, count = int(fold.max()) + 1, len(effect.names)

    def seen(way: Callable[[Windows], Tensor], part: slice | np.ndarray) -> tuple[Tensor, Tensor]:
        x, y = (within_items(way(windows[part]), item[part]) for windows in (covariate, target))
        return x, y

    above, missed = seen(_above, slice(None)), seen(lambda windows: _missed(state, windows), some)
    all_told, told = torch.ones(count, dtype=torch.bool), ~predictable(above[0], missed[0])
    ways = [
        (slopes, *above, all_told, kind, fold),
        (slopes, *missed, told, kind[some], fold[some]),
        (generalised_slopes, *missed, told, kind[some], fold[some]),
    ]
    surest, rest = ways[2:], ways[:2]

    def regressed(first: int, last: int, ways: Sequence[tuple], *, apart: bool) -> list[Candidate]:  # type: ignore[type-arg]
        r"""The slopes of the covariates up to the last, in those ways that tell any of them from the first on."""
        found: list[Candidate] = []
        for solve, x, y, told, kind, which in ways:
            if not bool(told[first:last].any()):
                continue
            x = effect.with_interactions(torch.cat([x, kind], -1)) if apart else x
            columns = [n for n in range(x.shape[-1]) if n % count < last and told[n % count]]  # and their products
            weights = torch.zeros(folds + 1, x.shape[-1], state.channels, dtype=torch.float64)
            weights[:, columns] = solve(x[..., columns], y, which, folds)
            found.append(Slopes(weights))
        return found

    given = len(panel.given)
    sets = [(0, given), (given, count)] if panel.given and panel.calendar else [(0, count)]
    # The surest slopes come first: others may look better by the same chance that made them.
    layers = [
        [*regressed(*sets[0], surest, apart=False), *_ratios(state, effect)],
        regressed(*sets[0], rest, apart=False),
    ]
    layers += [regressed(*of, ways, apart=False) for of in sets[1:]]
    if effect.static:  # a forecast of what is multiplied by a constant is multiplied by it
        layers.append([each for of in sets for each in regressed(*of, ways, apart=True)])
    return layers


def candidate_losses(
    state: FitState, windows: Windows, known: Panel, candidates: Sequence[Candidate], fold: Tensor, effect: KnownEffect
) -> Tensor:
    r"""Computes the frozen model's quantile loss of each target, alone and with each candidate.

    Arguments:
        state: The fit.
        windows: The windows, in the caller's units.
        known: The panel of the standardised covariates.
        candidates: The candidates.
        fold: The fold of each window, whose slopes were fitted without it; -1 for those of all windows.
        effect: What knows the covariates.

    Returns:
        The losses, with shape :math:`(1 + k, n, D)`, first those of the frozen model alone.
    """
    predictor, levels = state.predictor, torch.tensor(state.model.quantile_levels, dtype=torch.float32)
    horizon, channels, count = state.context.horizon, state.channels, len(effect.names)
    offset = torch.from_numpy(state.fitted.location / state.fitted.scale)[:channels].float()
    target, covariate = state.standardiser.plain(windows), replace(windows, panel=known)
    losses = [torch.zeros(1 + len(candidates), 0, channels, dtype=torch.float32)]
    step = max(1, min(CHUNK, TRIED // (horizon * channels)))
    for part in (slice(start, start + step) for start in range(0, len(windows), step)):
        future = target[part].future()
        # Covariates that are missing for a short while leave the rows of the past unknown, as where the effect is
        # taken off; those of the future are always given, and say nothing where they are not.
        before, ahead = covariate[part].past(), covariate[part].future()
        short = short_gaps(before.mT.flatten(0, 1)).view_as(before.mT).mT[..., :count]
        batch = _Batch(
            target[part].past(), before.nan_to_num(0.0), ahead.nan_to_num(0.0), short, ahead.isnan()[..., :count],
            offset, fold[part], lambda past: predictor.zero_shot_quantiles(past, horizon),
        )  # fmt: skip

        def lost(law: Tensor, future: Tensor = future) -> Tensor:
            return mean_pinball(QuantileFunction(levels, law, predictor.support), future)

        alone = lost(batch.forecast(batch.past))
        each = [alone]
        for candidate in candidates:
            law, untold = candidate.quantiles(effect, batch)
            each.append(lost(law).where(~untold, alone))
        losses.append(torch.stack(each).nanmean(2))
    return torch.cat(losses, 1)


def _ratios(state: FitState, effect: KnownEffect) -> list[Ratio]:
    r"""The covariates that targets may be divided by: given ones that are never negative."""
    panel = state.fitted.panel
    lowest = np.nanmin(rows_of(panel.select(panel.given), state.context.train), axis=0, initial=np.inf)
    divisors = [n for n, low in enumerate(lowest) if low >= 0 and effect.location[n] > 0]
    return [Ratio(n) for n in divisors[:MOST_RATIOS]]


def _above(windows: Windows) -> Tensor:
    r"""The steps ahead as distances from the context's mean, (n, H, D)."""
    parts = (windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK))
    means = torch.cat([part.past().nanmean(1, keepdim=True) for part in parts])
    return windows.future() - means.nan_to_num(0.0)


def _missed(state: FitState, windows: Windows) -> Tensor:
    r"""The steps ahead as distances from the means of the zero-shot forecast, (n, H, D)."""
    # Of a binary covariate the median is 0 or 1: what is missed of it hangs on the past, and of the mean does not.
    missed = []
    for part in (windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK)):
        law = state.predictor.zero_shot(part)
        missed.append(part.future() - QuantileFunction(law.levels, law.values).mean)  # no bounds: covariates too
    return torch.cat(missed)

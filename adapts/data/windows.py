r"""Parts of a panel in time, and the context and target windows inside them."""

from __future__ import annotations

__all__ = ["Windows", "last_windows", "least_history", "split_windows"]

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import shown
from ..imputation.cold_start import ColdStart
from ..imputation.cross_channel import Imputation
from .frequency import phase_of, phases
from .panel import Panel
from .splits import Split
from .times import Times


@dataclass(frozen=True, eq=False)
class Preparation:
    r"""What was done to a panel before the adapter sees its windows; nothing by default.

    Arguments:
        shifts: What was subtracted from the targets, row by row, for known covariates.
        factors: What the rest was then divided by, positive.
        imputation: Values for missing cells, from the other channels.
        cold_start: What forecasts contexts of few values.
        contexts: The imputed contexts of these very windows, :math:`(n, L, D)`, and the variance of their forecasts
            that imputation leaves open, :math:`(n, H, D)`, where they are computed already.
    """

    shifts: Panel | None = None
    factors: Panel | None = None
    imputation: Imputation | None = None
    cold_start: ColdStart | None = None
    contexts: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Windows:
    r"""Context and target windows of one panel: which they are, not their numbers.

    Tensors are built only for the windows that are asked for, so `windows[:64].past()` costs 64 windows.

    Arguments:
        panel: The panel that the windows look at, usually standardised.
        item: The number of each window's item in the panel, with shape :math:`(n,)`.
        origin: The row of each window's first target, with shape :math:`(n,)`.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        preparation: What was done to the panel.
    """

    panel: Panel
    item: np.ndarray
    origin: np.ndarray
    context_length: int
    prediction_length: int
    preparation: Preparation = Preparation()

    def __len__(self) -> int:
        return len(self.origin)

    def __getitem__(self, which: slice | Sequence[int] | np.ndarray) -> Windows:
        preparation = self.preparation
        if preparation.contexts is not None:
            past, variance = preparation.contexts
            preparation = replace(preparation, contexts=(past[which], variance[which]))
        return replace(self, item=self.item[which], origin=self.origin[which], preparation=preparation)

    def past(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers the context rows, those before the origin.

        Arguments:
            dtype: The precision. Raw rows need float64, for their location may be far larger than their scale.

        Returns:
            The contexts, with shape :math:`(n, L, D)`, gaps filled where the other channels tell more of them than the
            channel itself. Where an item is shorter they begin with NaN.
        """
        return self._filled(dtype)[0]

    def imputed(self) -> Windows:
        r"""Returns the windows with their contexts imputed once, for all that is asked of them."""
        if self.preparation.imputation is None or self.preparation.contexts is not None:
            return self
        past, variance = self._filled(torch.float32)
        assert variance is not None
        return replace(self, preparation=replace(self.preparation, contexts=(past, variance)))

    def imputation_variance(self) -> Tensor | None:
        r"""Returns the variance that forecasts of imputed contexts lack.

        Returns:
            The variances, with shape :math:`(n, H, D)`; None where nothing was filled.
        """
        variance = self._filled(torch.float32)[1]
        return variance if variance is not None and bool(variance.any()) else None

    def future(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers the target rows, those from the origin on.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The targets, with shape :math:`(n, H, D)`. NaN where missing or past the item's end.
        """
        return self._gather(self.panel, np.arange(self.prediction_length), dtype)

    def shift(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers what was taken off the target rows, to be added to their law.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The shifts, with shape :math:`(n, H, D)`; 0 past the item's end.
        """
        assert self.preparation.shifts is not None
        return self._gather(self.preparation.shifts, np.arange(self.prediction_length), dtype).nan_to_num(0.0)

    def factor(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers what the target rows were divided by, to multiply their law with.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The factors, with shape :math:`(n, H, D)`, 1 past the item's end; one 1 where nothing was divided.
        """
        if self.preparation.factors is None:
            return torch.ones(1, 1, 1, dtype=dtype)
        return self._gather(self.preparation.factors, np.arange(self.prediction_length), dtype).nan_to_num(1.0)

    def _filled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        r"""The contexts, and the variances that imputation leaves open."""
        steps = np.arange(-self.context_length, 0)
        preparation = self.preparation
        if preparation.contexts is not None and dtype is torch.float32:
            return preparation.contexts
        told = preparation.imputation
        if told is None:
            return self._gather(self.panel, steps, dtype), None
        panels = self.panel, told.mean, told.variance
        past, mean, variance = (self._gather(panel, steps, torch.float64) for panel in panels)
        filled, open_variance = told.fill(past, mean, variance, self.prediction_length)
        return filled.to(dtype), open_variance.to(dtype)

    @property
    def time(self) -> Times:
        r"""When windows begin, on one calendar for all items."""
        return Times(self.panel, self.item, self.origin)

    @property
    def phases(self) -> int:
        r"""How many phases of the season steps are told apart by: hours, weekdays or months (see `dates.phases`)."""
        return phases(self.panel.frequency)

    def phase(self) -> Tensor:
        r"""The phase of the season of the target steps.

        Returns:
            The phases, with shape :math:`(n, H)`; 0 for undated panels.
        """
        found = np.zeros((len(self), self.prediction_length), dtype=np.int64)
        if self.phases == 1 or not len(self):
            return torch.from_numpy(found)
        order = np.argsort(self.item, kind="stable")
        for mine in np.split(order, np.flatnonzero(np.diff(self.item[order])) + 1):
            item, origin = self.panel.items[self.item[mine[0]]], self.origin[mine]
            first, stop = int(origin.min()), int(origin.max()) + self.prediction_length
            index = item.index[first:stop]
            if stop > len(item):
                index = index.append(self.panel.future_index(item, stop - len(item)))
            steps = origin[:, None] - first + np.arange(self.prediction_length)
            found[mine] = phase_of(index, self.panel.frequency)[steps]
        return torch.from_numpy(found)

    def _gather(self, panel: Panel, steps: np.ndarray, dtype: torch.dtype) -> Tensor:
        rows, starts = panel.concatenated  # (sum T, D), (N + 1,)
        first, stop = starts[self.item, None], starts[self.item + 1, None]  # (n, 1)
        at = first + self.origin[:, None] + steps  # (n, steps)
        values = rows[np.clip(at, 0, len(rows) - 1)]  # (n, steps, D)
        values[(at < first) | (at >= stop)] = np.nan
        return torch.from_numpy(values).to(dtype)


def least_history(context_length: int, prediction_length: int, stop: int) -> int:
    r"""Tells how many rows a window has before it at least.

    Arguments:
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        stop: The row of the item before which targets end.

    Returns:
        The number, :math:`\min(L, \max(H, \lfloor stop / 4 \rfloor))`.
    """
    return min(context_length, max(prediction_length, stop // 4))


def split_windows(
    panel: Panel,
    part: Split,
    *,
    context_length: int,
    prediction_length: int,
    max_windows: int,
    stride: int = 1,
) -> Windows:
    r"""Lays windows over a part so that all of their targets lie inside it.

    Contexts look back across the part's border freely. A window needs some history (`least_history`), which binds
    in the train part only, unless an item begins late. Windows
    whose target is wholly missing are left out.

    Arguments:
        panel: The panel, usually standardised.
        part: The part that the targets lie in.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        max_windows: The most windows to return. If there are more, they are thinned out evenly over all items.
        stride: The number of rows from one origin to the next, before thinning.

    Returns:
        The windows, item by item, each in order of time.

    Raises:
        ValueError: If the part is of another panel, or a number is not positive.
    """
    if len(part.ranges) != len(panel) or max_windows < 1 or stride < 1:
        raise ValueError(
            f"expected one range an item ({len(panel)}) and positive max_windows and stride, got {len(part.ranges)} "
            f"ranges, max_windows={shown(max_windows)} and stride={shown(stride)}"
        )
    items, origins = [], []
    for number, (item, (start, stop)) in enumerate(zip(panel.items, part.ranges, strict=True)):
        history = least_history(context_length, prediction_length, stop)
        candidates = np.arange(max(start, history), stop - prediction_length + 1, stride)
        seen = np.concatenate([[0], np.cumsum(~np.isnan(item.values).all(axis=1))])
        candidates = candidates[seen[candidates + prediction_length] > seen[candidates]]
        items.append(np.full(len(candidates), number))
        origins.append(candidates)
    windows = Windows(panel, np.concatenate(items), np.concatenate(origins), context_length, prediction_length)
    if len(windows) <= max_windows:
        return windows
    # A fractional step spreads the windows better than every k-th one, which may lock in with the season.
    return windows[np.arange(max_windows) * len(windows) // max_windows]


def last_windows(panel: Panel, *, context_length: int, prediction_length: int) -> Windows:
    r"""Makes the windows that forecast what comes after each item's end.

    Arguments:
        panel: The panel, usually standardised.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        One window an item, in the panel's order. Its future is all NaN.
    """
    return Windows(panel, np.arange(len(panel)), np.asarray(panel.lengths), context_length, prediction_length)

r"""Context and target windows of a panel."""

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
from .frequency import num_seasons, season_index
from .panel import Panel
from .splits import Split
from .times import Times


@dataclass(frozen=True, eq=False)
class Preparation:
    r"""Preprocessing of a panel before the adapter reads its windows; none by default.

    Arguments:
        shifts: The effect of known covariates that was subtracted from the targets, row by row.
        factors: The positive divisors that were applied after that.
        imputation: The means and variances of missing cells given the other channels.
        cold_start: The model that forecasts contexts with few values.
        known: The standardised known covariates, row by row, for families that read them.
        calendar: The phases of cycles that are longer than the context, row by row, for families that read them.
        contexts: The imputed contexts of these windows, :math:`(n, L, D)`, and the imputation variance of their
            forecasts, :math:`(n, H, D)`, if they are computed already.
    """

    shifts: Panel | None = None
    factors: Panel | None = None
    imputation: Imputation | None = None
    cold_start: ColdStart | None = None
    known: Panel | None = None
    calendar: Panel | None = None
    contexts: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Windows:
    r"""Context and target windows of one panel, as indices into its rows.

    Tensors are built only for the requested windows: `windows[:64].past()` builds 64 windows.

    Arguments:
        panel: The panel, usually standardised.
        item: The number of each window's item in the panel, with shape :math:`(n,)`.
        origin: The row of each window's first target, with shape :math:`(n,)`.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        preparation: The preprocessing of the panel.
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
        r"""Return the context rows, which lie before the origin.

        Arguments:
            dtype: The precision. Rows in original units need float64, as their location may far exceed their scale.

        Returns:
            The contexts, with shape :math:`(n, L, D)`. Gaps are imputed where the other channels are more informative
            than the channel itself. Contexts that begin before the item are padded with NaN at the start.
        """
        return self._filled(dtype)[0]

    def imputed(self) -> Windows:
        r"""Return the windows with their contexts imputed, so that later calls reuse them."""
        if self.preparation.imputation is None or self.preparation.contexts is not None:
            return self
        past, variance = self._filled(torch.float32)
        assert variance is not None
        return replace(self, preparation=replace(self.preparation, contexts=(past, variance)))

    def imputation_variance(self) -> Tensor | None:
        r"""Return the imputation variance to add to forecasts of imputed contexts.

        Returns:
            The variances, with shape :math:`(n, H, D)`; None if nothing was imputed.
        """
        variance = self._filled(torch.float32)[1]
        return variance if variance is not None and bool(variance.any()) else None

    def future(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Return the target rows, which begin at the origin.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The targets, with shape :math:`(n, H, D)`. NaN if missing or after the item's end.
        """
        return self._gather(self.panel, np.arange(self.prediction_length), dtype)

    def shift(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Return the shifts subtracted from the target rows, to be added back to their forecasts.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The shifts, with shape :math:`(n, H, D)`; 0 after the item's end.
        """
        assert self.preparation.shifts is not None
        return self._gather(self.preparation.shifts, np.arange(self.prediction_length), dtype).nan_to_num(0.0)

    def factor(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Return the divisors of the target rows, by which their forecasts are multiplied.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The divisors, with shape :math:`(n, H, D)`, 1 after the item's end; a single 1 if nothing was divided.
        """
        if self.preparation.factors is None:
            return torch.ones(1, 1, 1, dtype=dtype)
        return self._gather(self.preparation.factors, np.arange(self.prediction_length), dtype).nan_to_num(1.0)

    def known(self) -> Tensor:
        r"""Return the standardised known covariates of the context and the target rows, for families that read them.

        Returns:
            The covariates, with shape :math:`(n, L + H, C)`; 0, their mean, where missing and outside of the item.
        """
        assert self.preparation.known is not None
        steps = np.arange(-self.context_length, self.prediction_length)
        return self._gather(self.preparation.known, steps, torch.float32).nan_to_num(0.0)

    def calendar(self) -> Tensor:
        r"""Return the phases of cycles at the first target step, :math:`(n, C)`, for families that read them."""
        assert self.preparation.calendar is not None
        return self._gather(self.preparation.calendar, np.arange(1), torch.float32)[:, 0]

    def _filled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        r"""Return the contexts, and their imputation variance."""
        steps = np.arange(-self.context_length, 0)
        preparation = self.preparation
        if preparation.contexts is not None and dtype is torch.float32:
            return preparation.contexts
        imputation = preparation.imputation
        if imputation is None:
            return self._gather(self.panel, steps, dtype), None
        panels = self.panel, imputation.mean, imputation.variance
        past, mean, variance = (self._gather(panel, steps, torch.float64) for panel in panels)
        filled, added_variance = imputation.fill(past, mean, variance, self.prediction_length)
        return filled.to(dtype), added_variance.to(dtype)

    @property
    def time(self) -> Times:
        r"""The origin times of the windows, on one calendar for all items."""
        return Times(self.panel, self.item, self.origin)

    @property
    def num_seasons(self) -> int:
        r"""The number of season indices: of hours, weekdays or months (see `adapts.data.frequency.num_seasons`)."""
        return num_seasons(self.panel.frequency)

    def season_index(self) -> Tensor:
        r"""Return the season index of the target steps.

        Returns:
            The indices, with shape :math:`(n, H)`; 0 for undated panels.
        """
        found = np.zeros((len(self), self.prediction_length), dtype=np.int64)
        if self.num_seasons == 1 or not len(self):
            return torch.from_numpy(found)
        order = np.argsort(self.item, kind="stable")
        for positions in np.split(order, np.flatnonzero(np.diff(self.item[order])) + 1):
            item, origin = self.panel.items[self.item[positions[0]]], self.origin[positions]
            first, stop = int(origin.min()), int(origin.max()) + self.prediction_length
            index = item.index[first:stop]
            if stop > len(item):
                index = index.append(self.panel.future_index(item, stop - len(item)))
            steps = origin[:, None] - first + np.arange(self.prediction_length)
            found[positions] = season_index(index, self.panel.frequency)[steps]
        return torch.from_numpy(found)

    def _gather(self, panel: Panel, steps: np.ndarray, dtype: torch.dtype) -> Tensor:
        rows, starts = panel.concatenated  # (sum T, D), (N + 1,)
        first, stop = starts[self.item, None], starts[self.item + 1, None]  # (n, 1)
        at = first + self.origin[:, None] + steps  # (n, steps)
        values = rows[np.clip(at, 0, len(rows) - 1)]  # (n, steps, D)
        values[(at < first) | (at >= stop)] = np.nan
        return torch.from_numpy(values).to(dtype)


def least_history(context_length: int, prediction_length: int, stop: int) -> int:
    r"""Return the minimum number of rows before a window.

    Arguments:
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        stop: The end of the item's target rows, exclusive.

    Returns:
        The number, :math:`\min(L, \max(H, \min(\lfloor L / 2 \rfloor, \lfloor stop / 4 \rfloor)))`. In short series the
        rows of the first context are a large fraction of the train rows.
    """
    return min(context_length, max(prediction_length, min(context_length // 2, stop // 4)))


def split_windows(
    panel: Panel,
    part: Split,
    *,
    context_length: int,
    prediction_length: int,
    max_windows: int,
    stride: int = 1,
) -> Windows:
    r"""Return the windows of a split, with all of their targets inside it.

    Contexts may begin before the split. A window needs some history (`least_history`), which matters in the train split
    only, unless an item begins late. Windows without any observed target are left out.

    Arguments:
        panel: The panel, usually standardised.
        part: The split that the targets lie in.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        max_windows: The maximum number of windows. If there are more, they are thinned evenly over all items.
        stride: The number of rows from one origin to the next, before thinning.

    Returns:
        The windows, item by item, each in order of time.

    Raises:
        ValueError: If the split is of another panel, or a number is not positive.
    """
    if len(part.ranges) != len(panel) or max_windows < 1 or stride < 1:
        raise ValueError(
            f"expected one range per item ({len(panel)}) and positive max_windows and stride, got {len(part.ranges)} "
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
    # A fractional step spreads the windows better than every k-th one, which may coincide with the season.
    return windows[np.arange(max_windows) * len(windows) // max_windows]


def last_windows(panel: Panel, *, context_length: int, prediction_length: int) -> Windows:
    r"""Return the windows that forecast the steps after each item's end.

    Arguments:
        panel: The panel, usually standardised.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        One window per item, in the panel's order. Its future is all NaN.
    """
    return Windows(panel, np.arange(len(panel)), np.asarray(panel.lengths), context_length, prediction_length)

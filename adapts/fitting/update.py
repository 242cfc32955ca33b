r"""Online updates: appends new rows to a fit, and adapts it to their outcomes."""

from __future__ import annotations

__all__ = ["Forecasts", "extend", "follow"]

import copy
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .._logging import get_logger
from ..adapters import RegressionData
from ..calibration.gate import is_closed
from ..calibration.online import OnlineRecalibration
from ..data.item import Item
from ..data.panel import Panel
from ..data.windows import Windows
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from .decision import Decision
from .fitted import Fitted

logger = get_logger(__name__)

#: The maximum number of missing steps that `regularise=True` may add to the new rows, plus two per observed row.
MOST_MISSING = 100

_CHUNK = 256  # the maximum number of windows that are forecast at once, except windows of a single step


@dataclass(frozen=True)
class Forecasts:
    r"""Forecasts of windows whose outcomes are now known.

    Arguments:
        windows: The windows, standardised.
        contexts: The map from windows to their contexts as the adapter reads them, with shape :math:`(n, L, D)`.
        medians: The frozen model's medians of all channels that the adapter sees, with shape :math:`(n, H, D)`.
        distribution: Their predictive distribution before online recalibration, with batch shape :math:`(n, H, D)`.
        future: The outcomes, with shape :math:`(n, H, D)`. NaN marks a missing step.
        seed: The seed that randomises PITs at atoms.
    """

    windows: Windows
    contexts: Callable[[Windows], Tensor]
    medians: Tensor
    distribution: QuantileFunction
    future: Tensor
    seed: int

    @cached_property
    def pits(self) -> Pits:
        r"""The PITs of the outcomes, with shape :math:`(n, H, D)`. NaN marks a missing step."""
        return self.distribution.pits(self.future, torch.Generator().manual_seed(self.seed))

    def regression_data(self, selected: Tensor) -> RegressionData:
        r"""Return the regression data of selected windows, for `partial_fit`."""
        windows = self.windows[selected.numpy()]
        return RegressionData(
            self.contexts(windows),
            windows.future(),
            self.medians[selected],
            torch.zeros(len(windows), dtype=torch.float32),
            known=None if windows.preparation.known is None else windows.known(),
            calendar=None if windows.preparation.calendar is None else windows.calendar(),
        )


def extend(panel: Panel, later: Panel, *, filled: bool = False) -> Panel:
    r"""Append the rows after each item's end.

    Arguments:
        panel: The rows so far.
        later: Rows with the same channels and frequency. Rows of dated items up to their current end fill only missing
            values; a warning names values that differ. All rows of undated items are new. Other items are unchanged.
        filled: Whether `regularise=True` added the missing rows. Each new row costs a forecast, hence the limit: twice
            the number of observed rows, plus 100.

    Returns:
        The panel with these rows appended.

    Raises:
        ValueError: If an item is unknown, its first new row is not the next step, or too many missing rows were added.
    """
    items = {panel.items[0].item_id: later.items[0]} if panel.single and later.single else {}
    items = items or {item.item_id: item for item in later.items}
    known = [item.item_id for item in panel.items]
    unknown = [name for name in items if name not in known]
    if unknown:
        raise ValueError(
            f"update expects rows of the fitted items, {', '.join(known[:8])}{', ...' * (len(known) > 8)}; "
            f"got rows of {unknown[0]!r}: predict(series) forecasts other items, fit(series) includes them"
        )
    grown = tuple(_extended(panel, item, items.get(item.item_id), filled) for item in panel.items)
    unchanged = [new.item_id for old, new in zip(panel.items, grown, strict=True) if old is new]
    if unchanged:
        names = ", ".join(unchanged[:8]) + ", ..." * (len(unchanged) > 8)
        logger.warning("no new rows of %d of %d items (%s): their forecasts stay", len(unchanged), len(known), names)
    return replace(panel, items=grown)


def _extended(panel: Panel, item: Item, later: Item | None, filled: bool) -> Item:
    if later is None:
        return item
    values, index = later.values, later.index
    if panel.frequency is None:
        grown: pd.Index[int] = pd.RangeIndex(item.index[0], item.index[-1] + 1 + len(values))
        return Item(item.item_id, np.concatenate([item.values, values]), grown)
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(
            f"update expects rows with dates, as in the fit, got rows of {item.item_id!r} without: pass them with dates"
        )
    assert isinstance(item.index, pd.DatetimeIndex)
    if item.index.tz is not None:
        index = index.tz_convert(item.index.tz)
    history = _completed(item, index, values)
    new = index > item.index[-1]
    index, values = index[new], values[new]
    if not len(index):
        return item if history is item.values else replace(item, values=history)
    missing = int(np.isnan(values).all(1).sum())
    if filled and missing > MOST_MISSING + 2 * (len(values) - missing):
        raise ValueError(
            f"regularise=True adds {missing} missing rows to the {len(values) - missing} new ones of "
            f"{item.item_id!r}, which end at {index[-1]}: correct wrong dates, pass rows of the fitted frequency "
            f"{panel.frequency!r}, or fit(series) again after so long a gap"
        )
    expected = panel.future_index(item, len(index))
    wrong = np.flatnonzero(index != expected)
    if len(wrong):
        raise ValueError(
            f"update expects the rows of {item.item_id!r} to continue at {expected[wrong[0]]}, got {index[wrong[0]]}: "
            "pass all rows since the last ones, with NaN for missing values"
        )
    return Item(item.item_id, np.concatenate([history, values]), item.index.append(index.as_unit(item.index.unit)))


def _completed(item: Item, index: pd.DatetimeIndex, values: np.ndarray) -> np.ndarray:
    r"""Return the values of an item with late values filled in; a warning names values that differ."""
    position = item.index.get_indexer(index)
    late = np.full_like(item.values, np.nan)
    late[position[position >= 0]] = values[position >= 0]
    observed, missing = ~np.isnan(late), np.isnan(item.values)
    revised = observed & ~missing & ~np.isclose(late, item.values)
    if revised.any():
        logger.warning(
            "%d values of %r differ from the fitted ones, the first at %s, and are ignored: fit again on the revised "
            "history to use them", revised.sum(), item.item_id, item.index[revised.any(1)][0],
        )  # fmt: skip
    return np.where(missing, late, item.values) if (observed & missing).any() else item.values


def follow(fitted: Fitted, panel: Panel, forecast: Callable[[Fitted, Windows], Forecasts]) -> Fitted:
    r"""Score forecasts that end in new rows, in temporal order, and adapt recalibration, bands and weights.

    Recalibration and bands are updated at every step. A recursive family adds the windows at the stride of the train
    windows to its regression data and is refit every :math:`H` steps. The result does not depend on how the rows are
    divided among calls.

    Arguments:
        fitted: The fit with the panel so far; it is not changed.
        panel: The panel with the new rows.
        forecast: The function that forecasts windows with a fit, before online recalibration.

    Returns:
        The fit with the new rows, updated.
    """
    horizon, before = fitted.copula.prediction_length, np.asarray(fitted.panel.lengths)
    origins = [
        np.arange(max(1, old - horizon + 1), new - horizon + 1) for old, new in zip(before, panel.lengths, strict=True)
    ]
    item, origin = np.repeat(np.arange(len(panel)), list(map(len, origins))), np.concatenate(origins)
    completed = fitted.panel.begins[item] + origin + horizon  # the time at which all targets are known
    order = np.lexsort((item, completed))
    windows = Windows(panel, item, origin, fitted.context_length, horizon)[order]
    if not len(windows):
        return replace(fitted, panel=panel)
    online = OnlineRecalibration(horizon, len(panel.targets))
    if fitted.online is not None:
        online = OnlineRecalibration.from_state(fitted.online.state())
    recursive = fitted.module.capabilities.supports_updates and not is_closed(fitted.gate)
    live = replace(fitted, panel=panel, online=online, module=copy.deepcopy(fitted.module))
    _, step, per_step = np.unique(completed[order], return_inverse=True, return_counts=True)
    on_stride = torch.from_numpy((online.count + step) % _stride(fitted) == 0)
    observed_levels, num_used = [], 0
    for segment in _between_refits(per_step, online.count, horizon):
        for steps in _chunks(segment):
            forecasts = forecast(live, windows[steps[0] : steps[-1]])
            used = on_stride[steps[0] : steps[-1]]
            if recursive and bool(used.any()):
                live.module.partial_fit(forecasts.regression_data(used))
                num_used += int(used.sum())
            for first, stop in pairwise(steps):
                current = slice(first - steps[0], stop - steps[0])
                adapted = online.adapted(forecasts.pits[current]).values  # before this update
                observed_levels.append(adapted[~adapted.isnan()])
                recalibrated = online.recalibration.apply(forecasts.distribution[current])
                live.bands = live.bands.follow(recalibrated, forecasts.future[current])
                online.update(forecasts.pits[current][None])
        if recursive and online.count % horizon == 0:
            live.module.refit()
    levels = torch.cat(observed_levels)
    coverage = 100 * float(((levels > 0.1) & (levels < 0.9)).double().mean())  # in percent
    reason = (
        f"recalibrated online with the outcomes of {online.count} steps; 80 % intervals of the last {len(windows)} "
        f"forecasts covered {coverage:.1f} %"
    ) + (f"; the correction was refit with {num_used} of their windows" if num_used else "")
    live.decisions = {
        **fitted.decisions,
        "update": Decision("kept", reason, {"steps": online.count, "held": coverage / 100}),
    }
    return live


def _chunks(firsts: list[int]) -> Iterator[list[int]]:
    r"""Split steps, given by their first windows, into runs to forecast together, each with the next first window."""
    start = 0
    while start < len(firsts) - 1:
        stop = max(start + 1, bisect_right(firsts, firsts[start] + _CHUNK) - 1)
        yield firsts[start : stop + 1]
        start = stop


def _stride(fitted: Fitted) -> int:
    r"""Return the number of rows between train windows."""
    rows = fitted.spans.get("train", {}).get("rows", 1)
    return max(1, round(int(rows) / max(1, fitted.windows.get("train", 1))))


def _between_refits(windows: np.ndarray, count: int, horizon: int) -> Iterator[list[int]]:
    r"""Split steps at the refits of the weights.

    Arguments:
        windows: The number of windows that each step completes.
        count: The number of earlier steps.
        horizon: The number of steps between refits.

    Yields:
        The first window of each step up to the next refit, followed by the end.
    """
    firsts = np.concatenate([[0], np.cumsum(windows)])
    start = 0
    while start < len(windows):
        stop = min(len(windows), start + horizon - (count + start) % horizon)
        yield firsts[start : stop + 1].tolist()
        start = stop

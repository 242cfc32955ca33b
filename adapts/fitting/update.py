r"""What `Adapter.update` does: takes up rows that came after the fitted ones, and learns from what came true."""

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

#: How many missing steps `regularise=True` may put among the new rows, beside two for each that is there.
MOST_MISSING = 100

_CHUNK = 256  # windows whose law is held at once, or those of one step


@dataclass(frozen=True)
class Forecasts:
    r"""What was said of windows that have come true.

    Arguments:
        windows: The windows, standardised.
        read: Gives the contexts of windows as the adapter reads them, with shape :math:`(n, L, D)`.
        medians: The frozen model's medians of all that the adapter sees, with shape :math:`(n, H, D)`.
        law: Their law, levels not yet adapted, with batch shape :math:`(n, H, D)`.
        future: What came true, with shape :math:`(n, H, D)`. NaN marks a missing step.
        seed: The seed of what randomises PITs at atoms.
    """

    windows: Windows
    read: Callable[[Windows], Tensor]
    medians: Tensor
    law: QuantileFunction
    future: Tensor
    seed: int

    @cached_property
    def pits(self) -> Pits:
        r"""The PITs of what came true, of shape :math:`(n, H, D)`. NaN marks a missing step."""
        return self.law.pits(self.future, torch.Generator().manual_seed(self.seed))

    def regression_data(self, some: Tensor) -> RegressionData:
        r"""What a family may learn from some of the windows."""
        windows = self.windows[some.numpy()]
        return RegressionData(
            self.read(windows), windows.future(), self.medians[some], torch.zeros(len(windows), dtype=torch.float32)
        )


def extend(panel: Panel, later: Panel, *, filled: bool = False) -> Panel:
    r"""Appends the rows that came after each item's end.

    Arguments:
        panel: The rows so far.
        later: Rows of the same channels and frequency. Of dated items those up to the end so far only complete what is
            missing there, and a warning tells of values that differ from those known; of undated items all are new.
            Items that are not among them stay as they are.
        filled: Whether `regularise=True` put the missing rows there. Each new row costs a forecast, so that these may
            be twice as many as those that came, and a hundred more.

    Returns:
        The panel with these rows behind its own.

    Raises:
        ValueError: If an item is not one of the panel's, or its first new row is not the next step, or too many are
            filled.
    """
    items = {panel.items[0].item_id: later.items[0]} if panel.single and later.single else {}
    items = items or {item.item_id: item for item in later.items}
    own = [item.item_id for item in panel.items]
    strange = [name for name in items if name not in own]
    if strange:
        raise ValueError(
            f"update expects rows of the fitted items, {', '.join(own[:8])}{', ...' * (len(own) > 8)}; got rows of "
            f"{strange[0]!r}: predict(series) forecasts other items, fit(series) takes them in"
        )
    grown = tuple(_extended(panel, item, items.get(item.item_id), filled) for item in panel.items)
    still = [new.item_id for old, new in zip(panel.items, grown, strict=True) if old is new]
    if still:
        named = ", ".join(still[:8]) + ", ..." * (len(still) > 8)
        logger.warning("no new rows of %d of %d items (%s): their forecasts stay", len(still), len(own), named)
    return replace(panel, items=grown)


def _extended(panel: Panel, item: Item, later: Item | None, filled: bool) -> Item:
    if later is None:
        return item
    values, index = later.values, later.index
    if panel.frequency is None:
        grown: pd.Index[int] = pd.RangeIndex(item.index[0], item.index[-1] + 1 + len(values))
        return Item(item.item_id, np.concatenate([item.values, values]), grown)
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(f"the fitted rows have dates, and the new ones of {item.item_id!r} have none: give them dates")
    assert isinstance(item.index, pd.DatetimeIndex)
    if item.index.tz is not None:
        index = index.tz_convert(item.index.tz)
    own = _completed(item, index, values)
    new = index > item.index[-1]
    index, values = index[new], values[new]
    if not len(index):
        return item if own is item.values else replace(item, values=own)
    missing = int(np.isnan(values).all(1).sum())
    if filled and missing > MOST_MISSING + 2 * (len(values) - missing):
        raise ValueError(
            f"regularise=True puts {missing} missing rows among the {len(values) - missing} new ones of "
            f"{item.item_id!r}, which end at {index[-1]}: correct stray dates, give rows of the fitted frequency "
            f"{panel.frequency!r}, or fit(series) anew after so long a gap"
        )
    expected = panel.future_index(item, len(index))
    wrong = np.flatnonzero(index != expected)
    if len(wrong):
        raise ValueError(
            f"update expects the rows of {item.item_id!r} to go on at {expected[wrong[0]]}, got {index[wrong[0]]}: "
            "give all rows since the last ones, with NaN where a value is missing"
        )
    return Item(item.item_id, np.concatenate([own, values]), item.index.append(index.as_unit(item.index.unit)))


def _completed(item: Item, index: pd.DatetimeIndex, values: np.ndarray) -> np.ndarray:
    r"""The values of an item with those that were missing and have come since; a warning tells where others differ."""
    place = item.index.get_indexer(index)
    late = np.full_like(item.values, np.nan)
    late[place[place >= 0]] = values[place >= 0]
    came, missing = ~np.isnan(late), np.isnan(item.values)
    revised = came & ~missing & ~np.isclose(late, item.values)
    if revised.any():
        logger.warning(
            "%d values of %r differ from those known, the first at %s, and are not taken up: fit again on a history "
            "that holds them", revised.sum(), item.item_id, item.index[revised.any(1)][0],
        )  # fmt: skip
    return np.where(missing, late, item.values) if (came & missing).any() else item.values


def follow(fitted: Fitted, panel: Panel, forecast: Callable[[Fitted, Windows], Forecasts]) -> Fitted:
    r"""Scores the forecasts whose last step is among new rows, in order of time, and adapts levels, bands and weights.

    The levels and the bands move with every step. A recursive family counts the windows that the fit would have looked
    at (one a stride of its train windows), and is solved again every :math:`H` steps, so that it does not matter in how
    many calls the rows come.

    Arguments:
        fitted: What the fit left behind, with the panel as it was; left as it is.
        panel: The panel with the new rows.
        forecast: Gives what was said of windows of a panel by what is fitted, levels not yet adapted.

    Returns:
        What the fit left behind, with the new rows and what they taught.
    """
    horizon, before = fitted.copula.prediction_length, np.asarray(fitted.panel.lengths)
    origins = [
        np.arange(max(1, old - horizon + 1), new - horizon + 1) for old, new in zip(before, panel.lengths, strict=True)
    ]
    item, origin = np.repeat(np.arange(len(panel)), list(map(len, origins))), np.concatenate(origins)
    made_whole = fitted.panel.begins[item] + origin + horizon  # by the rows of which time
    order = np.lexsort((item, made_whole))
    windows = Windows(panel, item, origin, fitted.context_length, horizon)[order]
    if not len(windows):
        return replace(fitted, panel=panel)
    online = OnlineRecalibration(horizon, len(panel.targets))
    if fitted.online is not None:
        online = OnlineRecalibration.from_state(fitted.online.state())
    recursive = fitted.module.recursive and not is_closed(fitted.gate)
    live = replace(fitted, panel=panel, online=online, module=copy.deepcopy(fitted.module))
    _, step, at_once = np.unique(made_whole[order], return_inverse=True, return_counts=True)
    counts = torch.from_numpy((online.count + step) % _stride(fitted) == 0)
    inside, learned = [], 0
    for some in _between_solutions(at_once, online.count, horizon):
        for steps in _chunks(some):
            told = forecast(live, windows[steps[0] : steps[-1]])
            counted = counts[steps[0] : steps[-1]]
            if recursive and bool(counted.any()):
                live.module.partial_fit(told.regression_data(counted))
                learned += int(counted.sum())
            for first, stop in pairwise(steps):
                now = slice(first - steps[0], stop - steps[0])
                adapted = online.adapted(told.pits[now]).values  # as it was forecast
                inside.append(adapted[~adapted.isnan()])
                live.bands = live.bands.follow(online.recalibration.apply(told.law[now]), told.future[now])
                online.update(told.pits[now][None])
        if recursive and online.count % horizon == 0:
            live.module.refit()
    levels = torch.cat(inside)
    share = 100 * float(((levels > 0.1) & (levels < 0.9)).double().mean())
    said = (
        f"levels moved by what came true at {online.count} steps; 80 % intervals of the last {len(windows)} "
        f"forecasts, as they then were, held {share:.1f} %"
    ) + (f"; the correction learned from {learned} of their windows" if learned else "")
    live.decisions = {
        **fitted.decisions,
        "update": Decision("kept", said, {"steps": online.count, "held": share / 100}),
    }
    return live


def _chunks(firsts: list[int]) -> Iterator[list[int]]:
    r"""Cuts the first windows of steps into runs of steps that are forecast together, each with the window behind."""
    start = 0
    while start < len(firsts) - 1:
        stop = max(start + 1, bisect_right(firsts, firsts[start] + _CHUNK) - 1)
        yield firsts[start : stop + 1]
        start = stop


def _stride(fitted: Fitted) -> int:
    r"""How many rows lie from one train window to the next."""
    rows = fitted.spans.get("train", {}).get("rows", 1)
    return max(1, round(int(rows) / max(1, fitted.windows.get("train", 1))))


def _between_solutions(windows: np.ndarray, count: int, horizon: int) -> Iterator[list[int]]:
    r"""Cuts steps where the weights are solved for again.

    Arguments:
        windows: How many windows each step makes whole.
        count: The steps before these.
        horizon: The steps from one solution to the next.

    Yields:
        The first window of each step up to the next solution, and the one behind them all.
    """
    firsts = np.concatenate([[0], np.cumsum(windows)])
    start = 0
    while start < len(windows):
        stop = min(len(windows), start + horizon - (count + start) % horizon)
        yield firsts[start : stop + 1].tolist()
        start = stop

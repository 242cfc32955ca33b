r"""What `Adapter.update` does: takes up rows that came after the fitted ones, and learns from what came true."""

from __future__ import annotations

__all__ = ["extend", "follow"]

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ._logging import get_logger
from .distribution.online import OnlineRecalibration
from .fitting import Fitted
from .panel import Item, Panel
from .windows import Windows

logger = get_logger(__name__)

_CHUNK = 256  # windows whose law is held at once


def extend(panel: Panel, later: Panel) -> Panel:
    r"""Appends the rows that came after each item's end.

    Arguments:
        panel: The rows so far.
        later: Rows of the same channels and frequency. Of dated items those up to the end so far are left aside; of
            undated ones all are new. Items that are not among them stay as they are.

    Returns:
        The panel with these rows behind its own.

    Raises:
        ValueError: If an item is not one of the panel's, or its first new row is not the next step.
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
    grown = tuple(_extended(panel, item, items.get(item.item_id)) for item in panel.items)
    still = [new.item_id for old, new in zip(panel.items, grown, strict=True) if len(old) == len(new)]
    if still:
        named = ", ".join(still[:8]) + ", ..." * (len(still) > 8)
        logger.warning("no new rows of %d of %d items (%s): their forecasts stay", len(still), len(own), named)
    return replace(panel, items=grown)


def _extended(panel: Panel, item: Item, later: Item | None) -> Item:
    if later is None:
        return item
    values, index = later.values, later.index
    if panel.frequency is None:
        grown: pd.Index[int] = pd.RangeIndex(item.index[0], item.index[-1] + 1 + len(values))
        return Item(item.item_id, np.concatenate([item.values, values]), grown)
    assert isinstance(item.index, pd.DatetimeIndex) and isinstance(index, pd.DatetimeIndex)
    if item.index.tz is not None:
        index = index.tz_convert(item.index.tz)
    new = index > item.index[-1]
    index, values = index[new], values[new]
    if not len(index):
        return item
    expected = panel.future_index(item, len(index))
    wrong = np.flatnonzero(index != expected)
    if len(wrong):
        raise ValueError(
            f"update expects the rows of {item.item_id!r} to go on at {expected[wrong[0]]}, got {index[wrong[0]]}: "
            "give all rows since the last ones, with NaN where a value is missing"
        )
    return Item(item.item_id, np.concatenate([item.values, values]), item.index.append(index.as_unit(item.index.unit)))


def follow(fitted: Fitted, panel: Panel, pits: Callable[[Windows], Tensor], prediction_length: int) -> Fitted:
    r"""Scores the forecasts whose last step is among new rows, in order of time, and adapts levels and bands.

    Arguments:
        fitted: What the fit left behind, with the panel as it was; left as it is.
        panel: The panel with the new rows.
        pits: Gives the PITs of windows of a panel, with shape :math:`(n, H, D)`, under the law that is not adapted.
        prediction_length: The number of leads :math:`H`.

    Returns:
        What the fit left behind, with the new rows and what they taught.
    """
    horizon, before = prediction_length, np.asarray(fitted.panel.lengths)
    origins = [
        np.arange(max(1, old - horizon + 1), new - horizon + 1) for old, new in zip(before, panel.lengths, strict=True)
    ]
    item, origin = np.repeat(np.arange(len(panel)), list(map(len, origins))), np.concatenate(origins)
    made_whole = origin + horizon - before[item]  # by which of the item's new rows
    order = np.lexsort((item, made_whole))
    windows = Windows(panel, item, origin, fitted.context_length, horizon)[order]
    told = torch.cat(
        [torch.empty(0, horizon, panel.num_channels)]
        + [pits(windows[start : start + _CHUNK]) for start in range(0, len(windows), _CHUNK)]
    )
    online = OnlineRecalibration(horizon, panel.num_channels)
    if fitted.online is not None:
        online = OnlineRecalibration.from_state(fitted.online.state())
    bands, inside = fitted.bands, []
    for now in told.split(np.unique(made_whole, return_counts=True)[1].tolist()) if len(windows) else ():
        adapted = online.adapted(now)  # as it was forecast
        inside.append(adapted[~adapted.isnan()])
        bands = bands.follow(adapted)
        online.update(now.unsqueeze(0))
    stages = dict(fitted.stages)
    if inside:
        levels = torch.cat(inside)
        share = 100 * float(((levels > 0.1) & (levels < 0.9)).double().mean())
        stages["update"] = (
            f"levels moved by what came true at {online.count} steps; 80 % intervals of the last {len(windows)} "
            f"forecasts, as they then were, held {share:.1f} %"
        )
    return replace(fitted, panel=panel, online=online if inside else fitted.online, bands=bands, stages=stages)

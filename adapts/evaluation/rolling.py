r"""What a backtest holds back: the rows, the origins on them, the windows at these."""

from __future__ import annotations

__all__ = ["before", "held_back", "rolling_windows", "varying"]

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from ..panel import Panel, require_length
from ..windows import Part, Windows, part_windows

if TYPE_CHECKING:
    from ..readers import Dataset

HELD_BACK = 0.2  # the share of rows held back where nothing else says how many
FEW, MANY = 20, 200  # origins that the default stride tries to reach, and those it never exceeds


def held_back(
    series: Panel | Dataset, horizon: int, windows: int | None, stride: int | None, season: int = 1
) -> tuple[Panel, list[int], int]:
    r"""Decides which rows are held back.

    Arguments:
        series: The series, as a panel or a data set with borders.
        horizon: The number of target steps :math:`H`.
        windows: The number of origins, or None.
        stride: The number of rows from one origin to the next, or None: one that has no common factor with the season,
            so that windows begin at every phase of it.
        season: The number of rows in the season.

    Returns:
        The panel up to the last row to score, the first origin of each item, and the stride.

    Raises:
        ValueError: If the series is too short, or the rows held back hold no window.
    """
    panel, borders = series, None
    if not isinstance(series, Panel):
        panel = series.panel if series.end is None else series.panel.rows(series.end)
        borders = series.borders
    assert isinstance(panel, Panel)
    dated = panel.frequency is not None
    clocks = [item.clock() if dated else np.arange(len(item)) for item in panel.items]
    clock = np.unique(np.concatenate(clocks)) if dated else max(clocks, key=len)
    if windows is not None:
        stride = stride or _coprime(horizon, season)
        held = (windows - 1) * stride + horizon
    elif borders is not None:
        held = len(clock) - borders[1]
    else:
        held = max(horizon, round(HELD_BACK * len(clock)))
    if len(clock) < held + 3 * horizon:
        count = "windows" if windows is None else f"{windows} window{'s' * (windows > 1)}"
        require_length(
            panel, held + 3 * horizon, f"{count} of {horizon} steps held back, and rows before them to fit on"
        )
    if held < horizon:
        raise ValueError(
            f"the {held} rows held back hold no window of prediction_length={horizon}: "
            "ask for a shorter one, or for a number of windows"
        )
    if dated:
        firsts = [int(np.searchsorted(each, clock[len(clock) - held])) for each in clocks]
    else:
        firsts = [max(0, len(each) - held) for each in clocks]  # no common clock: counted from each item's own end
    free = held - horizon
    if stride is None:
        least, most = -(-(free + 1) // MANY), max(1, free // (FEW - 1))  # for MANY origins at most, FEW at least
        stride = _coprime(min(max(horizon, least), most), season, least)
    return panel, firsts, stride


def _coprime(stride: int, season: int, least: int = 1) -> int:
    r"""The number nearest to a stride that has no common factor with the season, of two the smaller one."""
    near = (one for away in count() for one in (stride - away, stride + away))
    return next(one for one in near if one >= least and gcd(one, season) == 1)


def before(series: Panel | Dataset, panel: Panel, stops: Sequence[int]) -> Panel | Dataset:
    r"""Keeps the rows before some origins.

    Arguments:
        series: The series.
        panel: Its panel up to the last row to score.
        stops: The origin of each item.

    Returns:
        These rows, in the form that the series came in; without borders that lie behind the first origin.
    """
    rows = panel.rows(stops)
    rows = replace(rows, items=tuple(item for item in rows.items if len(item)))
    if isinstance(series, Panel):
        return rows
    borders = series.borders if series.borders is not None and max(stops) >= series.borders[1] else None
    return replace(series, panel=rows, borders=borders, end=None)


def rolling_windows(
    panel: Panel,
    first_origin: int | Sequence[int],
    windows: int | None,
    stride: int,
    context_length: int,
    prediction_length: int,
) -> Windows:
    r"""Lays windows from an origin on, one every `stride` rows, whose targets lie inside the series.

    Arguments:
        panel: The panel.
        first_origin: The row of the first target of the first window, one for all items or one each.
        windows: The most windows an item, as many as fit if None.
        stride: The number of rows from one origin to the next.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        The windows, item by item, each in order of time. Those whose target is wholly missing are left out.
    """
    firsts = [first_origin] * len(panel) if isinstance(first_origin, int) else first_origin
    stops = panel.lengths
    if windows is not None:
        reach = (windows - 1) * stride + prediction_length
        stops = tuple(min(stop, first + reach) for stop, first in zip(stops, firsts, strict=True))
    part = Part("held back", tuple(zip(firsts, stops, strict=True)))
    return part_windows(
        panel,
        part,
        context_length=context_length,
        prediction_length=prediction_length,
        max_windows=max(1, sum(stops)),
        stride=stride,
    )


def varying(panel: Panel) -> np.ndarray:
    r"""Tells which channels change by more than rounding noise.

    Arguments:
        panel: The panel.

    Returns:
        Whether each channel does, with shape :math:`(D,)`.
    """
    rows, _ = panel.concatenated
    low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
    constant: np.ndarray = high - low <= 1e-9 * np.maximum(np.abs(low), np.abs(high))  # the scale of a fit is then 1
    return ~constant

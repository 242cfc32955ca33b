r"""What a backtest holds back: the rows, the origins on them, the windows at these."""

from __future__ import annotations

__all__ = ["before", "held_back", "rolling_windows", "varying"]

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from ..data.panel import Panel, require_length
from ..data.splits import Split
from ..data.windows import Windows, least_history, split_windows

if TYPE_CHECKING:
    from ..data.cards import Dataset

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
        The panel up to the last row to score, the row of each item at the first origin, and the stride. The first
        origin is one step of the calendar; the row is below 0 in an item that begins later.

    Raises:
        ValueError: If the series is too short, or the rows held back hold no window.
    """
    panel, borders = series, None
    if not isinstance(series, Panel):
        panel = series.panel if series.end is None else series.panel.rows(series.end)
        borders = series.borders
    assert isinstance(panel, Panel)
    clock = panel.steps
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
    first = clock[-1] + 1 - held if windows is not None else clock[len(clock) - held]
    firsts = (first - panel.begins).tolist()
    free = int(clock[-1] + 1 - first) - horizon
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
        stops: The row of each item at the origin: 0 or below in one that begins later, beyond the end of one that
            ends before.

    Returns:
        These rows, in the form that the series came in; without borders that lie behind the origin.
    """
    begun = [(item, stop) for item, stop in zip(panel.items, stops, strict=True) if stop > 0]
    rows = replace(panel, items=tuple(item for item, _ in begun)).rows([stop for _, stop in begun])
    if isinstance(series, Panel):
        return rows
    borders = series.borders if series.borders is not None and len(rows.steps) >= series.borders[1] else None
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
        first_origin: The row of the first target of the first window, one for all items or one
            each; below 0 in an item that begins later, whose windows stand where those of the others do.
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
    starts = []
    for stop, first in zip(stops, firsts, strict=True):  # an item that begins late has windows when the others have
        late = max(0, least_history(context_length, prediction_length, stop) - first)
        starts.append(first + -(-late // stride) * stride)
    part = Split("held back", tuple(zip(starts, stops, strict=True)))
    return split_windows(
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

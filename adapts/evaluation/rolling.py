r"""Held-out rows of a backtest, its forecast origins, and the windows at these."""

from __future__ import annotations

__all__ = ["hold_out", "naive_errors", "rolling_windows", "rows_before", "varying"]

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from ..data.panel import Panel, require_length
from ..data.splits import Split
from ..data.windows import Windows, least_history, split_windows
from .scores import naive_error
from .tables import varying_columns

if TYPE_CHECKING:
    from ..data.cards import Dataset

HELD_OUT = 0.2  # the fraction of rows held out by default
MIN_ORIGINS, MAX_ORIGINS = 20, 200  # the number of origins that the default stride aims at, and the largest number


def hold_out(
    series: Panel | Dataset, horizon: int, windows: int | None, stride: int | None, season: int = 1
) -> tuple[Panel, list[int], int]:
    r"""Determine the rows to hold out, and the stride between origins.

    Arguments:
        series: The series, as a panel or a data set with borders.
        horizon: The number of target steps :math:`H`.
        windows: The number of origins, or None.
        stride: The number of rows from one origin to the next. If None, it is chosen coprime to the season, so that
            windows begin at every season index.
        season: The number of rows in the season.

    Returns:
        The panel up to the last row to score, the row of each item at the first origin, and the stride. The first
        origin is one step of the calendar; its row is negative in an item that begins later.

    Raises:
        ValueError: If the series is too short, or the held-out rows contain no window.
    """
    panel, borders = series, None
    if not isinstance(series, Panel):
        panel = series.panel if series.end is None else series.panel.rows(series.end)
        borders = series.borders
    assert isinstance(panel, Panel)
    steps = panel.steps
    if windows is not None:
        stride = stride or _coprime(horizon, season)
        held_out = (windows - 1) * stride + horizon
    elif borders is not None:
        held_out = len(steps) - borders[1]
    else:
        held_out = max(horizon, round(HELD_OUT * len(steps)))
    if len(steps) < held_out + 3 * horizon:
        count = "windows" if windows is None else f"{windows} window{'s' * (windows > 1)}"
        require_length(
            panel, held_out + 3 * horizon, f"{count} of {horizon} steps held out, and earlier rows to fit on"
        )
    if held_out < horizon:
        raise ValueError(
            f"the {held_out} held-out rows contain no window of prediction_length={horizon}: "
            "use a shorter one, or set the number of windows"
        )
    first = steps[-1] + 1 - held_out if windows is not None else steps[len(steps) - held_out]
    firsts = (first - panel.begins).tolist()
    last = int(steps[-1] + 1 - first) - horizon  # the last possible origin, counted from the first
    if stride is None:
        least, most = -(-(last + 1) // MAX_ORIGINS), max(1, last // (MIN_ORIGINS - 1))
        stride = _coprime(min(max(horizon, least), most), season, least)
    return panel, firsts, stride


def _coprime(stride: int, season: int, least: int = 1) -> int:
    r"""Return the number nearest to a stride that is coprime to the season, the smaller one of two."""
    candidates = (candidate for distance in count() for candidate in (stride - distance, stride + distance))
    return next(candidate for candidate in candidates if candidate >= least and gcd(candidate, season) == 1)


def rows_before(series: Panel | Dataset, panel: Panel, stops: Sequence[int]) -> Panel | Dataset:
    r"""Return the rows before an origin.

    Arguments:
        series: The series.
        panel: Its panel up to the last row to score.
        stops: The row of each item at the origin: 0 or negative in an item that begins later, beyond the end of an item
            that ends before.

    Returns:
        These rows, of the same type as the series; without borders that lie after the origin.
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
    r"""Return windows from a first origin on, every `stride` rows, with targets inside the series.

    Arguments:
        panel: The panel.
        first_origin: The row of the first target of the first window, one for all items or one for each. It is negative
            in an item that begins later, whose windows begin at the origins of the others.
        windows: The largest number of windows per item, as many as fit if None.
        stride: The number of rows from one origin to the next.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        The windows, item by item, in order of time. Windows with entirely missing targets are left out.
    """
    firsts = [first_origin] * len(panel) if isinstance(first_origin, int) else first_origin
    stops = panel.lengths
    if windows is not None:
        span = (windows - 1) * stride + prediction_length
        stops = tuple(min(stop, first + span) for stop, first in zip(stops, firsts, strict=True))
    starts = []
    for stop, first in zip(stops, firsts, strict=True):  # an item that begins later keeps the origins of the others
        lacking = max(0, least_history(context_length, prediction_length, stop) - first)
        starts.append(first + -(-lacking // stride) * stride)
    held_out = Split("held out", tuple(zip(starts, stops, strict=True)))
    return split_windows(
        panel,
        held_out,
        context_length=context_length,
        prediction_length=prediction_length,
        max_windows=max(1, sum(stops)),
        stride=stride,
    )


def varying(panel: Panel) -> np.ndarray:
    r"""Return which channels vary by more than rounding errors.

    Arguments:
        panel: The panel.

    Returns:
        Whether each channel varies, with shape :math:`(D,)`.
    """
    return varying_columns(panel.concatenated[0])


def naive_errors(panel: Panel, firsts: Sequence[int], season_length: int) -> np.ndarray:
    r"""Return the error of the seasonal naive on the rows of each item before the first origin.

    Arguments:
        panel: The panel.
        firsts: The row of each item at the first origin, negative in an item that begins later.
        season_length: The number of rows in a season.

    Returns:
        The errors, with shape :math:`(N, D)`; NaN where `adapts.evaluation.scores.naive_error` is, as in an item
        without rows before the first origin.
    """
    rows = (item.values[: max(0, first)] for item, first in zip(panel.items, firsts, strict=True))
    return np.stack([naive_error(before, season_length) for before in rows])

r"""Marks: values so far from all others of their column that they stand for no measurement, as fill values do."""

from __future__ import annotations

__all__ = ["Mark", "Marks", "frequent"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .panel import Panel

#: The most cells of a column that may be marks, as a share of those seen (one may always be).
FEW = 0.01
#: How many different values they are at most, if they are more cells than a handful.
VALUES, HANDFUL = 3, 5
#: How many times as far as any other cell a mark lies from the median.
GAP = 20.0
#: How many times the standard deviation of the others is that of all cells.
TIMES = 10.0


@dataclass(frozen=True)
class Mark:
    r"""One cell that is a mark.

    Arguments:
        item: The number of the item.
        row: The row of the item.
        channel: The name of the column.
        value: What it holds.
    """

    item: int
    row: int
    channel: str
    value: float


@dataclass(frozen=True)
class Marks:
    r"""Between which values a column's measurements lie, for the columns that hold marks as well.

    A mean and a standard deviation are those of the marks where these are large: a single 1e20 gives a column of tens
    the scale 1e18, in units of which all its values are one number. So marks count as missing, in the rows of the fit
    and in those that forecasts look back on. The columns of ordinary data hold none, whatever their tails: marks are
    at most 1 % of the cells, and of three values at most if more than five (rare events, such as rain on a few days,
    are of many sizes), they lie 20 times as far from the median as any other cell, and the standard deviation with them
    is 10 times that without. Where all others are equal, there is no telling.

    Arguments:
        bounds: The lowest and the highest value of each such column that is no mark.
    """

    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def of(panel: Panel) -> Marks:
        r"""Finds the marks of a panel.

        Arguments:
            panel: The panel, in the caller's units.

        Returns:
            The bounds of its columns with marks; static columns and the calendar are not looked at.
        """
        rows = panel.concatenated[0]
        names = (*panel.targets, *panel.past_covariates, *panel.given)
        found = {name: _bounds(rows[:, panel.channels.index(name)]) for name in names}
        return Marks({name: pair for name, pair in found.items() if pair is not None})

    def without(self, panel: Panel) -> Panel:
        r"""Returns a panel with NaN where it holds marks, itself where it holds none.

        Arguments:
            panel: A panel in the caller's units.
        """
        marks = self.on(panel)
        if not marks:
            return panel
        values = {number: panel.items[number].values.copy() for number in {mark.item for mark in marks}}
        for mark in marks:
            values[mark.item][mark.row, panel.channels.index(mark.channel)] = np.nan
        items = (replace(item, values=values.get(number, item.values)) for number, item in enumerate(panel.items))
        return replace(panel, items=tuple(items))

    def on(self, panel: Panel) -> list[Mark]:
        r"""Returns the cells of a panel that are marks, column by column.

        Arguments:
            panel: A panel in the caller's units.
        """
        found = []
        for name, (low, high) in self.bounds.items():
            if name not in panel.channels:
                continue
            column = panel.channels.index(name)
            for number, item in enumerate(panel.items):
                x = item.values[:, column]
                for row in np.flatnonzero((x < low) | (x > high)).tolist():
                    found.append(Mark(number, row, name, float(x[row])))
        return found


def frequent(panel: Panel) -> dict[str, tuple[float, int]]:
    r"""Finds values that look like marks and are too many to be taken for such: few numbers, far out, that repeat.

    Arguments:
        panel: The panel, in the caller's units, without marks.

    Returns:
        Of each target that has such a value, the farthest and how many cells of its column hold it.
    """
    rows, found = panel.concatenated[0], {}
    for name in panel.targets:
        column = rows[:, panel.channels.index(name)]
        seen, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        if len(seen) < 2 * VALUES:
            continue
        middle = float(np.repeat(seen, counts)[counts.sum() // 2])
        away = np.abs(seen - middle)
        order = away.argsort()[::-1]
        for number in range(1, VALUES + 1):
            far, rest = order[:number], order[number:]
            if counts[far].min() > HANDFUL and away[far].min() >= GAP * away[rest].max() > 0:
                found[name] = float(seen[far[0]]), int(counts[far[0]])
                break
    return found


def _bounds(column: np.ndarray) -> tuple[float, float] | None:
    r"""The lowest and the highest value of a column that is no mark; None where it holds none."""
    seen = column[~np.isnan(column)]
    most = max(1, int(FEW * len(seen)))
    if len(seen) < 3:
        return None
    middle = float(np.median(seen))
    away = np.abs(seen - middle)
    if away.max() < GAP * np.partition(away, len(away) - 1 - most)[len(away) - 1 - most]:
        return None  # no cell lies so far out: all that ordinary data cost
    sizes = np.sort(away)
    for first in range(len(sizes) - most, len(sizes)):
        if not sizes[first] >= GAP * sizes[first - 1] > 0:
            continue
        rest, marks = seen[away < sizes[first]], seen[away >= sizes[first]]
        alike = len(marks) <= HANDFUL or len(np.unique(marks)) <= VALUES
        if alike and _deviation(seen) >= TIMES * _deviation(rest):
            reach = float(np.sqrt(sizes[first - 1]) * np.sqrt(sizes[first]))
            return middle - reach, middle + reach
    return None


def _deviation(x: np.ndarray) -> float:
    r"""The standard deviation, of numbers whose squares may be none."""
    size = float(np.abs(x).max())
    return size * float(np.std(x / size))

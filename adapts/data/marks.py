r"""Marks: extreme values, such as fill values, that stand for no measurement."""

from __future__ import annotations

__all__ = ["Mark", "Marks", "frequent"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .panel import Panel

#: The largest fraction of a column's observed cells that may be marks (one cell always may be).
FEW = 0.01
#: The most distinct values of marks, if they are more cells than `HANDFUL`.
VALUES, HANDFUL = 3, 5
#: The least ratio of a mark's distance from the median to that of any other cell.
GAP = 20.0
#: The least ratio of the standard deviation of all cells to that of the others.
TIMES = 10.0


@dataclass(frozen=True)
class Mark:
    r"""One cell that holds a mark.

    Arguments:
        item: The number of the item.
        row: The row of the item.
        channel: The name of the column.
        value: The value of the cell.
    """

    item: int
    row: int
    channel: str
    value: float


@dataclass(frozen=True)
class Marks:
    r"""Bounds of the measurements of each column that also holds marks.

    Large marks dominate the mean and the standard deviation: a single 1e20 gives a column of tens the scale 1e18, in
    whose units all other values are equal. So marks count as missing, in the rows of the fit and in the contexts of
    forecasts. Values are marks if all of the following hold, which excludes ordinary data with heavy tails:

    - They are at most 1 % of the cells, and if more than five cells, then of at most three distinct values. Rare
      events, such as rain on a few days, have many sizes.
    - They lie 20 times as far from the median as any other cell.
    - The standard deviation with them is 10 times that without.

    If all other cells are equal, no marks are found.

    Arguments:
        bounds: The interval of each such column that contains all its values but the marks.
    """

    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def of(panel: Panel) -> Marks:
        r"""Find the marks of a panel.

        Arguments:
            panel: The panel, in the caller's units.

        Returns:
            The bounds of its columns with marks. Static columns and the calendar are not searched.
        """
        rows = panel.concatenated[0]
        names = (*panel.targets, *panel.past_covariates, *panel.given)
        found = {name: _bounds(rows[:, panel.channels.index(name)]) for name in names}
        return Marks({name: pair for name, pair in found.items() if pair is not None})

    def without(self, panel: Panel) -> Panel:
        r"""Return the panel with NaN in place of marks, or the panel itself if it has none.

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
        r"""Return the marks of a panel, column by column.

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
    r"""Find extreme values that repeat too often to be marks.

    Arguments:
        panel: The panel, in the caller's units, without marks.

    Returns:
        For each target with such values, the farthest one and the number of cells of its column that hold it.
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
            far, near = order[:number], order[number:]
            if counts[far].min() > HANDFUL and away[far].min() >= GAP * away[near].max() > 0:
                found[name] = float(seen[far[0]]), int(counts[far[0]])
                break
    return found


def _bounds(column: np.ndarray) -> tuple[float, float] | None:
    r"""Return an interval that contains all values of a column but its marks; None if it has no marks."""
    seen = column[~np.isnan(column)]
    most = max(1, int(FEW * len(seen)))
    if len(seen) < 3:
        return None
    middle = float(np.median(seen))
    away = np.abs(seen - middle)
    if away.max() < GAP * np.partition(away, len(away) - 1 - most)[len(away) - 1 - most]:
        return None  # no cell lies so far out: a cheap exit for ordinary data
    distances = np.sort(away)
    for first in range(len(distances) - most, len(distances)):
        if not distances[first] >= GAP * distances[first - 1] > 0:
            continue
        others, marks = seen[away < distances[first]], seen[away >= distances[first]]
        are_few = len(marks) <= HANDFUL or len(np.unique(marks)) <= VALUES
        if are_few and _deviation(seen) >= TIMES * _deviation(others):
            half_width = float(np.sqrt(distances[first - 1]) * np.sqrt(distances[first]))
            return middle - half_width, middle + half_width
    return None


def _deviation(x: np.ndarray) -> float:
    r"""Return the standard deviation of numbers whose squares may overflow."""
    size = float(np.abs(x).max())
    return size * float(np.std(x / size))

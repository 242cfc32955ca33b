r"""Origin times of windows, from which their dependence and their blocks in time follow."""

from __future__ import annotations

__all__ = ["Times", "require_times"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import shown
from .frequency import step_days, steps_since
from .panel import Panel

if TYPE_CHECKING:
    from .windows import Windows


@dataclass(frozen=True, eq=False, init=False)
class Times:
    r"""Origin times of windows, as steps of a calendar common to all items, or to several panels.

    Use them, not row numbers, to find simultaneous windows or the distance between windows: row numbers are no times
    where items begin at different dates. Hence times are computed from panels only. The items of an undated panel are
    assumed to end together, and time is counted from there.

    Arguments:
        panel: The panel of the items.
        item: The number of each window's item in the panel, with shape :math:`(n,)`.
        row: The row of its item at which each window begins, with shape :math:`(n,)`.

    Attributes:
        step: The steps, with shape :math:`(n,)`.
        item: The items, with shape :math:`(n,)`.
        calendar: The frequency of the steps, and their origin.
    """

    step: np.ndarray
    item: np.ndarray
    calendar: tuple[str | None, int]

    def __init__(self, panel: Panel, item: np.ndarray, row: np.ndarray) -> None:
        item, row = np.asarray(item), np.asarray(row)
        if panel.frequency is None:
            since = -max(panel.lengths)
        else:
            since = min(int(series.clock()[0]) for series in panel.items if len(series))
        self._set(panel.begins[item] + row, item, (panel.frequency, since))

    def _set(self, step: np.ndarray, item: np.ndarray, calendar: tuple[str | None, int]) -> None:
        r"""Set the attributes of the frozen dataclass."""
        for name, value in (("step", step), ("item", item), ("calendar", calendar)):
            object.__setattr__(self, name, value)

    @classmethod
    def _made(cls, step: np.ndarray, item: np.ndarray, calendar: tuple[str | None, int]) -> Times:
        r"""Make times of their attributes, without a panel."""
        made = cls.__new__(cls)
        made._set(step, item, calendar)
        return made

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, which: slice | Sequence[int] | np.ndarray) -> Times:
        return self._made(self.step[which], self.item[which], self.calendar)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.step, dtype=dtype)

    @classmethod
    def joined(cls, parts: Sequence[Times]) -> Times:
        r"""Concatenate times with one calendar.

        Arguments:
            parts: The times, at least one.

        Returns:
            All times, in this order.

        Raises:
            ValueError: If their calendars differ.
        """
        if len({part.calendar for part in parts}) != 1:
            raise ValueError(
                f"expected times of one calendar, got {shown([part.calendar for part in parts])}: Times.of_panels "
                "brings windows of several panels onto one"
            )
        step, item = (np.concatenate([getattr(part, name) for part in parts]) for name in ("step", "item"))
        return cls._made(step, item, parts[0].calendar)

    @classmethod
    def of_panels(cls, windows: Sequence[Windows]) -> Times:
        r"""Return the times of windows of several panels on one calendar.

        Arguments:
            windows: The windows of each panel, whose origins are rows of their items. All panels are dated, or none.

        Returns:
            The times of all windows, in this order. Items of different panels have different numbers. The calendar has
            the longest step of the panels; of several, the last by name. Undated panels are assumed to end together.

        Raises:
            ValueError: If some panels are dated and others are not.
        """
        shift = np.cumsum([0, *(len(batch.panel) for batch in windows)])
        item = np.concatenate([batch.item + first for batch, first in zip(windows, shift, strict=False)])
        distinct = {batch.panel.frequency for batch in windows}
        frequencies = [name for name in distinct if name is not None]
        if not frequencies:
            since = -max(max(batch.panel.lengths) for batch in windows)
            step = np.concatenate([batch.time.step + batch.time.calendar[1] - since for batch in windows])
            return cls._made(step, item, (None, since))
        if len(frequencies) < len(distinct):
            raise ValueError(
                "expected panels that all have dates, or none, got some of both: one calendar cannot hold them"
            )
        firsts = [pd.Timestamp(series.index[0]) for batch in windows for series in batch.panel.items if len(series)]
        start, longest = min(firsts), max(frequencies, key=lambda name: (step_days(name), name))
        dates = [
            batch.panel.items[i].clock()[row]
            for batch in windows
            for i, row in zip(batch.item, batch.origin, strict=True)
        ]
        return cls._made(steps_since(start, np.array(dates), longest), item, (longest, start.as_unit("ns").value))


def require_times(time: Times) -> Times:
    r"""Check that origins are given as times, not as rows.

    Arguments:
        time: The origin times of windows.

    Returns:
        The same times.

    Raises:
        TypeError: If they are no `Times`.
    """
    if not isinstance(time, Times):
        raise TypeError(
            f"expected the times of windows on their calendar, got {type(time).__name__}: pass windows.time (not "
            "windows.origin, whose rows tell no time where items begin at different dates), or Times(panel, item, row)"
        )
    return time

r"""When windows begin: what their dependence and their blocks of time are told by."""

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
    r"""When windows begin: steps of a calendar that all of their items, or several panels, have in common.

    What asks which windows are simultaneous, or how far apart they lie, asks for these, and not for rows: a row's
    number within its item tells no time where items begin at different dates. Hence they are made of panels only. The
    items of an undated panel are taken to end together, and a row's number, counted from there, is its time.

    Arguments:
        panel: The panel of the items.
        item: The number of each window's item in the panel, with shape :math:`(n,)`.
        row: The row of its item at which each window begins, with shape :math:`(n,)`.

    Attributes:
        step: The steps, with shape :math:`(n,)`.
        item: The items, with shape :math:`(n,)`.
        calendar: The frequency of the steps, and what they are counted from.
    """

    step: np.ndarray
    item: np.ndarray
    calendar: tuple[str | None, int]

    def __init__(self, panel: Panel, item: np.ndarray, row: np.ndarray) -> None:
        item, row = np.asarray(item), np.asarray(row)
        if panel.frequency is None:
            since = -max(panel.lengths)
        else:
            since = min(int(one.clock()[0]) for one in panel.items if len(one))
        self._set(panel.begins[item] + row, item, (panel.frequency, since))

    def _set(self, step: np.ndarray, item: np.ndarray, calendar: tuple[str | None, int]) -> None:
        for name, value in (("step", step), ("item", item), ("calendar", calendar)):
            object.__setattr__(self, name, value)

    @classmethod
    def _made(cls, step: np.ndarray, item: np.ndarray, calendar: tuple[str | None, int]) -> Times:
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
        r"""Joins the times of windows of one panel.

        Arguments:
            parts: The times, one at least.

        Returns:
            All of them, in this order.

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
        r"""Brings windows of several panels onto one calendar.

        Arguments:
            windows: The windows of each panel, whose origins are rows of their items. Panels are all dated or none is.

        Returns:
            The times of all windows, in this order; the items of each panel are others than those before. Steps are
            those of the panel with the longest ones. Undated panels are taken to end together.

        Raises:
            ValueError: If some panels are dated and others are not.
        """
        shift = np.cumsum([0, *(len(each.panel) for each in windows)])
        item = np.concatenate([each.item + first for each, first in zip(windows, shift, strict=False)])
        named = {each.panel.frequency for each in windows}
        frequencies = [name for name in named if name is not None]
        if not frequencies:
            since = -max(max(each.panel.lengths) for each in windows)
            return cls._made(np.concatenate([each.time.step + each.time.calendar[1] - since for each in windows]), item,
                             (None, since))  # fmt: skip
        if len(frequencies) < len(named):
            raise ValueError(
                "expected panels that all have dates, or none, got some of both: one calendar cannot hold them"
            )
        firsts = [pd.Timestamp(one.index[0]) for each in windows for one in each.panel.items if len(one)]
        start, longest = min(firsts), max(frequencies, key=step_days)
        dates = [
            each.panel.items[i].clock()[row] for each in windows for i, row in zip(each.item, each.origin, strict=True)
        ]
        return cls._made(steps_since(start, np.array(dates), longest), item, (longest, start.as_unit("ns").value))


def require_times(time: Times) -> Times:
    r"""Checks that windows are told apart by time, not by rows.

    Arguments:
        time: When windows begin.

    Returns:
        The same.

    Raises:
        TypeError: If these are no `Times`.
    """
    if not isinstance(time, Times):
        raise TypeError(
            f"expected the times of windows on their calendar, got {type(time).__name__}: pass windows.time (not "
            "windows.origin, whose rows tell no time where items begin at different dates), or Times(panel, item, row)"
        )
    return time

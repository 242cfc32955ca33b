r"""Inference of the frequency of dates, and alignment of dates to a regular grid."""

from __future__ import annotations

__all__ = ["frequency_of", "is_regular", "regular_dates", "require_in_proportion", "steps_from"]

import re
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import Day, Tick

from .._logging import without_warnings
from ..errors import shown
from .date_parsing import out_of_range, parse_dates, stamps_of
from .frequency import (
    DAY,
    HOUR,
    RANGE,
    OutOfRange,
    alias,
    date_grid,
    grid_of,
    guessed,
    inferred,
    on_grid,
    span_of,
    step_days,
    unit_of,
)

REMEDY = (
    "regularise=True (--regularise) would sort the rows, keep one row of each repeated date (the mean where they "
    "differ) and put rows of NaN where dates are missing"
)
REMEDY_OF_MANY = (
    "If the rows of one date belong to several series, add a column that names the series of each row, and pass it as "
    f"item_column= (--item-column). If they are versions of one series, {REMEDY}"
)
#: The most steps of regular dates: so many for each given date, and so many more for gaps.
STEPS_PER_DATE, STEPS_IN_GAPS = 20, 100_000


def steps_from(
    start: Any, frequency: str | None, periods: int, *, like: str | None = None
) -> tuple[pd.DatetimeIndex, str]:
    r"""Return the dates of a series with a known start and frequency.

    Arguments:
        start: A Period; or the first date, or any date of the first week, month, quarter or year.
        frequency: A pandas alias, old or new, or None if the start is a Period. An alias without an anchor takes that
            of the start, as in `frequency_of`.
        periods: The number of steps.
        like: The frequency found for earlier periods of the same kind, tried first.

    Returns:
        The dates and their frequency.

    Raises:
        ValueError: If the start is no date, or pandas knows no such frequency.

    Example:
        >>> dates, frequency = steps_from("2024-01-02", "W", 2)
        >>> frequency, dates.strftime("%a %d").tolist()
        ('W-TUE', ['Tue 02', 'Tue 09'])
    """
    if isinstance(start, pd.Period):
        if frequency is None and like is not None:
            dates = _timestamps(start, periods)
            if on_grid(dates, like):
                return dates, like
        dates = _timestamps(start, periods, more=40)  # enough to infer their frequency
        if frequency is None:
            found = inferred(dates) or alias(start.freqstr)
        else:
            found = frequency_of(dates[:periods], frequency)
            if not on_grid(dates[:periods], found):
                raise ValueError(
                    f"frequency={frequency!r} is not that of the periods of {start!r}: leave it out, or resample"
                )
        return dates[:periods], found
    first = parse_dates(pd.Index([start], dtype=object))
    if first is None or first.hasnans:
        if out_of_range(str(start)):
            raise ValueError(f"the start {shown(start)} is out of range: {RANGE}")
        raise ValueError(
            f"the start {shown(start)} could not be read as a date: write it as 2024-01-31 or 2024-01-31 12:00"
        )
    assert frequency is not None
    found, stamp = frequency_of(first, frequency), first[0]
    if re.fullmatch(r"\d*B?[MQY]S(-[A-Z]+)?", found):  # begin with the month that contains the start, not the next one
        stamp = to_offset(found).rollback(stamp)
    return date_grid(stamp, found, periods=periods, unit=first.unit), found


def regular_dates(
    index: pd.DatetimeIndex,
    frequency: str,
    values: np.ndarray,
    *,
    regularise: bool,
    whose: str = "",
    undated: str = "",
) -> tuple[pd.DatetimeIndex, np.ndarray]:
    r"""Check that dates are regular, or make them regular.

    Arguments:
        index: The dates of the rows.
        frequency: The frequency that they should have.
        values: The rows, with shape :math:`(T, D)`.
        regularise: Whether to make irregular dates regular: sort them, average repeated dates, fill gaps with NaN.
        whose: The item of the dates, for the message, as `" of item 'a'"`.
        undated: The code that drops the dates, for the message, as `"frame.reset_index(drop=True)"`.

    Returns:
        The regular dates and their rows.

    Raises:
        ValueError: If the dates are not regular and `regularise` is off or cannot help, or if their grid would be far
            longer than they are.
    """
    if on_grid(index, frequency):
        return index, values
    clock = index.as_unit("ns").asi8
    tidy = index.unique().sort_values()
    require_in_proportion(tidy, frequency, whose)
    grid = grid_of(tidy, frequency)
    off = tidy[~tidy.isin(grid)]
    if len(off):
        seen = inferred(tidy) if len(tidy) > 2 else None
        raise ValueError(
            f"{len(off)} of the {len(tidy)} dates{whose} lie off the grid of frequency {frequency!r} that begins at "
            f"{tidy[0]}, the first is {off[0]}: "
            + (f"they look like frequency={seen!r}" if seen else "give the true frequency=, or resample the series")
            + _clocks(index, frequency)
        )
    if not regularise:
        unordered = np.flatnonzero(np.diff(clock) < 0) + 1
        repeated = np.flatnonzero(index.duplicated())
        absent = grid[~grid.isin(tidy)]
        raise ValueError(
            f"the dates{whose} are not regular at frequency {frequency!r}: "
            + "; ".join(
                f"{count} {what} (first: {first})"
                for count, what, first in (
                    (
                        len(unordered),
                        "out of order",
                        f"row {unordered[0]}, {index[unordered[0]]}" if len(unordered) else "",
                    ),
                    (len(repeated), "repeated", f"row {repeated[0]}, {index[repeated[0]]}" if len(repeated) else ""),
                    (len(absent), "missing", str(absent[0]) if len(absent) else ""),
                )
                if count
            )
            + (
                f" (they look like frequency={seen!r})"
                if len(index) > 2 and (seen := inferred(index) or _rare(index))
                else ""
            )
            + f". {REMEDY if not len(repeated) or 10 * len(repeated) <= len(index) else REMEDY_OF_MANY}"
            + _clocks(index, frequency)
            + ("" if len(unordered) or len(repeated) or 10 * len(absent) < len(grid) else _as_rows(index, undated))
        )
    frame = pd.DataFrame(values, index=pd.Index(clock))
    frame = frame[~frame.reset_index().duplicated().to_numpy()]  # drop exact duplicates: their mean may round
    frame = frame.groupby(level=0, sort=True).mean().reindex(grid.as_unit("ns").asi8)
    return grid.rename(index.name), frame.to_numpy()


def require_in_proportion(tidy: pd.DatetimeIndex, frequency: str, whose: str = "") -> None:
    r"""Check that a grid from the first date to the last would not be far longer than the dates.

    Arguments:
        tidy: The dates, in order.
        frequency: The frequency of the grid.
        whose: The item of the dates, for the message, as `" of item 'a'"`.

    Raises:
        ValueError: If it would have more than `STEPS_PER_DATE` steps for each date and `STEPS_IN_GAPS` more.
    """
    steps = int(span_of(tidy) / (step_days(frequency) * DAY))
    if steps <= STEPS_PER_DATE * len(tidy) + STEPS_IN_GAPS:
        return
    gap = int(np.diff(tidy.as_unit("ns").asi8.astype(np.float64)).argmax())
    stray = tidy[gap] if gap + 1 < len(tidy) - gap - 1 else tidy[gap + 1]
    raise ValueError(
        f"the {len(tidy)} dates{whose} from {tidy[0]} to {tidy[-1]} span about {steps} steps of frequency "
        f"{frequency!r}, with the longest gap between {tidy[gap]} and {tidy[gap + 1]}: correct or drop {stray} if that "
        "date is wrong, or give a longer frequency= (--frequency)"
    )


def _as_rows(index: pd.DatetimeIndex, undated: str) -> str:
    r"""Return the advice for ordered dates with systematic gaps, such as trading hours."""
    if not undated or not (index.is_monotonic_increasing and index.is_unique):
        return ""
    return f". If each row counts as one step whatever its date is, as with trading hours, drop the dates: {undated}"


def frequency_of(index: pd.DatetimeIndex, given: str | None, *, undated: str = "") -> str:
    r"""Return the frequency of dates that may be out of order, repeated or incomplete.

    Arguments:
        index: The dates.
        given: The frequency that the caller states. Weeks, months, quarters and years without an anchor take it from
            the dates: `"W"` becomes `"W-TUE"` for Tuesdays, `"M"` becomes `"MS"` for firsts of months.
        undated: As for `regular_dates`.

    Returns:
        The pandas alias.

    Raises:
        ValueError: If none is given and none can be inferred.
    """
    tidy = index.unique().sort_values()
    if given is not None:
        return alias(given) if on_grid(tidy, alias(given)) else _anchored(tidy, given) or alias(given)
    if len(tidy) < 2:
        raise ValueError(f"a single date ({tidy[0]}) shows no frequency: give frequency= (--frequency)")
    frequency = inferred(tidy) or guessed(tidy)
    if frequency is None:
        steps, counts = np.unique(np.diff(tidy.as_unit("ns").asi8), return_counts=True)
        raise ValueError(
            f"no regular frequency fits the dates {tidy[0]} to {tidy[-1]}: the most common step, "
            f"{pd.Timedelta(steps[counts.argmax()], 'ns')}, is {counts.max() / counts.sum():.0%} of the steps. "
            + (
                f"They look like frequency={rare!r} (--frequency {rare}): give it"
                if (rare := _rare(tidy))
                else "Give frequency= (--frequency) if there is one, or resample the series first" + _clocks(tidy, None)
            )
            + _as_rows(index, undated)
        )
    return frequency


def _timestamps(start: pd.Period, periods: int, more: int = 0) -> pd.DatetimeIndex:
    r"""Return the timestamps of periods; of at least `more` periods, unless these exceed the range of dates."""
    with without_warnings():  # pandas deprecates periods of business days, which gluonts uses
        for number in dict.fromkeys((max(periods, more), periods)):
            try:
                return stamps_of(pd.period_range(start, periods=number))
            except (pd.errors.OutOfBoundsDatetime, OverflowError) as error:
                problem = error
    raise OutOfRange(f"{periods} periods from {start!r} on are out of range: {RANGE}") from problem


def is_regular(index: pd.DatetimeIndex, frequency: str) -> bool:
    r"""Return whether dates are regular at a frequency once sorted and without duplicates.

    Arguments:
        index: The dates.
        frequency: The pandas alias; without an anchor it takes that of the dates, as in `frequency_of`.

    Returns:
        Whether they are; False if there are no dates.
    """
    tidy = index.dropna().unique().sort_values()
    return len(tidy) > 0 and on_grid(tidy, frequency_of(tidy, frequency))


def _clocks(index: pd.DatetimeIndex, frequency: str | None) -> str:
    r"""Return the advice for dates that are irregular because of clock changes; "" for all others."""
    if index.tz is not None:
        tidy = index.unique().sort_values()
        clock = tidy.as_unit("ns").asi8
        if str(index.tz) == "UTC" and len(tidy) > 1 and np.diff(clock).min() >= DAY - HOUR:
            times = np.unique(clock % DAY)
            if len(times) == 2 and times[1] - times[0] in (HOUR // 2, HOUR, DAY - HOUR, DAY - HOUR // 2):
                return (
                    ". They look like local days whose UTC offset changes with the clocks, and text whose offset "
                    "changes becomes UTC: pd.to_datetime(column, utc=True).dt.tz_convert(zone), as 'Europe/Berlin', "
                    "makes them days of that zone; a file may hold the days without offsets"
                )
        seen = inferred(index.unique().tz_localize(None).sort_values()) if len(index) > 2 else None
        if seen is None or inferred(tidy) is not None:
            return ""
        return (
            f". They are regular in local time, frequency={seen!r}, not in hours that passed: "
            "frame.tz_localize(None) keeps the local time alone"
        )
    step = to_offset(frequency)
    if not isinstance(step, Tick) or isinstance(step, Day) or len(index) < 2:
        return ""
    steps = np.diff(index.as_unit("ns").asi8)
    odd = np.flatnonzero(steps != step.nanos)
    back = steps[odd] == step.nanos - HOUR
    ahead = (steps[odd] == step.nanos + HOUR) & (index.hour[odd] < 3)
    if not (back | ahead).all() or not len(odd):
        return ""
    hour = "'infer'" if step.nanos <= HOUR else "True"  # longer steps hit the repeated hour only once
    return (
        ". If they are local time over a change of the clocks, say so: "
        f"frame.tz_localize(zone, ambiguous={hour}) makes them hours that passed"
    )


def _rare(tidy: pd.DatetimeIndex) -> str | None:
    r"""Return the frequency of regular dates if it is one too unusual to be inferred."""
    return next((name for name in ("2B", "3B", "4B", "SMS-15", "SME-15") if on_grid(tidy, name)), None)


def _anchored(tidy: pd.DatetimeIndex, given: str) -> str | None:
    r"""Return the anchored frequency of dates for an alias without an anchor; None if none fits."""
    match = re.fullmatch(r"(\d*)(W|M|[QYA][SE]?)", given.strip())
    if match is None:
        return None
    seen = inferred(tidy) or guessed(tidy)
    if seen is not None and unit_of(seen) == unit_of(alias(given)):
        return seen
    # Too few dates to infer a frequency still lie on some grid.
    unit, month = match[2].replace("A", "Y"), tidy[0].month_name()[:3].upper()
    names = {"W": [f"W-{tidy[0].day_name()[:3].upper()}"], "M": ["MS", "ME", "BMS", "BME"]}.get(unit)
    names = names or [f"{unit[0]}{end}-{month}" for end in ("SE" if len(unit) == 1 else unit[1])]
    grids = (match[1] + name for name in names)
    return next((alias(name) for name in grids if tidy.isin(grid_of(tidy, name)).all()), None)

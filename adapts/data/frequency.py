r"""Frequencies of time series: aliases, grids of dates, season lengths and periods."""

from __future__ import annotations

__all__ = [
    "alias",
    "calendar_period",
    "date_grid",
    "frequency_name",
    "num_seasons",
    "period_at",
    "period_of",
    "season_index",
    "season_length",
    "step_days",
]

import datetime
import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, Day, Tick

from .._logging import without_warnings
from ..errors import reading, shown

# pandas renamed its aliases in 2.2 and dropped the old names in 3; both are accepted here.
RENAMED = {"H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "BH": "bh", "CBH": "cbh"}


RENAMED |= {"M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "BM": "BME", "BQ": "BQE", "BY": "BYE", "BA": "BYE"}


RENAMED |= {"AS": "YS", "BAS": "BYS", "CBM": "CBME", "SM": "SME"}


MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
HOUR = 3_600_000_000_000
DAY = 24 * HOUR
RANGE = (
    "dates lie between 1677-09-22 and 2262-04-11, for they are counted in nanoseconds: shift these, or drop the dates "
    "and number the rows"
)
#: The longest alias in characters, and the most units of a step that is not a fixed number of nanoseconds.
_LONGEST, _MOST_UNITS = 40, 10_000


class OutOfRange(ValueError):
    r"""Dates outside of the range of nanosecond timestamps."""


def frequency_name(frequency: Any) -> str | None:
    r"""Return the alias of a frequency option.

    Arguments:
        frequency: A pandas alias; a pandas offset, such as the `freq` of a `DatetimeIndex`; a timedelta; None.

    Returns:
        The alias as given, or that of the offset; None for None.

    Raises:
        ValueError: If it is none of these, or too long for an alias.
    """
    if isinstance(frequency, datetime.timedelta) and not pd.isna(frequency):
        with reading(f"frequency={shown(frequency)} is no time step", "pass an alias such as '15min', 'h', 'D'"):
            frequency = to_offset(frequency)
    name = frequency.freqstr if isinstance(frequency, BaseOffset) else frequency
    if name is not None and (not isinstance(name, str) or len(name) > _LONGEST):
        raise ValueError(
            f"expected frequency to be a pandas alias such as '15min', 'h', 'D', or an offset, got {shown(frequency)}"
        )
    return name


def alias(frequency: str) -> str:
    r"""Convert a frequency to the current pandas alias.

    Arguments:
        frequency: A pandas alias, old or new, as `"15T"` or `"15min"`.

    Returns:
        The new alias.

    Raises:
        ValueError: If pandas knows no such frequency, its step is not positive, or it is longer than 250 years.

    Example:
        >>> alias("15T"), alias("M"), alias("W-TUE")
        ('15min', 'ME', 'W-TUE')
    """
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-[A-Za-z]+)?", frequency.strip())
    if match:
        multiple, name, anchor = match.groups(default="")
        frequency = multiple + RENAMED.get(name, name) + anchor
    try:
        offset, problem = to_offset(frequency), None
        if offset.n > 0 and (isinstance(offset, Tick) or offset.n <= _MOST_UNITS):
            (pd.Timestamp("2001-01-01", unit="ns") + offset).as_unit("ns")
    except Exception as error:  # of any kind: pandas reads no step here
        offset, problem = None, error
    if offset is None or not (offset.n > 0 and (isinstance(offset, Tick) or offset.n <= _MOST_UNITS)):
        raise ValueError(
            f"pandas knows no frequency {shown(frequency)} of at most 250 years: expected an alias such as 's', 'min', "
            "'15min', 'h', 'D', 'B', 'W', 'MS', 'ME', 'QS', 'YS'"
        ) from problem
    return str(offset.freqstr)


def date_grid(
    start: pd.Timestamp, frequency: str, *, periods: int | None = None, end: pd.Timestamp | None = None, unit: str
) -> pd.DatetimeIndex:
    r"""Return regular dates from a first one on; with a time zone, days are local and shorter steps absolute.

    Arguments:
        start: The first date.
        frequency: The pandas alias of the step. Steps of a day or more keep the local time of day. Where a clock change
            skips that time, the next existing time is taken; where it repeats that time, the first.
        periods: The number of dates.
        end: The last possible date, instead of their number.
        unit: The resolution of the dates, as `"ns"`.

    Returns:
        The dates.

    Raises:
        OutOfRange: If they exceed the range of nanosecond timestamps.
    """
    try:
        dates = _date_range(start, frequency, periods, end, unit)
        dates.as_unit("ns")
    except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta, OverflowError) as error:
        raise OutOfRange(f"steps of {frequency!r} from {start} on are out of range: {RANGE}") from error
    return dates


def _date_range(
    start: pd.Timestamp, frequency: str, periods: int | None, end: pd.Timestamp | None, unit: str
) -> pd.DatetimeIndex:
    r"""Return the dates of `date_grid`; exceptions of pandas pass."""
    offset = to_offset(frequency)
    until: dict[str, Any] = {"periods": periods, "end": end, "unit": unit}
    if start.tz is None or (isinstance(offset, Tick) and not isinstance(offset, Day)):
        return pd.date_range(start, freq=frequency, **until)
    first = start.tz_localize(None)
    if first.normalize().tz_localize(start.tz, nonexistent="shift_forward", ambiguous=True) == start:
        first = first.normalize()  # a clock change skipped midnight
    until["end"] = None if end is None else end.tz_localize(None)
    local = pd.date_range(first, freq=frequency, **until)
    return local.tz_localize(start.tz, nonexistent="shift_forward", ambiguous=np.ones(len(local), dtype=bool))


def steps_since(start: pd.Timestamp, clock: np.ndarray, frequency: str) -> np.ndarray:
    r"""Count the steps of a frequency from a first date on.

    Arguments:
        start: The first date.
        clock: The other dates, none before the first, as nanoseconds of UTC, with shape :math:`(n,)`.
        frequency: The pandas alias of the step.

    Returns:
        The number of steps to each date, with shape :math:`(n,)`. A date between two steps counts as the earlier one.

    Example:
        >>> later = pd.DatetimeIndex(["2024-02-01", "2024-03-31"]).as_unit("ns").asi8
        >>> steps_since(pd.Timestamp("2024-01-31"), later, "ME").tolist()
        [0, 2]
    """
    offset = to_offset(frequency)
    first = start.as_unit("ns").value
    if isinstance(offset, Tick) and not isinstance(offset, Day):
        elapsed: np.ndarray = (clock - first) // offset.nanos
        return elapsed
    last = pd.Timestamp(int(clock.max(initial=first)), tz="UTC")
    end = last.tz_localize(None) if start.tz is None else last.tz_convert(start.tz)
    grid = date_grid(start, frequency, end=end, unit="ns").asi8
    return np.searchsorted(grid, clock, side="right") - 1


def calendar_period(frequency: str | None) -> str | None:
    r"""Return the periods (weeks, months, quarters or years) of a frequency without an anchor.

    Arguments:
        frequency: A pandas alias.

    Returns:
        The alias of the periods; None if the frequency has an anchor or a multiple, or is of another kind.

    Example:
        >>> calendar_period("Y"), calendar_period("W"), calendar_period("W-TUE"), calendar_period("h")
        ('Y', 'W', None, None)
    """
    match = re.fullmatch(r"([WMQYA])[SE]?", (frequency or "").strip())
    return match[1].replace("A", "Y") if match else None


def period_of(index: pd.Index[Any], frequency: str | None, whose: str) -> pd.Period:
    r"""Return the period of the first date; the periods that follow it are those of the other dates.

    Arguments:
        index: The dates.
        frequency: Their frequency, None if there are no dates.
        whose: What the dates belong to, for the message.

    Returns:
        The period, in local time.

    Raises:
        ValueError: If there are no dates, pandas has no such periods, or a clock change makes local time irregular.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(
            f"gluonts dates series by periods, and {whose} has no dates: give it a DatetimeIndex or a timestamp column"
        )
    local = index.tz_localize(None)
    if index.tz is not None and not on_grid(local, str(frequency)):
        raise ValueError(
            f"gluonts knows no time zones, and the clocks change within {whose}: convert its dates with "
            "tz_convert('UTC') first"
        )
    return period_at(local[0], frequency)


def period_at(date: pd.Timestamp, frequency: str | None) -> pd.Period:
    r"""Return the period that a date represents at a frequency: it begins with, ends with or contains the date.

    Arguments:
        date: The date, in local time.
        frequency: The pandas alias of the time step.

    Returns:
        The period.

    Raises:
        ValueError: If pandas has no such periods.

    Example:
        >>> period_at(pd.Timestamp("2024-04-01"), "YS-APR"), period_at(pd.Timestamp("2024-11-29"), "BQE-NOV")
        (Period('2025', 'Y-MAR'), Period('2024Q4', 'Q-NOV'))
    """
    match = re.fullmatch(r"(\d*)B?([QY])([SE])-([A-Z]{3})", frequency or "")
    months = re.fullmatch(r"(\d*M)S", frequency or "")
    try:
        with without_warnings():  # pandas deprecates periods of business days, which gluonts uses
            if months:
                return pd.Period(date, freq=months[1])
            if match:  # to_period loses the anchor month of start-anchored and of business-day quarters and years
                last = MONTHS[MONTHS.index(match[4]) - (match[3] == "S")]
                if match[2] == "Q" and match[3] == "S" and last in ("MAR", "JUN", "SEP"):
                    last = "DEC"  # the same quarters under their usual name
                return pd.Period(date, freq=f"{match[1]}{match[2]}-{last}")
            period: pd.Period = pd.date_range(date, periods=1, freq=frequency).to_period()[0]
    except ValueError as error:
        raise ValueError(f"gluonts dates series by periods, and pandas has none of {frequency!r}") from error
    return period


def season_length(frequency: str | None) -> int:
    r"""Return the most likely season length of data of a frequency.

    The season is an hour for seconds, a day for minutes and hours, a week for days, and a year for weeks, months and
    quarters. gluonts has season length 1 for days and weeks.

    Arguments:
        frequency: The pandas alias, or None for undated data.

    Returns:
        The number of steps in the season; 1 if there is no season, or it is no whole number of steps.

    Example:
        >>> season_length("15min"), season_length("D"), season_length("W-TUE"), season_length(None)
        (96, 7, 52, 1)
    """
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-[A-Z]+)?", frequency or "")
    if match is None:
        return 1
    steps, name = int(match[1] or 1), match[2]
    season = {"s": 3600, "min": 1440, "h": 24, "D": 7, "B": 5, "W": 52}.get(name)
    season = season or {"M": 12, "Q": 4}.get(unit_of(name), 1)
    return season // steps if season % steps == 0 else 1


def num_seasons(frequency: str | None) -> int:
    r"""Return the number of season indices that dates of a frequency can have.

    Arguments:
        frequency: The pandas alias, or None for undated data.

    Returns:
        24 hours of the day for steps shorter than a day, or the steps of a day if fewer. 7 days of the week for steps
        of days. 12 months for steps up to half a year. 1 if there is no season.

    Example:
        >>> [num_seasons(alias) for alias in ("15min", "6h", "D", "W-TUE", "YS", None)]
        [24, 4, 7, 12, 1, 1]
    """
    days = 0.0 if frequency is None else step_days(frequency)
    if not days:
        return 1
    return min(24, round(1 / days)) if days < 0.6 else 7 if days < 6.9 else 12 if days < 190 else 1


def season_index(index: pd.Index[Any], frequency: str | None) -> np.ndarray:
    r"""Return the season index of dates, in local time.

    Arguments:
        index: The dates.
        frequency: Their frequency, or None for undated data.

    Returns:
        Indices from 0 to `num_seasons(frequency) - 1`, with shape :math:`(T,)`.
    """
    number = num_seasons(frequency)
    if number == 1:
        return np.zeros(len(index), dtype=np.int64)
    assert frequency is not None and isinstance(index, pd.DatetimeIndex)
    if step_days(frequency) < 0.6:
        seconds = index.hour * 3600 + index.minute * 60 + index.second
        return np.asarray(seconds, dtype=np.int64) * number // 86400
    return np.asarray(index.dayofweek if number == 7 else index.month - 1, dtype=np.int64)


@cache
def step_days(frequency: str) -> float:
    r"""Return the length of a step in days.

    Arguments:
        frequency: The pandas alias.

    Returns:
        The days between the first two dates of the grid from 2001-01-01 on.
    """
    first, second = date_grid(pd.Timestamp("2001-01-01"), frequency, periods=2, unit="ns")
    return float((second - first) / pd.Timedelta(days=1))


def span_of(tidy: pd.DatetimeIndex) -> int:
    r"""Return the nanoseconds from the first date to the last, which may exceed a Timedelta."""
    return int(tidy[-1].as_unit("ns").value) - int(tidy[0].as_unit("ns").value)


def on_grid(index: pd.DatetimeIndex, frequency: str) -> bool:
    r"""Return whether dates are regular: they follow one another at a frequency."""
    clock = index.as_unit("ns").asi8
    try:
        grid = date_grid(index[0], frequency, periods=len(index), unit="ns")
        return np.array_equal(grid.as_unit("ns").asi8, clock)
    except OutOfRange:
        return False


def grid_of(tidy: pd.DatetimeIndex, frequency: str) -> pd.DatetimeIndex:
    r"""Return the regular dates of a frequency from the first date to the last."""
    return date_grid(tidy[0], frequency, end=tidy[-1], unit=tidy.unit)


def inferred(tidy: pd.DatetimeIndex) -> str | None:
    r"""Return the frequency of regular, ordered and distinct dates; None if they are not."""
    if not (tidy.is_monotonic_increasing and tidy.is_unique):
        return None
    candidates = [pd.infer_freq(tidy)] if len(tidy) > 2 else []
    steps = np.unique(np.diff(tidy.as_unit("ns").asi8))
    if len(steps) == 1:
        candidates.append(_tick(tidy, int(steps[0])))
        if tidy.tz is not None and steps[0] % DAY == 0:
            candidates.append(f"{steps[0] // HOUR}h")  # days of another time zone, such as UTC: their local time varies
    for candidate in candidates:
        if candidate is not None and on_grid(tidy, alias(candidate)):
            return alias(candidate)
    return None


def _tick(tidy: pd.DatetimeIndex, step: int) -> str:
    r"""Return the alias of a step in nanoseconds; seven days are weeks anchored at the first date."""
    if step == 7 * DAY:
        return f"W-{tidy[0].day_name()[:3].upper()}"
    offset = to_offset(pd.Timedelta(step, "ns"))
    assert offset is not None
    return str(offset.freqstr)


def guessed(tidy: pd.DatetimeIndex) -> str | None:
    r"""Guess the frequency of dates with gaps: the first whose grid contains all and is at least half full."""
    if len(tidy) < 3:
        return None
    steps, counts = np.unique(np.diff(tidy.as_unit("ns").asi8), return_counts=True)
    step, month = int(steps[counts.argmax()]), tidy[0].month_name()[:3].upper()
    quarter = ("DEC", "OCT", "NOV")[tidy[0].month % 3]  # one name for each of the three grids, as inferred by pandas
    candidates = {1: ["B"]} | dict.fromkeys(range(28, 32), ["MS", "ME", "BMS", "BME"])
    candidates |= dict.fromkeys(range(89, 93), [f"QS-{quarter}", f"QE-{quarter}"])
    candidates |= dict.fromkeys((365, 366), [f"YS-{month}", f"YE-{month}"])
    for candidate in [*(candidates.get(step // DAY, []) if step % DAY == 0 else []), _tick(tidy, step)]:
        if span_of(tidy) / step > 2 * len(tidy) + 2:
            return None
        grid = grid_of(tidy, candidate)
        if tidy.isin(grid).all():
            return candidate
    return None


def unit_of(frequency: str) -> str:
    r"""Return a frequency without its anchor: months at their start and at their end have the same unit."""
    match = re.fullmatch(r"(\d*)B?([WMQY])[SE]?(-[A-Z]+)?", frequency)
    return "".join(match.groups(default="")[:2]) if match else frequency

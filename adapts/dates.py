r"""Dates: frequencies, whether an index is regular, and how to make it so."""

from __future__ import annotations

__all__ = [
    "alias",
    "calendar",
    "calendar_period",
    "first_undated",
    "frequency_name",
    "frequency_of",
    "is_regular",
    "numbered_dates",
    "out_of_range",
    "parse_dates",
    "period_at",
    "period_of",
    "phase_of",
    "phases",
    "regular_dates",
    "require_in_proportion",
    "season_length",
    "step_days",
    "steps_from",
    "times_of_day",
    "two_digit_years",
    "two_orders",
    "uncategorised",
]

import datetime
import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, Day, Tick

from ._logging import without_warnings
from .errors import reading, shown

# pandas renamed its aliases in 2.2 and dropped the old names in 3; both are understood here.
RENAMED = {"H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "BH": "bh", "CBH": "cbh"}
RENAMED |= {"M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "BM": "BME", "BQ": "BQE", "BY": "BYE", "BA": "BYE"}
RENAMED |= {"AS": "YS", "BAS": "BYS", "CBM": "CBME", "SM": "SME"}
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
SHORT = r"^\s*(\d\d?)([./-])(\d\d?)\2(\d\d)((?:[T ].*?)?)\s*$"  # 31.01.24, 1/31/24 12:00, 24-01-31
#: A time of day without a date, such as 18:00, 7:05 AM or 18.00.00.
CLOCK = r"\s*\d\d?(?::\d\d(?::\d\d(?:[.,]\d+)?)?|\.\d\d\.\d\d)(?:\s*[AaPp]\.?[Mm]\.?)?\s*"
#: Dates written as whole numbers: from which one on, up to which one, and how pandas reads them. Epochs are of 1980 to
#: 2100, and their size tells their unit.
NUMBERED: tuple[tuple[int, int, dict[str, str]], ...] = (
    (1000, 3000, {"format": "%Y"}),
    (1900_01, 2100_13, {"format": "%Y%m"}),
    (1000_01_01, 3000_01_01, {"format": "%Y%m%d"}),
    (1900_01_01_00, 2100_12_31_24, {"format": "%Y%m%d%H"}),
    (1900_01_01_00_00, 2100_12_31_24_00, {"format": "%Y%m%d%H%M"}),
    (1900_01_01_00_00_00, 2100_12_31_24_00_00, {"format": "%Y%m%d%H%M%S"}),
    *(
        (315_532_800 * size, 4_102_444_800 * size, {"unit": unit})
        for unit, size in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
    ),
)
HOUR = 3_600_000_000_000
DAY = 24 * HOUR
RANGE = (
    "dates lie between 1677-09-22 and 2262-04-11, for they are counted in nanoseconds: shift these, or drop the dates "
    "and number the rows"
)
REMEDY = (
    "regularise=True (--regularise) would sort the rows, keep one row of each repeated date (the mean where they "
    "differ) and put rows of NaN where dates are missing"
)
REMEDY_OF_MANY = (
    "If the rows of one date belong to several series, add a column that names the series of each row, and pass it as "
    f"item_column= (--item-column). If they are versions of one series, {REMEDY}"
)
#: How many steps regular dates may have: so many for each date that there is, and so many more for gaps.
STEPS_PER_DATE, STEPS_IN_GAPS = 20, 100_000
#: The longest frequency in letters, and the most units of a step that is not counted in nanoseconds.
_LONGEST, _MOST_UNITS = 40, 10_000


class OutOfRange(ValueError):
    r"""Dates that nanoseconds cannot count."""


def frequency_name(frequency: Any) -> str | None:
    r"""Reads the option that states a frequency.

    Arguments:
        frequency: A pandas alias; an offset of pandas, such as a `DatetimeIndex` has as its `freq`; a timedelta; None.

    Returns:
        The alias as it was given, or that of the offset; None for None.

    Raises:
        ValueError: If it is none of these, or longer than an alias is.
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
    r"""Writes a frequency by pandas's new names.

    Arguments:
        frequency: A pandas alias, old or new, as `"15T"` or `"15min"`.

    Returns:
        The new alias.

    Raises:
        ValueError: If pandas knows no such frequency, or it does not go forward.

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
    except Exception as error:  # of whatever kind: pandas reads no step here
        offset, problem = None, error
    if offset is None or not (offset.n > 0 and (isinstance(offset, Tick) or offset.n <= _MOST_UNITS)):
        raise ValueError(
            f"pandas knows no frequency {shown(frequency)} of at most 250 years: expected an alias such as 's', 'min', "
            "'15min', 'h', 'D', 'B', 'W', 'MS', 'ME', 'QS', 'YS'"
        ) from problem
    return str(offset.freqstr)


def calendar(
    start: pd.Timestamp, frequency: str, *, periods: int | None = None, end: pd.Timestamp | None = None, unit: str
) -> pd.DatetimeIndex:
    r"""Lays out dates from a first one on. With a time zone, steps of hours or less are absolute, and days are local.

    Arguments:
        start: The first date.
        frequency: The pandas alias of the step. Steps of a day or more keep the local time of day; where the clocks
            skip it the step moves on to their next hour, and where it comes twice the first one counts.
        periods: The number of dates.
        end: The date not to go beyond, in place of their number.
        unit: The resolution of the dates, as `"ns"`.

    Returns:
        The dates.

    Raises:
        OutOfRange: If they go beyond those that nanoseconds can count.
    """
    try:
        dates = _laid_out(start, frequency, periods, end, unit)
        dates.as_unit("ns")
    except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta, OverflowError) as error:
        raise OutOfRange(f"steps of {frequency!r} from {start} on are out of range: {RANGE}") from error
    return dates


def _laid_out(
    start: pd.Timestamp, frequency: str, periods: int | None, end: pd.Timestamp | None, unit: str
) -> pd.DatetimeIndex:
    offset = to_offset(frequency)
    until: dict[str, Any] = {"periods": periods, "end": end, "unit": unit}
    if start.tz is None or (isinstance(offset, Tick) and not isinstance(offset, Day)):
        return pd.date_range(start, freq=frequency, **until)
    first = start.tz_localize(None)
    if first.normalize().tz_localize(start.tz, nonexistent="shift_forward", ambiguous=True) == start:
        first = first.normalize()  # the clocks skipped its midnight
    until["end"] = None if end is None else end.tz_localize(None)
    local = pd.date_range(first, freq=frequency, **until)
    return local.tz_localize(start.tz, nonexistent="shift_forward", ambiguous=np.ones(len(local), dtype=bool))


def steps_from(
    start: Any, frequency: str | None, periods: int, *, like: str | None = None
) -> tuple[pd.DatetimeIndex, str]:
    r"""Dates the steps of a series of which the start and the frequency are told.

    Arguments:
        start: A Period; or the first date, or any date of the first week, month, quarter or year.
        frequency: A pandas alias, old or new, or None if the start is a Period; without an anchor it takes that of the
            start, as in `frequency_of`.
        periods: The number of steps.
        like: The frequency that other periods of this kind were found to have.

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
            dates = _stamped(start, periods)
            if _is_regular(dates, like):
                return dates, like
        dates = _stamped(start, periods, more=40)  # as many as show what frequency they have
        if frequency is None:
            settled = _infer(dates) or alias(start.freqstr)
        else:
            settled = frequency_of(dates[:periods], frequency)
            if not _is_regular(dates[:periods], settled):
                raise ValueError(
                    f"frequency={frequency!r} is not that of the periods of {start!r}: leave it out, or resample"
                )
        return dates[:periods], settled
    first = parse_dates(pd.Index([start], dtype=object))
    if first is None or first.hasnans:
        if out_of_range(str(start)):
            raise ValueError(f"the start {shown(start)} is out of range: {RANGE}")
        raise ValueError(
            f"the start {shown(start)} could not be read as a date: write it as 2024-01-31 or 2024-01-31 12:00"
        )
    assert frequency is not None
    settled, stamp = frequency_of(first, frequency), first[0]
    if re.fullmatch(r"\d*B?[MQY]S(-[A-Z]+)?", settled):  # the month is the one that the start lies in, not the next
        stamp = to_offset(settled).rollback(stamp)
    return calendar(stamp, settled, periods=periods, unit=first.unit), settled


def steps_since(start: pd.Timestamp, clock: np.ndarray, frequency: str) -> np.ndarray:
    r"""Counts the steps of a calendar from a first date on.

    Arguments:
        start: The first date.
        clock: Other dates, none before it, as nanoseconds of UTC, with shape :math:`(n,)`.
        frequency: The pandas alias of the step.

    Returns:
        The steps to each date, with shape :math:`(n,)`; of one between two steps, those to the earlier of them.

    Example:
        >>> later = pd.DatetimeIndex(["2024-02-01", "2024-03-31"]).as_unit("ns").asi8
        >>> steps_since(pd.Timestamp("2024-01-31"), later, "ME").tolist()
        [0, 2]
    """
    offset = to_offset(frequency)
    first = start.as_unit("ns").value
    if isinstance(offset, Tick) and not isinstance(offset, Day):
        passed: np.ndarray = (clock - first) // offset.nanos
        return passed
    last = pd.Timestamp(int(clock.max(initial=first)), tz="UTC")
    end = last.tz_localize(None) if start.tz is None else last.tz_convert(start.tz)
    grid = calendar(start, frequency, end=end, unit="ns").asi8
    return np.searchsorted(grid, clock, side="right") - 1


def calendar_period(frequency: str | None) -> str | None:
    r"""The calendar weeks, months, quarters or years of a frequency without an anchor.

    Arguments:
        frequency: A pandas alias.

    Returns:
        The name of the periods, or None if it has an anchor or counts something else.

    Example:
        >>> calendar_period("Y"), calendar_period("W"), calendar_period("W-TUE"), calendar_period("h")
        ('Y', 'W', None, None)
    """
    match = re.fullmatch(r"([WMQYA])[SE]?", (frequency or "").strip())
    return match[1].replace("A", "Y") if match else None


def period_of(index: pd.Index[Any], frequency: str | None, whose: str) -> pd.Period:
    r"""The period of the first date, such that the periods after it are those of the other dates.

    Arguments:
        index: The dates.
        frequency: Their frequency, None if there are none.
        whose: Whose dates they are, for the message.

    Returns:
        The period, in local time.

    Raises:
        ValueError: If there are no dates, pandas has no such periods, or the clocks change on the way.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(
            f"gluonts dates series by periods, and {whose} has no dates: give it a DatetimeIndex or a timestamp column"
        )
    local = index.tz_localize(None)
    if index.tz is not None and not _is_regular(local, str(frequency)):
        raise ValueError(
            f"gluonts knows no time zones, and the clocks change within {whose}: convert its dates with "
            "tz_convert('UTC') first"
        )
    return period_at(local[0], frequency)


def period_at(date: pd.Timestamp, frequency: str | None) -> pd.Period:
    r"""The period that a date of a frequency stands for: one that begins with it, ends with it or holds it.

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
        with without_warnings():  # pandas means to drop periods of business days, which gluonts has
            if months:
                return pd.Period(date, freq=months[1])
            if match:  # pandas forgets in which month those that are named by their start, or by business days, begin
                last = MONTHS[MONTHS.index(match[4]) - (match[3] == "S")]
                if match[2] == "Q" and match[3] == "S" and last in ("MAR", "JUN", "SEP"):
                    last = "DEC"  # the same quarters, by their common name
                return pd.Period(date, freq=f"{match[1]}{match[2]}-{last}")
            period: pd.Period = pd.date_range(date, periods=1, freq=frequency).to_period()[0]
    except ValueError as error:
        raise ValueError(f"gluonts dates series by periods, and pandas has none of {frequency!r}") from error
    return period


def parse_dates(values: pd.Series[Any] | pd.Index[Any]) -> pd.DatetimeIndex | None:
    r"""Reads dates from whatever holds them.

    Arguments:
        values: Datetimes, periods, text, date objects, or whole numbers: 1999, 199912, 19991231, and so on to seconds,
            or epochs in s, ms, us or ns. Periods are stamped at their start, but weeks, and quarters and years that are
            not the calendar's (a year that ends in June), at their last day, several of these at the last day of the
            first. Text with UTC offsets that change, as over summer time, becomes UTC. Where day and month may stand in
            either order, they stand in the one that gives dates of some frequency; where both do, or none, they are no
            dates, and so are times of day alone. Years of two digits stand last, those from 69 on are of 1900, and text
            in which they may as well stand first is none.

    Returns:
        The dates, or None if some of these are none.
    """
    try:
        return _read_dates(values)
    except Exception:  # of whatever kind: pandas reads no dates here
        return None


def uncategorised(index: pd.Index[Any]) -> pd.Index[Any]:
    r"""Returns an index of the entries themselves where they are categories."""
    return index.astype(index.categories.dtype) if isinstance(index, pd.CategoricalIndex) else index


def _read_dates(values: pd.Series[Any] | pd.Index[Any]) -> pd.DatetimeIndex | None:
    index = uncategorised(pd.Index(values, dtype=values.dtype)).infer_objects()
    if isinstance(index.dtype, pd.ArrowDtype) and pd.api.types.is_datetime64_any_dtype(index.dtype):
        import pyarrow

        index = pd.Index(pyarrow.array(index.array).to_pandas(), name=index.name)
    if isinstance(index, pd.DatetimeIndex):
        return index
    if isinstance(index, pd.PeriodIndex):
        return _stamps(index)
    if pd.api.types.is_integer_dtype(index.dtype) and len(index):
        numbered = numbered_dates(index)
        return None if numbered is None else numbered[1]
    if pd.api.types.is_numeric_dtype(index.dtype) or pd.api.types.is_bool_dtype(index.dtype):
        return None
    if _is_text(index) and times_of_day(index) is not None:
        return None
    offsets = _offsets(index)
    if len(offsets) > 1 and "" in offsets:
        return None  # some have an offset and some do not: which hour the others mean is not known
    if two_digit_years(index, some=True):
        return _of_two_digit_years(index) if two_digit_years(index) else None
    mark = _mark(index)
    if mark is None:
        ways: list[dict[str, Any]] = [
            {},
            {"format": "ISO8601"},
        ]  # that one also takes days beside hours
        read = (_in_way(index, utc=len(offsets) > 1, **way) for way in ways)
        found = next((dates for dates in read if dates is not None), None)
        numbered = numbered_dates(index) if found is None else None
        return found if numbered is None else numbered[1]
    if mark == ".":
        return _in_way(index.str.strip(), utc=len(offsets) > 1, dayfirst=True)
    orders = _in_orders(index, utc=len(offsets) > 1)
    if len(orders) > 1:
        orders = [dates for dates in orders if _seen(dates) is not None]
    return orders[0] if len(orders) == 1 else None


def _in_way(index: pd.Index[Any], **way: Any) -> pd.DatetimeIndex | None:
    r"""What pandas makes of texts in one way, None if no dates."""
    try:
        with without_warnings():
            dates = pd.to_datetime(index, **way)
    except (ValueError, TypeError, OverflowError):
        return None
    return dates if isinstance(dates, pd.DatetimeIndex) else None


def _in_orders(index: pd.Index[Any], *, utc: bool) -> list[pd.DatetimeIndex]:
    r"""The dates of texts by each order, month first and day first, that reads them; one where both read the same."""
    read = [_in_way(index.str.strip(), utc=utc, dayfirst=first) for first in (False, True)]
    found = [dates for dates in read if dates is not None]
    return found[:1] if len(found) == 2 and found[0].equals(found[1]) else found


def _seen(dates: pd.DatetimeIndex) -> str | None:
    r"""The frequency of dates in any order, with gaps or repeated; None if there is none."""
    tidy = dates.dropna().unique().sort_values()
    return (_infer(tidy) or _guess(tidy)) if len(tidy) > 1 else None


def two_orders(values: pd.Series[Any] | pd.Index[Any]) -> dict[str, tuple[pd.DatetimeIndex, str | None]] | None:
    r"""Reads dates whose texts do not tell in which order day and month stand.

    Arguments:
        values: The texts, with years of four digits behind day and month.

    Returns:
        The dates by the order, "month first" and "day first", and their frequency, None where they have none; None if
        one order alone reads the texts, or both read the same.

    Example:
        >>> two_orders(pd.Index(["01/02/2024", "02/02/2024", "03/02/2024"]))["day first"][1]
        'D'
    """
    index = _index(values)
    if _mark(index) not in ("/", "-"):
        return None
    orders = _in_orders(index, utc=len(_offsets(index)) > 1)
    if len(orders) < 2:
        return None
    return {name: (dates, _seen(dates)) for name, dates in zip(("month first", "day first"), orders, strict=True)}


def numbered_dates(values: pd.Series[Any] | pd.Index[Any]) -> tuple[dict[str, str], pd.DatetimeIndex] | None:
    r"""Reads dates that are written as whole numbers.

    Arguments:
        values: Whole numbers, be they floats, or text of digits alone.

    Returns:
        The options by which `pandas.to_datetime` reads them, a format or a unit, and the dates; None if none does.

    Example:
        >>> numbered_dates(pd.Index([1709251200, 1709254800]))[0], numbered_dates(pd.Index([202401.0, 202402.0]))[0]
        ({'unit': 's'}, {'format': '%Y%m'})
    """
    index = _index(values)
    if not len(index) or index.hasnans or pd.api.types.is_bool_dtype(index.dtype):
        return None
    if _is_text(index):
        if not all(isinstance(text, str) and len(text) < 20 and text.isascii() and text.isdigit() for text in index):
            return None
    elif not pd.api.types.is_numeric_dtype(index.dtype) or pd.api.types.is_complex_dtype(index.dtype):
        return None
    elif pd.api.types.is_float_dtype(index.dtype):
        floats = index.to_numpy(np.float64)
        if not (np.abs(floats) < 2**62).all() or (floats % 1).any():
            return None
    try:
        numbers = index.astype("int64")
    except (ValueError, TypeError, OverflowError):
        return None
    for low, high, way in NUMBERED:
        if numbers.min() >= low and numbers.max() < high:
            dates = _in_way(numbers.astype(str) if "format" in way else numbers, **way)
            if dates is not None:
                return way, dates.rename(index.name)
    return None


def times_of_day(values: pd.Series[Any] | pd.Index[Any]) -> pd.TimedeltaIndex | None:
    r"""Reads times of day that stand without a date.

    Arguments:
        values: Text such as 18:00, 18:00:00, 18.00.00 or 6:00 PM, or `datetime.time`.

    Returns:
        The time that has passed since midnight, or None if some of these are no times of day.

    Example:
        >>> times_of_day(pd.Index(["18:00", "7:05 AM"])).tolist()
        [Timedelta('0 days 18:00:00'), Timedelta('0 days 07:05:00')]
    """
    index = _index(values)
    if not _is_text(index) or not len(index) or index.hasnans or not re.fullmatch(CLOCK, str(index[0])[:40]):
        return None
    kinds = set(index.map(type))
    if not all(kind is str or issubclass(kind, datetime.time) for kind in kinds):
        return None
    texts = pd.Series(index.astype(str))
    if not texts.str.fullmatch(CLOCK).all():
        return None
    if ":" not in texts[0] and not texts.str.contains(r"\.00\.|^\s*00?\.").any():
        return None  # 31.01.24 is a date
    parts = texts.str.extract(r"(\d\d?)[:.](\d\d)(?:[:.](\d\d(?:[.,]\d+)?))?\s*([AaPp])?")
    hours, minutes = parts[0].astype(float), parts[1].astype(float)
    seconds = parts[2].str.replace(",", ".").astype(float).fillna(0.0)
    half = parts[3].str.lower()
    hours = hours.where(half.isna(), hours % 12 + 12 * (half == "p"))
    total = 3600 * hours + 60 * minutes + seconds
    if (minutes > 59).any() or (seconds >= 60).any() or (total > 86400).any():
        return None
    return pd.TimedeltaIndex(pd.to_timedelta(total, unit="s"))


def two_digit_years(values: pd.Series[Any] | pd.Index[Any], *, some: bool = False) -> bool:
    r"""Whether texts are dates of three numbers, none of which is a year of four digits.

    Arguments:
        values: The texts; whatever else is no such date.
        some: Whether one such text will do.

    Returns:
        Whether all of those that are not missing are, or one is.

    Example:
        >>> two_digit_years(pd.Index(["31.01.24", "29.02.24 12:00"])), two_digit_years(pd.Index(["31.01.2024"]))
        (True, False)
    """
    index = _index(values)
    texts = index.dropna().astype(str) if _is_text(index) else index[:0]
    if not len(texts) or not re.match(r"\s*\d\d?[./-]\d", texts[0]):
        return False
    found = texts.str.match(SHORT)
    return bool(found.any() if some else found.all())


def out_of_range(entry: str) -> bool:
    r"""Whether a text is a date that cannot be counted in nanoseconds.

    Arguments:
        entry: The text.

    Returns:
        Whether it is one.

    Example:
        >>> out_of_range("1500-01-01"), out_of_range("2024-01-01"), out_of_range("1704067200000")
        (True, False, False)
    """
    if entry.strip().isdigit():  # seconds, and other numbers
        return False
    try:
        pd.Timestamp(entry).as_unit("ns")
    except pd.errors.OutOfBoundsDatetime:
        return True
    except Exception:  # of whatever kind: it is no date
        return False
    return False


def first_undated(values: pd.Series[Any] | pd.Index[Any]) -> tuple[int, str]:
    r"""Finds the first entry that keeps `parse_dates` from reading dates.

    Arguments:
        values: What it could not read.

    Returns:
        The entry's row and text: row 0 where each entry would be a date alone, as in two time zones.
    """
    index = _index(values)
    row = 0
    if not pd.api.types.is_numeric_dtype(index.dtype):
        with without_warnings():
            try:
                first = _mark(index[:1]) == "."
                bad = np.asarray(pd.to_datetime(index, errors="coerce", dayfirst=first).isna()) & index.notna()
                row = int(bad.argmax())
            except Exception:  # of whatever kind: the first entry will do
                row = 0
    return row, str(index[row])


def regular_dates(
    index: pd.DatetimeIndex,
    frequency: str,
    values: np.ndarray,
    *,
    regularise: bool,
    whose: str = "",
    undated: str = "",
) -> tuple[pd.DatetimeIndex, np.ndarray]:
    r"""Checks that dates are regular, or makes them so.

    Arguments:
        index: The dates of the rows.
        frequency: The frequency that they should have.
        values: The rows, with shape :math:`(T, D)`.
        regularise: Whether to mend what is not regular.
        whose: Whose dates these are, for the message, as `" of item 'a'"`.
        undated: What drops the dates, for the message, as `"frame.reset_index(drop=True)"`.

    Returns:
        The regular dates and their rows.

    Raises:
        ValueError: If the dates are not regular and are not to be mended or cannot be, or their grid would be long
            beyond all proportion to them.
    """
    if _is_regular(index, frequency):
        return index, values
    clock = index.as_unit("ns").asi8
    tidy = index.unique().sort_values()
    require_in_proportion(tidy, frequency, whose)
    grid = _grid(tidy, frequency)
    off = tidy[~tidy.isin(grid)]
    if len(off):
        seen = _infer(tidy) if len(tidy) > 2 else None
        raise ValueError(
            f"{len(off)} of the {len(tidy)} dates{whose} lie off the grid of frequency {frequency!r} that begins at "
            f"{tidy[0]}, the first is {off[0]}: "
            + (f"they look like frequency={seen!r}" if seen else "give the true frequency=, or resample the series")
            + _clocks(index, frequency)
        )
    if not regularise:
        behind = np.flatnonzero(np.diff(clock) < 0) + 1
        again = np.flatnonzero(index.duplicated())
        absent = grid[~grid.isin(tidy)]
        raise ValueError(
            f"the dates{whose} are not regular at frequency {frequency!r}: "
            + "; ".join(
                f"{count} {what} (first: {first})"
                for count, what, first in (
                    (len(behind), "out of order", f"row {behind[0]}, {index[behind[0]]}" if len(behind) else ""),
                    (len(again), "repeated", f"row {again[0]}, {index[again[0]]}" if len(again) else ""),
                    (len(absent), "missing", str(absent[0]) if len(absent) else ""),
                )
                if count
            )
            + (
                f" (they look like frequency={seen!r})"
                if len(index) > 2 and (seen := _infer(index) or _rare(index))
                else ""
            )
            + f". {REMEDY if not len(again) or 10 * len(again) <= len(index) else REMEDY_OF_MANY}"
            + _clocks(index, frequency)
            + ("" if len(behind) or len(again) or 10 * len(absent) < len(grid) else _as_rows(index, undated))
        )
    frame = pd.DataFrame(values, index=pd.Index(clock))
    frame = frame[~frame.reset_index().duplicated().to_numpy()]  # exact duplicates first: a mean may round
    frame = frame.groupby(level=0, sort=True).mean().reindex(grid.as_unit("ns").asi8)
    return grid.rename(index.name), frame.to_numpy()


def require_in_proportion(tidy: pd.DatetimeIndex, frequency: str, whose: str = "") -> None:
    r"""Checks that a grid from the first date to the last would not be long beyond all proportion to the dates.

    Arguments:
        tidy: The dates, in order.
        frequency: The frequency of the grid.
        whose: Whose dates these are, for the message, as `" of item 'a'"`.

    Raises:
        ValueError: If it would have more than `STEPS_PER_DATE` steps for each date and `STEPS_IN_GAPS` more.
    """
    steps = int(_span(tidy) / (step_days(frequency) * DAY))
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
    r"""What to do about dates that are in order and have gaps by rule, as those of trading hours."""
    if not undated or not (index.is_monotonic_increasing and index.is_unique):
        return ""
    return f". If each row counts as one step whatever its date is, as with trading hours, drop the dates: {undated}"


def frequency_of(index: pd.DatetimeIndex, given: str | None, *, undated: str = "") -> str:
    r"""Settles the frequency of dates that may be out of order, repeated or missing.

    Arguments:
        index: The dates.
        given: The frequency that the caller states. A week, month, quarter or year without an anchor takes it from the
            dates: `"W"` becomes `"W-TUE"` where these are Tuesdays, `"M"` becomes `"MS"` at the firsts of months.
        undated: As for `regular_dates`.

    Returns:
        The pandas alias.

    Raises:
        ValueError: If none is given and none can be seen.
    """
    tidy = index.unique().sort_values()
    if given is not None:
        return alias(given) if _is_regular(tidy, alias(given)) else _anchored(tidy, given) or alias(given)
    if len(tidy) < 2:
        raise ValueError(f"a single date ({tidy[0]}) shows no frequency: give frequency= (--frequency)")
    frequency = _infer(tidy) or _guess(tidy)
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


def season_length(frequency: str | None) -> int:
    r"""The length of the season that data of a frequency most likely have.

    A day for hours and minutes, an hour for seconds, a week for days, a year for weeks, months and quarters. gluonts
    has 1 for days and weeks.

    Arguments:
        frequency: The pandas alias, or None for undated data.

    Returns:
        The number of steps in the season; 1 where there is none, or it is no whole number of steps.

    Example:
        >>> season_length("15min"), season_length("D"), season_length("W-TUE"), season_length(None)
        (96, 7, 52, 1)
    """
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-[A-Z]+)?", frequency or "")
    if match is None:
        return 1
    steps, name = int(match[1] or 1), match[2]
    season = {"s": 3600, "min": 1440, "h": 24, "D": 7, "B": 5, "W": 52}.get(name)
    season = season or {"M": 12, "Q": 4}.get(_family(name), 1)
    return season // steps if season % steps == 0 else 1


def phases(frequency: str | None) -> int:
    r"""How many phases of the season dates of a frequency are told apart by.

    Arguments:
        frequency: The pandas alias, or None for undated data.

    Returns:
        The hours of the day for steps shorter than one (as many as there are steps, if fewer), the days of the week
        for steps of days, the months of the year for longer ones; 1 where there is no season.

    Example:
        >>> phases("15min"), phases("6h"), phases("D"), phases("W-TUE"), phases("YS"), phases(None)
        (24, 4, 7, 12, 1, 1)
    """
    days = 0.0 if frequency is None else step_days(frequency)
    if not days:
        return 1
    return min(24, round(1 / days)) if days < 0.6 else 7 if days < 6.9 else 12 if days < 190 else 1


def phase_of(index: pd.Index[Any], frequency: str | None) -> np.ndarray:
    r"""The phase of the season at dates, by local time.

    Arguments:
        index: The dates.
        frequency: Their frequency, or None for undated data.

    Returns:
        Numbers from 0 to below `phases(frequency)`, with shape :math:`(T,)`.
    """
    number = phases(frequency)
    if number == 1:
        return np.zeros(len(index), dtype=np.int64)
    assert frequency is not None and isinstance(index, pd.DatetimeIndex)
    if step_days(frequency) < 0.6:
        seconds = index.hour * 3600 + index.minute * 60 + index.second
        return np.asarray(seconds, dtype=np.int64) * number // 86400
    return np.asarray(index.dayofweek if number == 7 else index.month - 1, dtype=np.int64)


@cache
def step_days(frequency: str) -> float:
    r"""How many days a step takes.

    Arguments:
        frequency: The pandas alias.

    Returns:
        The days from the first of 2001, or the next date on the grid, to the date after it.
    """
    first, second = calendar(pd.Timestamp("2001-01-01"), frequency, periods=2, unit="ns")
    return float((second - first) / pd.Timedelta(days=1))


def _span(tidy: pd.DatetimeIndex) -> int:
    r"""The nanoseconds from the first date to the last, which may be more than a Timedelta holds."""
    return int(tidy[-1].as_unit("ns").value) - int(tidy[0].as_unit("ns").value)


def _index(values: pd.Series[Any] | pd.Index[Any]) -> pd.Index[Any]:
    return pd.Index(values.astype(np.float32) if values.dtype == np.float16 else values)  # pandas has no such index


def _offsets(index: pd.Index[Any]) -> set[str]:
    r"""The UTC offsets at the end of texts, "" where there is none."""
    if pd.api.types.is_numeric_dtype(index.dtype):
        return set()
    texts = index.dropna().astype(str)
    return set(texts.str.extract(r":\d\d(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)$", expand=False).fillna(""))


def _mark(index: pd.Index[Any]) -> str | None:
    r"""The mark between the numbers of dates that end with the year; None if not all of the texts are such dates."""
    if not _is_text(index):
        return None
    texts, pattern = index.dropna().astype(str), r"^\s*\d\d?([./-])\d\d?\1\d{4}\b"
    if not len(texts) or not re.match(pattern, texts[0]):
        return None
    marks = texts.str.extract(pattern, expand=False)
    return str(marks[0]) if marks.notna().all() and marks.nunique() == 1 else None


def _is_text(index: pd.Index[Any]) -> bool:
    return bool(pd.api.types.is_object_dtype(index.dtype) or pd.api.types.is_string_dtype(index.dtype))


def _of_two_digit_years(index: pd.Index[Any]) -> pd.DatetimeIndex | None:
    r"""Reads texts of `two_digit_years`, all in one order; None if no order reads them, or the year may stand first."""
    parts = pd.Series(index.array).astype("string").str.extract(SHORT)
    marks = parts[1].dropna().unique()
    if len(marks) > 1:
        return None
    centuries = parts[[0, 3]].apply(lambda years: (years.astype("Int64") < 69).map({True: "20", False: "19"}))
    last = parts[0] + parts[1] + parts[2] + parts[1] + centuries[3] + parts[3] + parts[4]
    first = centuries[0] + parts[0].str.zfill(2) + "-" + parts[2].str.zfill(2) + "-" + parts[3] + parts[4]
    texts_of = [pd.Index(texts.astype(object).where(texts.notna(), None)) for texts in (last, first)]
    read, other = (parse_dates(texts) for texts in texts_of)
    if read is None and two_orders(texts_of[0]) is not None:
        return None
    if read is None or other is None:
        return other if read is None else read
    # Read in the wrong order, days are years, and the dates leap to and fro.
    days, others = (dates.tz_localize(None).dropna().normalize().as_unit("ns") for dates in (read, other))
    leaps, fewer = (np.abs(np.diff(dates.asi8 // DAY)).sum() for dates in (days, others))
    unclear = 2 * fewer <= leaps and (leaps > 0 or marks[0] != ".")
    return None if unclear and _infer(days.unique().sort_values()) is None else read


def _stamped(start: pd.Period, periods: int, more: int = 0) -> pd.DatetimeIndex:
    r"""The stamps of periods, and of those up to `more` as far as there are dates."""
    with without_warnings():  # pandas means to drop periods of business days, which gluonts has
        for number in dict.fromkeys((max(periods, more), periods)):
            try:
                return _stamps(pd.period_range(start, periods=number))
            except (pd.errors.OutOfBoundsDatetime, OverflowError) as error:
                problem = error
    raise OutOfRange(f"{periods} periods from {start!r} on are out of range: {RANGE}") from problem


def _stamps(periods: pd.PeriodIndex) -> pd.DatetimeIndex:
    r"""Stamps periods so that the stamps' frequency has these very periods: a week from Monday on is W-SUN."""
    match = re.fullmatch(r"\d*((?:W|Q|Y|A)-[A-Z]+)", periods.freqstr)
    with without_warnings():  # pandas means to drop periods of business days, which gluonts has
        starts = pd.DatetimeIndex(periods.to_timestamp())
    if match is None or match[1] in ("Q-DEC", "Y-DEC", "A-DEC"):
        return starts
    ones = pd.PeriodIndex(starts, freq=match[1])  # two weeks are stamped in their first
    return pd.DatetimeIndex(ones.to_timestamp(how="end")).normalize()


def is_regular(index: pd.DatetimeIndex, frequency: str) -> bool:
    r"""Whether dates, sorted and each once, are regular at a frequency.

    Arguments:
        index: The dates.
        frequency: The pandas alias; without an anchor it takes that of the dates, as in `frequency_of`.

    Returns:
        Whether they are; not if there are none.
    """
    tidy = index.dropna().unique().sort_values()
    return len(tidy) > 0 and _is_regular(tidy, frequency_of(tidy, frequency))


def _is_regular(index: pd.DatetimeIndex, frequency: str) -> bool:
    clock = index.as_unit("ns").asi8
    try:
        grid = calendar(index[0], frequency, periods=len(index), unit="ns")
        return np.array_equal(grid.as_unit("ns").asi8, clock)
    except OutOfRange:
        return False


def _grid(tidy: pd.DatetimeIndex, frequency: str) -> pd.DatetimeIndex:
    return calendar(tidy[0], frequency, end=tidy[-1], unit=tidy.unit)


def _clocks(index: pd.DatetimeIndex, frequency: str | None) -> str:
    r"""What to do about dates that are irregular because the clocks were changed; "" where they are not."""
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
        seen = _infer(index.unique().tz_localize(None).sort_values()) if len(index) > 2 else None
        if seen is None or _infer(tidy) is not None:
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
    hour = "'infer'" if step.nanos <= HOUR else "True"  # longer steps meet the hour that comes twice only once
    return (
        ". If they are local time over a change of the clocks, say so: "
        f"frame.tz_localize(zone, ambiguous={hour}) makes them hours that passed"
    )


def _infer(tidy: pd.DatetimeIndex) -> str | None:
    r"""The frequency of dates that are regular, in order and distinct; None where they are not."""
    if not (tidy.is_monotonic_increasing and tidy.is_unique):
        return None
    candidates = [pd.infer_freq(tidy)] if len(tidy) > 2 else []
    steps = np.unique(np.diff(tidy.as_unit("ns").asi8))
    if len(steps) == 1:
        candidates.append(_tick(tidy, int(steps[0])))
        if tidy.tz is not None and steps[0] % DAY == 0:
            candidates.append(f"{steps[0] // HOUR}h")  # days of another time zone, as UTC's: their local time changes
    for candidate in candidates:
        if candidate is not None and _is_regular(tidy, alias(candidate)):
            return alias(candidate)
    return None


def _rare(tidy: pd.DatetimeIndex) -> str | None:
    r"""The frequency of regular dates that is too rare to be taken for granted."""
    return next((name for name in ("2B", "3B", "4B", "SMS-15", "SME-15") if _is_regular(tidy, name)), None)


def _tick(tidy: pd.DatetimeIndex, step: int) -> str:
    if step == 7 * DAY:
        return f"W-{tidy[0].day_name()[:3].upper()}"
    offset = to_offset(pd.Timedelta(step, "ns"))
    assert offset is not None
    return str(offset.freqstr)


def _guess(tidy: pd.DatetimeIndex) -> str | None:
    r"""The frequency of dates with gaps: the first one whose grid holds all of them and is half full or more."""
    if len(tidy) < 3:
        return None
    steps, counts = np.unique(np.diff(tidy.as_unit("ns").asi8), return_counts=True)
    step, month = int(steps[counts.argmax()]), tidy[0].month_name()[:3].upper()
    quarter = ("DEC", "OCT", "NOV")[tidy[0].month % 3]  # one name for each of the three grids, as pandas infers them
    candidates = {1: ["B"]} | dict.fromkeys(range(28, 32), ["MS", "ME", "BMS", "BME"])
    candidates |= dict.fromkeys(range(89, 93), [f"QS-{quarter}", f"QE-{quarter}"])
    candidates |= dict.fromkeys((365, 366), [f"YS-{month}", f"YE-{month}"])
    for candidate in [*(candidates.get(step // DAY, []) if step % DAY == 0 else []), _tick(tidy, step)]:
        if _span(tidy) / step > 2 * len(tidy) + 2:
            return None
        grid = _grid(tidy, candidate)
        if tidy.isin(grid).all():
            return candidate
    return None


def _anchored(tidy: pd.DatetimeIndex, given: str) -> str | None:
    r"""The weeks, months, quarters or years that dates lie on; None if none, or the frequency given has its anchor."""
    match = re.fullmatch(r"(\d*)(W|M|[QYA][SE]?)", given.strip())
    if match is None:
        return None
    seen = _infer(tidy) or _guess(tidy)
    if seen is not None and _family(seen) == _family(alias(given)):
        return seen
    # Few dates show no frequency, but they do lie on some grid.
    unit, month = match[2].replace("A", "Y"), tidy[0].month_name()[:3].upper()
    names = {"W": [f"W-{tidy[0].day_name()[:3].upper()}"], "M": ["MS", "ME", "BMS", "BME"]}.get(unit)
    names = names or [f"{unit[0]}{end}-{month}" for end in ("SE" if len(unit) == 1 else unit[1])]
    grids = (match[1] + name for name in names)
    return next((alias(name) for name in grids if tidy.isin(_grid(tidy, name)).all()), None)


def _family(frequency: str) -> str:
    r"""A frequency without its anchor: a month is a month, be it stamped at its start or at its end."""
    match = re.fullmatch(r"(\d*)B?([WMQY])[SE]?(-[A-Z]+)?", frequency)
    return "".join(match.groups(default="")[:2]) if match else frequency

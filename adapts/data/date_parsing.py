r"""Parsing of text and numbers as dates."""

from __future__ import annotations

__all__ = [
    "first_undated",
    "numbered_dates",
    "out_of_range",
    "parse_dates",
    "times_of_day",
    "two_digit_years",
    "two_orders",
    "uncategorised",
]

import datetime
import re
from typing import Any

import numpy as np
import pandas as pd

from .._logging import without_warnings
from .frequency import DAY, guessed, inferred

SHORT = r"^\s*(\d\d?)([./-])(\d\d?)\2(\d\d)((?:[T ].*?)?)\s*$"  # 31.01.24, 1/31/24 12:00, 24-01-31
#: A time of day without a date, such as 18:00, 7:05 AM or 18.00.00.
CLOCK = r"\s*\d\d?(?::\d\d(?::\d\d(?:[.,]\d+)?)?|\.\d\d\.\d\d)(?:\s*[AaPp]\.?[Mm]\.?)?\s*"
#: Dates written as whole numbers: the smallest, the first beyond the largest, and the options by which pandas reads
#: them. Epochs are of the years 1980 to 2100; their size determines their unit.
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


def parse_dates(values: pd.Series[Any] | pd.Index[Any]) -> pd.DatetimeIndex | None:
    r"""Parse dates of any supported type.

    Periods become timestamps at their start. Exceptions are weeks, and quarters and years other than those of the
    calendar (a year that ends in June): these get their last day, and multiples of these the last day of the first.
    Text with varying UTC offsets, as over summer time, becomes UTC. Where day and month may stand in either order, the
    order that gives dates with a frequency is taken; text is not parsed if both orders do, or neither. Years of two
    digits are read as the last number, and 69 to 99 as 1969 to 1999; text in which they may stand first is not parsed.
    Neither are times of day without a date.

    Arguments:
        values: Datetimes, periods, text, date objects, or whole numbers: 1999, 199912, 19991231, and so on to seconds,
            or epochs in s, ms, us or ns.

    Returns:
        The dates, or None if some entries are no dates.
    """
    try:
        return _read_dates(values)
    except Exception:  # of any kind: pandas reads no dates here
        return None


def uncategorised(index: pd.Index[Any]) -> pd.Index[Any]:
    r"""Return a categorical index as an index of its entries; any other index is returned as is."""
    return index.astype(index.categories.dtype) if isinstance(index, pd.CategoricalIndex) else index


def _read_dates(values: pd.Series[Any] | pd.Index[Any]) -> pd.DatetimeIndex | None:
    r"""Parse dates as `parse_dates` does, but let the exceptions of pandas pass."""
    index = uncategorised(pd.Index(values, dtype=values.dtype)).infer_objects()
    if isinstance(index.dtype, pd.ArrowDtype) and pd.api.types.is_datetime64_any_dtype(index.dtype):
        import pyarrow

        index = pd.Index(pyarrow.array(index.array).to_pandas(), name=index.name)
    if isinstance(index, pd.DatetimeIndex):
        return index
    if isinstance(index, pd.PeriodIndex):
        return stamps_of(index)
    if pd.api.types.is_integer_dtype(index.dtype) and len(index):
        numbered = numbered_dates(index)
        return None if numbered is None else numbered[1]
    if pd.api.types.is_numeric_dtype(index.dtype) or pd.api.types.is_bool_dtype(index.dtype):
        return None
    if _is_text(index) and times_of_day(index) is not None:
        return None
    offsets = offsets_of(index)
    if len(offsets) > 1 and "" in offsets:
        return None  # the time zone of entries without an offset is unknown
    if two_digit_years(index, some=True):
        return _of_two_digit_years(index) if two_digit_years(index) else None
    mark = mark_of(index)
    if mark is None:
        ways: list[dict[str, Any]] = [
            {},
            {"format": "ISO8601"},  # also reads a mixture of days and hours
        ]
        read = (_in_way(index, utc=len(offsets) > 1, **way) for way in ways)
        found = next((dates for dates in read if dates is not None), None)
        numbered = numbered_dates(index) if found is None else None
        return found if numbered is None else numbered[1]
    if mark == ".":
        return _in_way(index.str.strip(), utc=len(offsets) > 1, dayfirst=True)
    orders = _in_orders(index, utc=len(offsets) > 1)
    if len(orders) > 1:
        orders = [dates for dates in orders if _visible_frequency(dates) is not None]
    return orders[0] if len(orders) == 1 else None


def _in_way(index: pd.Index[Any], **way: Any) -> pd.DatetimeIndex | None:
    r"""Parse texts with options of `pandas.to_datetime`; None if they are no dates."""
    try:
        with without_warnings():
            dates = pd.to_datetime(index, **way)
    except (ValueError, TypeError, OverflowError):
        return None
    return dates if isinstance(dates, pd.DatetimeIndex) else None


def _in_orders(index: pd.Index[Any], *, utc: bool) -> list[pd.DatetimeIndex]:
    r"""Return the dates of texts for each order, month or day first, that parses; once if both give the same."""
    read = [_in_way(index.str.strip(), utc=utc, dayfirst=first) for first in (False, True)]
    found = [dates for dates in read if dates is not None]
    return found[:1] if len(found) == 2 and found[0].equals(found[1]) else found


def _visible_frequency(dates: pd.DatetimeIndex) -> str | None:
    r"""Return the frequency of dates that may be unordered, repeated or incomplete; None if there is none."""
    tidy = dates.dropna().unique().sort_values()
    return (inferred(tidy) or guessed(tidy)) if len(tidy) > 1 else None


def two_orders(values: pd.Series[Any] | pd.Index[Any]) -> dict[str, tuple[pd.DatetimeIndex, str | None]] | None:
    r"""Parse dates with an ambiguous order of day and month in both orders.

    Arguments:
        values: The texts, with years of four digits after day and month.

    Returns:
        The dates by their order, "month first" and "day first", each with its frequency or None; None if only one
        order parses the texts, or both give the same dates.

    Example:
        >>> two_orders(pd.Index(["01/02/2024", "02/02/2024", "03/02/2024"]))["day first"][1]
        'D'
    """
    index = as_index(values)
    if mark_of(index) not in ("/", "-"):
        return None
    orders = _in_orders(index, utc=len(offsets_of(index)) > 1)
    if len(orders) < 2:
        return None
    return {
        name: (dates, _visible_frequency(dates))
        for name, dates in zip(("month first", "day first"), orders, strict=True)
    }


def numbered_dates(values: pd.Series[Any] | pd.Index[Any]) -> tuple[dict[str, str], pd.DatetimeIndex] | None:
    r"""Parse dates that are written as whole numbers.

    Arguments:
        values: Whole numbers, integers or floats, or text of digits alone.

    Returns:
        The options by which `pandas.to_datetime` reads them (a format or a unit), and the dates; None if none does.

    Example:
        >>> numbered_dates(pd.Index([1709251200, 1709254800]))[0], numbered_dates(pd.Index([202401.0, 202402.0]))[0]
        ({'unit': 's'}, {'format': '%Y%m'})
    """
    index = as_index(values)
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
    r"""Parse times of day without a date.

    Arguments:
        values: Text such as 18:00, 18:00:00, 18.00.00 or 6:00 PM, or `datetime.time`.

    Returns:
        The durations since midnight, or None if some entries are no times of day.

    Example:
        >>> times_of_day(pd.Index(["18:00", "7:05 AM"])).tolist()
        [Timedelta('0 days 18:00:00'), Timedelta('0 days 07:05:00')]
    """
    index = as_index(values)
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
    r"""Return whether texts are dates of three numbers, with years of two digits.

    Arguments:
        values: The texts; values of other types are no such dates.
        some: Whether one such text is enough.

    Returns:
        Whether all texts that are not missing are such dates, or at least one with `some`.

    Example:
        >>> two_digit_years(pd.Index(["31.01.24", "29.02.24 12:00"])), two_digit_years(pd.Index(["31.01.2024"]))
        (True, False)
    """
    index = as_index(values)
    texts = index.dropna().astype(str) if _is_text(index) else index[:0]
    if not len(texts) or not re.match(r"\s*\d\d?[./-]\d", texts[0]):
        return False
    found = texts.str.match(SHORT)
    return bool(found.any() if some else found.all())


def out_of_range(entry: str) -> bool:
    r"""Return whether a text is a date outside of the range of nanosecond timestamps.

    Arguments:
        entry: The text.

    Returns:
        Whether it is.

    Example:
        >>> out_of_range("1500-01-01"), out_of_range("2024-01-01"), out_of_range("1704067200000")
        (True, False, False)
    """
    if entry.strip().isdigit():  # epochs and other numbers
        return False
    try:
        pd.Timestamp(entry).as_unit("ns")
    except pd.errors.OutOfBoundsDatetime:
        return True
    except Exception:  # of any kind: it is no date
        return False
    return False


def first_undated(values: pd.Series[Any] | pd.Index[Any]) -> tuple[int, str]:
    r"""Find the first entry that `parse_dates` cannot read.

    Arguments:
        values: The values that it could not read.

    Returns:
        The entry's row and text. Row 0 if each entry alone is a date, as with two time zones.
    """
    index = as_index(values)
    row = 0
    if not pd.api.types.is_numeric_dtype(index.dtype):
        with without_warnings():
            try:
                first = mark_of(index[:1]) == "."
                bad = np.asarray(pd.to_datetime(index, errors="coerce", dayfirst=first).isna()) & index.notna()
                row = int(bad.argmax())
            except Exception:  # of any kind: report the first entry
                row = 0
    return row, str(index[row])


def as_index(values: pd.Series[Any] | pd.Index[Any]) -> pd.Index[Any]:
    r"""Return values as an index; pandas has none of float16, which becomes float32."""
    return pd.Index(values.astype(np.float32) if values.dtype == np.float16 else values)


def offsets_of(index: pd.Index[Any]) -> set[str]:
    r"""Return the UTC offsets at the ends of texts, "" for texts without one."""
    if pd.api.types.is_numeric_dtype(index.dtype):
        return set()
    texts = index.dropna().astype(str)
    return set(texts.str.extract(r":\d\d(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)$", expand=False).fillna(""))


def mark_of(index: pd.Index[Any]) -> str | None:
    r"""Return the separator of dates that end with a four-digit year; None if some texts are no such dates."""
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
    r"""Parse dates with two-digit years, all in one order; None if none parses, or the year may stand first."""
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
    # In the wrong order, days are read as years, and the dates jump back and forth.
    days, other_days = (dates.tz_localize(None).dropna().normalize().as_unit("ns") for dates in (read, other))
    variation, other_variation = (np.abs(np.diff(dates.asi8 // DAY)).sum() for dates in (days, other_days))
    unclear = 2 * other_variation <= variation and (variation > 0 or marks[0] != ".")
    return None if unclear and inferred(days.unique().sort_values()) is None else read


def stamps_of(periods: pd.PeriodIndex) -> pd.DatetimeIndex:
    r"""Convert periods to timestamps whose frequency gives the same periods: a week from Monday on is W-SUN."""
    match = re.fullmatch(r"\d*((?:W|Q|Y|A)-[A-Z]+)", periods.freqstr)
    with without_warnings():  # pandas deprecates periods of business days, which gluonts uses
        starts = pd.DatetimeIndex(periods.to_timestamp())
    if match is None or match[1] in ("Q-DEC", "Y-DEC", "A-DEC"):
        return starts
    single = pd.PeriodIndex(starts, freq=match[1])  # of several weeks, the first
    return pd.DatetimeIndex(single.to_timestamp(how="end")).normalize()

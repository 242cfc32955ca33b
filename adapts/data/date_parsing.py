r"""Text and numbers read as dates."""

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
        return None  # some have an offset and some do not: which hour the others mean is not known
    if two_digit_years(index, some=True):
        return _of_two_digit_years(index) if two_digit_years(index) else None
    mark = mark_of(index)
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
    return (inferred(tidy) or guessed(tidy)) if len(tidy) > 1 else None


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
    index = as_index(values)
    if mark_of(index) not in ("/", "-"):
        return None
    orders = _in_orders(index, utc=len(offsets_of(index)) > 1)
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
    r"""Reads times of day that stand without a date.

    Arguments:
        values: Text such as 18:00, 18:00:00, 18.00.00 or 6:00 PM, or `datetime.time`.

    Returns:
        The time that has passed since midnight, or None if some of these are no times of day.

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
    index = as_index(values)
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
    index = as_index(values)
    row = 0
    if not pd.api.types.is_numeric_dtype(index.dtype):
        with without_warnings():
            try:
                first = mark_of(index[:1]) == "."
                bad = np.asarray(pd.to_datetime(index, errors="coerce", dayfirst=first).isna()) & index.notna()
                row = int(bad.argmax())
            except Exception:  # of whatever kind: the first entry will do
                row = 0
    return row, str(index[row])


def as_index(values: pd.Series[Any] | pd.Index[Any]) -> pd.Index[Any]:
    return pd.Index(values.astype(np.float32) if values.dtype == np.float16 else values)  # pandas has no such index


def offsets_of(index: pd.Index[Any]) -> set[str]:
    r"""The UTC offsets at the end of texts, "" where there is none."""
    if pd.api.types.is_numeric_dtype(index.dtype):
        return set()
    texts = index.dropna().astype(str)
    return set(texts.str.extract(r":\d\d(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)$", expand=False).fillna(""))


def mark_of(index: pd.Index[Any]) -> str | None:
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
    return None if unclear and inferred(days.unique().sort_values()) is None else read


def stamps_of(periods: pd.PeriodIndex) -> pd.DatetimeIndex:
    r"""Stamps periods so that the stamps' frequency has these very periods: a week from Monday on is W-SUN."""
    match = re.fullmatch(r"\d*((?:W|Q|Y|A)-[A-Z]+)", periods.freqstr)
    with without_warnings():  # pandas means to drop periods of business days, which gluonts has
        starts = pd.DatetimeIndex(periods.to_timestamp())
    if match is None or match[1] in ("Q-DEC", "Y-DEC", "A-DEC"):
        return starts
    ones = pd.PeriodIndex(starts, freq=match[1])  # two weeks are stamped in their first
    return pd.DatetimeIndex(ones.to_timestamp(how="end")).normalize()

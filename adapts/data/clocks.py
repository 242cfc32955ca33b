r"""Detection of columns with dates, times, date parts or row numbers, and tested code that reads them."""

from __future__ import annotations

__all__ = ["as_dates", "as_steps", "counts", "fields_of", "joined", "of_parts", "spells", "suggested", "transposed"]

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from .._logging import without_warnings
from ..errors import shown
from .columns import written_numbers
from .date_parsing import NUMBERED, numbered_dates, parse_dates, times_of_day
from .regular_dates import frequency_of

#: Date formats that `parse_dates` does not guess.
FORMS = (
    "%m.%Y", "%b-%y", "%b %y", "%b%y", "%y-%b", "%y %b", "%Y-%j", "%Y/%j", "%Y%m%d %H%M", "%Y%m%d %H%M%S",
    "%Y%m%d_%H%M%S",
    "%Y%m%d-%H%M", "%Y-%m-%d_%H-%M-%S", "%Y-%m-%d-%H", "%Y-%m-%d-%H-%M", "%Y-%m-%d %H.%M", "%Y-%m-%d %H.%M.%S",
    "%d.%m.%Y %H.%M",
    "%d.%m.%Y %H.%M.%S", "%d.%m.%Y-%H:%M", "%d.%m.%Y - %H:%M", "%d.%m.%Y, %H:%M", "%d/%m/%Y:%H:%M:%S",
    "%d/%b/%Y:%H:%M:%S", "%d%b%Y", "%d%b%y", "%d%b%Y:%H:%M:%S", "%d-%m-%Y %H.%M",
)  # fmt: skip
#: Other date texts: the code that reads them, and the function that it stands for.
TEXTS: tuple[tuple[str, Callable[[pd.Series[Any]], Any]], ...] = (
    (
        r"column.str.replace(r'.*Q([1-4])\D*(\d{4}).*', r'\2Q\1', regex=True)",
        lambda column: column.str.replace(r".*Q([1-4])\D*(\d{4}).*", r"\2Q\1", regex=True),
    ),
    (
        r"column.str.replace(r'(\d{4})\D*Q([1-4])', r'\1Q\2', regex=True)",
        lambda column: column.str.replace(r"(\d{4})\D*Q([1-4])", r"\1Q\2", regex=True),
    ),
    (
        r"column.str.replace(r'(\d{4})\D*M(\d\d?)', r'\1-\2', regex=True)",
        lambda column: column.str.replace(r"(\d{4})\D*M(\d\d?)", r"\1-\2", regex=True),
    ),
    (
        "pd.to_datetime(column.str.replace('-', '') + '1', format='%GW%V%u')",
        lambda column: pd.to_datetime(column.str.replace("-", "") + "1", format="%GW%V%u"),
    ),
    (
        "column.str[:4]",
        lambda column: column.str[:4].where(column.str.fullmatch(r"\s*\d{4}[/-]\d\d(?:\d\d)?\s*")),
    ),
)
#: Conversions of columns of days to dates, and of times of day to durations.
DAYS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("pd.to_datetime({day})", pd.to_datetime),
    ("pd.to_datetime({day}, dayfirst=True)", lambda day: pd.to_datetime(day, dayfirst=True)),
)
TIMES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("pd.to_timedelta({time})", pd.to_timedelta),
    ("pd.to_timedelta({time}.astype(str))", lambda time: pd.to_timedelta(time.astype(str))),
    ("pd.to_timedelta({time} + ':00')", lambda time: pd.to_timedelta(time + ":00")),
    ("pd.to_timedelta({time}, unit='h')", lambda time: pd.to_timedelta(time, unit="h")),
    ("pd.to_timedelta({time}.astype(int), unit='h')", lambda time: pd.to_timedelta(time.astype(int), unit="h")),
    (
        "pd.to_timedelta({time}.astype(int) // 100, unit='h') + pd.to_timedelta({time}.astype(int) % 100, unit='min')",
        lambda time: (
            pd.to_timedelta(time.astype(int) // 100, unit="h") + pd.to_timedelta(time.astype(int) % 100, unit="min")
        ),
    ),
)
#: Conversions of a day column and a time column to dates.
JOINS: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = (
    ("{day} + ' ' + {time}", lambda day, time: day + " " + time),
    ("{day} + ' ' + {time}.str.replace('.', ':')", lambda day, time: day + " " + time.str.replace(".", ":")),
    *(
        (f"{day} + {time}", lambda days, times, of_day=of_day, of_time=of_time: of_day(days) + of_time(times))
        for (day, of_day), (time, of_time) in product(DAYS, TIMES)
    ),
)
#: Parts of dates by the names of `pandas.to_datetime`, and other names of theirs, in lower case.
SPLITS = ("year", "month", "day", "hour", "minute", "second")
CALLED = {"yr": "year", "jahr": "year", "mo": "month", "mon": "month", "mnth": "month", "monat": "month", "dy": "day"}
CALLED |= {"tag": "day", "hr": "hour", "stunde": "hour", "min": "minute", "sec": "second"}
#: The fewest rows from which a column is taken to number them.
FEWEST = 6
#: Names of columns of whole hours.
HOURS = ("hour", "hr", "hh", "he", "hour_ending", "stunde")
#: Serial dates of spreadsheets, days since 1899-12-30, of the years 1954 to 2119.
SERIAL = (20_000, 80_000)
#: A date within the name of a column.
DATE_IN_NAME = re.compile(r"(?<!\d)[12]\d{3}(?!\d)|(?<!\d)[12]\d{5}(?:\d\d)?(?!\d)|^\d\d?([./-])\d\d?\1\d\d$")
#: Parts of dates that a column of whole numbers may hold.
FIELDS = (*SPLITS, "quarter", "dayofweek", "dayofyear")


def suggested(column: pd.Series[Any]) -> tuple[str, pd.DatetimeIndex] | None:
    r"""Find code that reads dates from a column that `parse_dates` cannot read.

    Arguments:
        column: The column.

    Returns:
        The code, in which the column is called `column`, and the dates that it returns for this column; None if no
        known code reads it.

    Example:
        >>> suggested(pd.Series(["Q1 2024", "Q2 2024"]))[1].month.tolist()
        [1, 4]
        >>> suggested(pd.Series([45000, 45001]))[0]
        "pd.to_datetime(column, unit='D', origin='1899-12-30')"
    """
    if column.isna().any() or not len(column):
        return None
    found = numbered_dates(column)
    if found is not None:
        arguments = ", ".join(f"{name}={value!r}" for name, value in found[0].items())
        integers = "column" if pd.api.types.is_numeric_dtype(column.dtype) else "column.astype('int64')"
        return f"pd.to_datetime({integers}, {arguments})", found[1]
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        numbers = column.to_numpy(np.float64)
        for low, high, options in NUMBERED:  # epochs with fractions
            if "unit" in options and (numbers >= low).all() and (numbers < high).all():
                epochs: dict[str, Any] = {"unit": options["unit"]}
                dates = pd.DatetimeIndex(pd.to_datetime(pd.Series(numbers), **epochs))
                return f"pd.to_datetime(column, unit={options['unit']!r})", dates
        if (numbers >= SERIAL[0]).all() and (numbers < SERIAL[1]).all():
            dates = pd.DatetimeIndex(pd.to_datetime(pd.Series(numbers), unit="D", origin="1899-12-30").dt.round("s"))
            rounded = ".dt.round('s')" if (numbers % 1).any() else ""
            return f"pd.to_datetime(column, unit='D', origin='1899-12-30'){rounded}", dates
        return None
    if not (pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype)):
        return None
    if not all(isinstance(entry, str) for entry in column) or not re.search(r"\d", column.iloc[0]):
        return None
    ways = [
        (f"pd.to_datetime(column, format={form!r})", lambda column, form=form: pd.to_datetime(column, format=form))
        for form in FORMS
    ]
    for code, way in (*ways, *TEXTS):
        try:
            with without_warnings():
                parsed = parse_dates(way(column)) if parse_dates(way(column[:3])) is not None else None
        except (ValueError, TypeError, OverflowError):
            continue
        if parsed is not None and not parsed.hasnans:
            return code, parsed
    return None


def as_dates(column: pd.Series[Any]) -> tuple[str | None, pd.DatetimeIndex] | None:
    r"""Read dates from a column that no option names as dates.

    Arguments:
        column: The column.

    Returns:
        The code that reads them, None where `parse_dates` does, and the dates; None if the column holds no dates.
        Whole numbers count as dates only if these are regular, because amounts may look like years. Floats never do.
    """
    if pd.api.types.is_integer_dtype(column.dtype):
        found = numbered_dates(column) if not column.isna().any() else None
        if found is None:
            return None
        tidy = found[1].unique().sort_values()
        try:
            return (None, found[1]) if len(tidy) > 2 and frequency_of(tidy, None) else None
        except ValueError:
            return None
    if pd.api.types.is_numeric_dtype(column.dtype):
        return None
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
        return None if pd.api.types.is_numeric_dtype(column.dtype) else as_dates(column)
    dates = parse_dates(column)
    if dates is not None:
        return None if dates.hasnans else (None, dates)
    return suggested(column)


def as_steps(column: pd.Series[Any]) -> np.ndarray | None:
    r"""Return the integers of a column that numbers steps, of any number of items.

    Arguments:
        column: The column.

    Returns:
        The numbers; None if some entries are not integers, or more than a tenth of the gaps between distinct numbers
        are larger than one.
    """
    if not pd.api.types.is_integer_dtype(column.dtype) or column.isna().any() or len(column) < 2:
        return None
    low, high = int(column.min()), int(column.max())
    if low < -(2**62) or high > 2**62:
        return None
    numbers = column.to_numpy(np.int64)
    gaps = np.diff(np.unique(numbers))
    return numbers if len(gaps) and (gaps == 1).mean() >= 0.9 else None


def counts(numbers: np.ndarray, codes: np.ndarray, *, in_order: bool) -> bool:
    r"""Return whether numbers increase by one from row to row of each item.

    Arguments:
        numbers: The whole numbers.
        codes: The item of each row.
        in_order: Whether the rows must stand in this order.

    Returns:
        Whether they do in each item of two rows or more. False if there is no such item, or fewer than `FEWEST` rows.
    """
    if len(numbers) < FEWEST:
        return False
    order = np.argsort(codes, kind="stable") if in_order else np.lexsort((numbers, codes))
    within = np.diff(codes[order]) == 0
    return bool(within.any() and (np.diff(numbers[order])[within] == 1).all())


def fields_of(dates: pd.DatetimeIndex) -> dict[str, np.ndarray]:
    r"""Return the parts of dates: year, month, day and others.

    Arguments:
        dates: The dates of the rows.

    Returns:
        The parts by name, each with shape (rows,), int64; "week" is that of ISO 8601.
    """
    fields = {name: np.asarray(getattr(dates, name), np.int64) for name in FIELDS}
    return {**fields, "week": dates.isocalendar().week.to_numpy(np.int64)}


def spells(column: pd.Series[Any], fields: Mapping[str, np.ndarray]) -> bool:
    r"""Return whether a column of integers repeats a part of the dates, or holds dates itself.

    Arguments:
        column: The column.
        fields: The parts of the dates, from `fields_of`. Weekdays and hours may count from 1 as well.

    Returns:
        Whether it equals a part of the dates (a constant column only if its name begins with that of the part), or
        holds dates in order.
    """
    if column.isna().any():
        return False
    numbers, name = column.to_numpy(np.float64), str(column.name).lower()
    constant = bool((numbers == numbers[0]).all())
    for field, part in fields.items():
        if constant and not name.startswith(field):
            continue
        shifts = (0, 1) if field in ("dayofweek", "hour") else (0,)
        if numbers[0] - part[0] in shifts and (numbers - part == numbers[0] - part[0]).all():
            return True
    found = None if constant or numbers[0] < NUMBERED[2][0] else numbered_dates(column)
    return found is not None and found[1].is_monotonic_increasing


def of_parts(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, list[str]] | None:
    r"""Find columns that hold the parts of dates: year, month, day, hour and so on.

    Arguments:
        frame: The frame.
        names: The columns to look at.

    Returns:
        The code that joins them to dates, tested on these rows, and the columns; None if there are none, or only a
        year.
    """
    singular = {name: name.lower().removesuffix("s") for name in reversed(names)}
    column_of = {CALLED.get(short, short): name for name, short in singular.items()}
    if "quarter" in column_of and "year" in column_of and "month" not in column_of:
        year, quarter = column_of["year"], column_of["quarter"]
        code = f"frame[{year!r}].astype(str) + 'Q' + frame[{quarter!r}].astype(str)"
        quarters = parse_dates(frame[year].astype(str) + "Q" + frame[quarter].astype(str))
        return None if quarters is None or quarters.hasnans else (code, [year, quarter])
    found = []
    for part in SPLITS:
        if part not in column_of:
            break
        found.append(column_of[part])
    if len(found) < 2:
        return None
    part_of = {name: part for name, part in zip(found, SPLITS, strict=False)}
    code = (
        f"frame[{found}]"
        if all(name.lower() == part for name, part in part_of.items())
        else (f"frame[{found}].rename(columns={part_of})")
    )
    parts = {part_of[name]: written_numbers(pd.Series(frame[name].array)) for name in found}
    if any(part is None for part in parts.values()):
        return None
    if len(found) == 2:
        code, parts["day"] = f"{code}.assign(day=1)", np.ones(len(frame))
    try:
        with without_warnings():
            dates = pd.to_datetime(pd.DataFrame(parts))
    except (ValueError, TypeError, OverflowError):
        return None
    return None if dates.isna().any() else (f"pd.to_datetime({code})", found)


def joined(frame: pd.DataFrame, date: str | None, dates: pd.DatetimeIndex, names: Sequence[str]) -> str | None:
    r"""Find a column with the times of day that belong to a column of days.

    Arguments:
        frame: The frame.
        date: The column of the days, None if they are the index.
        dates: The days as read from it.
        names: The columns to look at: text or `datetime.time`, and whole numbers 0 to 24 in a column called hour.

    Returns:
        A message that names the two columns, with code that joins them to dates, tested on these rows; None if the
        dates have times of day, or no column holds any.
    """
    if dates.hasnans or (dates.normalize() != dates).any():
        return None
    days = "frame.index" if date is None else f"frame[{date!r}]"
    source = pd.Series(frame.index if date is None else frame[date].array)
    if pd.api.types.is_integer_dtype(source.dtype):
        days, source = f"{days}.astype(str)", source.astype(str)
    minutes = next((name for name in names if CALLED.get(name.lower(), name.lower()) in ("minute", "minutes")), None)
    for name in names:
        column, time_code = pd.Series(frame[name].array), f"frame[{name!r}]"
        times: pd.TimedeltaIndex | None = times_of_day(column)
        if times is None:
            times = _hours(column, name)
        if times is None:
            continue
        expected = dates.as_unit("ns") + times
        for form, way in JOINS:
            try:
                with without_warnings():
                    parsed = parse_dates(way(source, column))
            except Exception:  # of any kind: pandas cannot join these columns in this way
                continue
            if (
                parsed is not None
                and (parsed.tz is None) == (expected.tz is None)
                and parsed.as_unit("ns").equals(expected)
            ):
                whose = "the index and column" if date is None else f"columns {shown(date)} and"
                more = minutes if (dates.to_series() + times).duplicated().any() else None
                code = form.format(day=days, time=time_code)
                if more is not None:
                    code += f" + pd.to_timedelta(frame[{more!r}], unit='min')"
                also = "" if more is None else f" (and {shown(more)})"
                others = "other" if more is None else "others"
                return (
                    f"{whose} {shown(name)}{also} hold the date and the time of day: make one column of them, {code}, "
                    f"and drop the {others}"
                )
    return None


def _hours(column: pd.Series[Any], name: str) -> pd.TimedeltaIndex | None:
    r"""Return times of day given as durations, whole hours (in a column named hour or alike), or numbers as 1830."""
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        within = not column.isna().any() and column.between(pd.Timedelta(0), pd.Timedelta("1D")).all()
        return pd.TimedeltaIndex(column) if within and column.nunique() > 1 else None
    singular = name.lower().removesuffix("s")
    if singular not in (*HOURS, "time", "hhmm"):
        return None
    found = written_numbers(column)
    if found is None:
        return None
    numbers = pd.Series(found)
    if (numbers % 1).any() or numbers.nunique() < 2 or not numbers.between(0, 2400).all():
        return None
    if singular in (*HOURS, "time") and numbers.max() <= 24:
        return pd.TimedeltaIndex(pd.to_timedelta(numbers, unit="h"))
    if (numbers % 100 < 60).all() and numbers.max() > 24:
        return pd.TimedeltaIndex(pd.to_timedelta(numbers // 100 * 60 + numbers % 100, unit="min"))
    return None


def transposed(frame: pd.DataFrame) -> tuple[str, list[str]] | None:
    r"""Detect a transposed wide frame: its columns are dates.

    Arguments:
        frame: The frame; its column names are text.

    Returns:
        The code that transposes it, and the columns whose names are dates; None if these are fewer than three or than
        half of the columns, their dates have no frequency, or the other columns do not identify the rows.
    """
    dated = [name for name in frame.columns if DATE_IN_NAME.search(name)]
    if len(dated) < 3 or 2 * len(dated) < len(frame.columns):
        return None
    found = as_dates(pd.Series(dated))
    tidy = None if found is None or found[0] is not None else found[1]
    try:
        if tidy is None or not tidy.is_unique or not frequency_of(tidy, None):
            return None
    except ValueError:
        return None
    others = [name for name in frame.columns if name not in dated]
    keys = [name for name in others if not pd.api.types.is_numeric_dtype(frame[name].dtype)] or others
    drop = [name for name in others if name not in keys]
    if keys and frame[keys].duplicated().any():
        return None
    code = "frame" + (f".drop(columns={drop})" if drop else "") + (f".set_index({keys})" if keys else "")
    return f"{code}.T.rename(str)", dated

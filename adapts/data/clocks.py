r"""What tells the time in a frame: dates, times of day, parts of dates, numbers of rows; and what reads them, tried."""

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

#: Forms of dates that `parse_dates` does not guess.
FORMS = (
    "%m.%Y", "%b-%y", "%b %y", "%b%y", "%y-%b", "%y %b", "%Y-%j", "%Y/%j", "%Y%m%d %H%M", "%Y%m%d %H%M%S",
    "%Y%m%d_%H%M%S",
    "%Y%m%d-%H%M", "%Y-%m-%d_%H-%M-%S", "%Y-%m-%d-%H", "%Y-%m-%d-%H-%M", "%Y-%m-%d %H.%M", "%Y-%m-%d %H.%M.%S",
    "%d.%m.%Y %H.%M",
    "%d.%m.%Y %H.%M.%S", "%d.%m.%Y-%H:%M", "%d.%m.%Y - %H:%M", "%d.%m.%Y, %H:%M", "%d/%m/%Y:%H:%M:%S",
    "%d/%b/%Y:%H:%M:%S", "%d%b%Y", "%d%b%y", "%d%b%Y:%H:%M:%S", "%d-%m-%Y %H.%M",
)  # fmt: skip
#: Other texts of dates: the code that reads them, and what it does.
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
#: What makes dates of days, in columns of text or dates, and durations of times of day.
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
#: What makes dates of both.
JOINS: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = (
    ("{day} + ' ' + {time}", lambda day, time: day + " " + time),
    ("{day} + ' ' + {time}.str.replace('.', ':')", lambda day, time: day + " " + time.str.replace(".", ":")),
    *(
        (f"{day} + {time}", lambda days, times, of_day=of_day, of_time=of_time: of_day(days) + of_time(times))
        for (day, of_day), (time, of_time) in product(DAYS, TIMES)
    ),
)
#: Parts of dates as `pandas.to_datetime` knows them, and what else they are called, in lower case.
SPLITS = ("year", "month", "day", "hour", "minute", "second")
CALLED = {"yr": "year", "jahr": "year", "mo": "month", "mon": "month", "mnth": "month", "monat": "month", "dy": "day"}
CALLED |= {"tag": "day", "hr": "hour", "stunde": "hour", "min": "minute", "sec": "second"}
#: How many rows tell that a column numbers them.
FEWEST = 6
#: What whole hours of the day are called.
HOURS = ("hour", "hr", "hh", "he", "hour_ending", "stunde")
#: Days since 1899-12-30, as spreadsheets count them, of 1954 to 2119.
SERIAL = (20_000, 80_000)
#: What the name of a column has in it if it is a date.
DATE_IN_NAME = re.compile(r"(?<!\d)[12]\d{3}(?!\d)|(?<!\d)[12]\d{5}(?:\d\d)?(?!\d)|^\d\d?([./-])\d\d?\1\d\d$")
#: What of dates a column of whole numbers may spell out.
FIELDS = (*SPLITS, "quarter", "dayofweek", "dayofyear")


def suggested(column: pd.Series[Any]) -> tuple[str, pd.DatetimeIndex] | None:
    r"""Finds what reads a column that `parse_dates` does not read.

    Arguments:
        column: The column.

    Returns:
        The code, in which the column is called `column`, and the dates that it makes of this very column; None if
        nothing is known that does.

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
        said = ", ".join(f"{name}={value!r}" for name, value in found[0].items())
        plain = "column" if pd.api.types.is_numeric_dtype(column.dtype) else "column.astype('int64')"
        return f"pd.to_datetime({plain}, {said})", found[1]
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
                made = parse_dates(way(column)) if parse_dates(way(column[:3])) is not None else None
        except (ValueError, TypeError, OverflowError):
            continue
        if made is not None and not made.hasnans:
            return code, made
    return None


def as_dates(column: pd.Series[Any]) -> tuple[str | None, pd.DatetimeIndex] | None:
    r"""Reads dates of a column that was not said to hold any.

    Arguments:
        column: The column.

    Returns:
        The code that makes dates of it, None where they are read as they stand, and the dates; None if it holds none.
        Whole numbers are dates only if these are regular: amounts may look like years. Floats are none.
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
    r"""Reads whole numbers that number steps, whichever items they belong to.

    Arguments:
        column: The column.

    Returns:
        The numbers, or None if it holds anything but integers, or more than a tenth of them are not one more than
        another.
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
    r"""Whether numbers go up by one with each row of an item.

    Arguments:
        numbers: The whole numbers.
        codes: The item of each row.
        in_order: Whether the rows have to lie in this order.

    Returns:
        Whether they do, in each item of two rows or more, of which there is one.
    """
    if len(numbers) < FEWEST:
        return False
    order = np.argsort(codes, kind="stable") if in_order else np.lexsort((numbers, codes))
    within = np.diff(codes[order]) == 0
    return bool(within.any() and (np.diff(numbers[order])[within] == 1).all())


def fields_of(dates: pd.DatetimeIndex) -> dict[str, np.ndarray]:
    r"""Takes dates apart.

    Arguments:
        dates: The dates of the rows.

    Returns:
        Their years, months and so on, each with shape (rows,), int64; "week" is that of ISO 8601.
    """
    fields = {name: np.asarray(getattr(dates, name), np.int64) for name in FIELDS}
    return {**fields, "week": dates.isocalendar().week.to_numpy(np.int64)}


def spells(column: pd.Series[Any], fields: Mapping[str, np.ndarray]) -> bool:
    r"""Whether a column of integers says once more what the dates do.

    Arguments:
        column: The column.
        fields: The parts of the dates, as `fields_of` has them; days of the week and hours may count from 1 as well.

    Returns:
        Whether it says a part of them, one number throughout only by that part's name, or dates of its own.
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
    r"""Finds columns that spell out dates by their parts, year, month, day, hour and so on.

    Arguments:
        frame: The frame.
        names: The columns to look at.

    Returns:
        The code that makes dates of them, tried, and the columns; None if there are none, or a year alone.
    """
    plain = {name: name.lower().removesuffix("s") for name in reversed(names)}
    called = {CALLED.get(short, short): name for name, short in plain.items()}
    if "quarter" in called and "year" in called and "month" not in called:
        year, quarter = called["year"], called["quarter"]
        code = f"frame[{year!r}].astype(str) + 'Q' + frame[{quarter!r}].astype(str)"
        made = parse_dates(frame[year].astype(str) + "Q" + frame[quarter].astype(str))
        return None if made is None or made.hasnans else (code, [year, quarter])
    found = []
    for part in SPLITS:
        if part not in called:
            break
        found.append(called[part])
    if len(found) < 2:
        return None
    plain = {name: part for name, part in zip(found, SPLITS, strict=False)}
    code = (
        f"frame[{found}]"
        if all(name.lower() == part for name, part in plain.items())
        else (f"frame[{found}].rename(columns={plain})")
    )
    parts = {plain[name]: written_numbers(pd.Series(frame[name].array)) for name in found}
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
    r"""Finds a column of times of day that belongs to a column of days.

    Arguments:
        frame: The frame.
        date: The column of the days, None if they are the index.
        dates: The days as they were read.
        names: The columns to look at: text or `datetime.time`, and whole numbers 0 to 24 called hour.

    Returns:
        What the two columns hold and the code that makes dates of both, tried on these rows; None if the dates have
        times of day, or no column belongs to them.
    """
    if dates.hasnans or (dates.normalize() != dates).any():
        return None
    days = "frame.index" if date is None else f"frame[{date!r}]"
    source = pd.Series(frame.index if date is None else frame[date].array)
    if pd.api.types.is_integer_dtype(source.dtype):
        days, source = f"{days}.astype(str)", source.astype(str)
    minutes = next((name for name in names if CALLED.get(name.lower(), name.lower()) in ("minute", "minutes")), None)
    for name in names:
        column, held = pd.Series(frame[name].array), f"frame[{name!r}]"
        times: pd.TimedeltaIndex | None = times_of_day(column)
        if times is None:
            times = _hours(column, name)
        if times is None:
            continue
        right = dates.as_unit("ns") + times
        for form, way in JOINS:
            try:
                with without_warnings():
                    made = parse_dates(way(source, column))
            except Exception:  # of whatever kind: pandas joins no such columns in this way
                continue
            if made is not None and (made.tz is None) == (right.tz is None) and made.as_unit("ns").equals(right):
                whose = "the index and column" if date is None else f"columns {shown(date)} and"
                more = minutes if (dates.to_series() + times).duplicated().any() else None
                code = form.format(day=days, time=held)
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
    r"""Times of day that are durations, whole hours by a name such as hour, or numbers such as 1830."""
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        within = not column.isna().any() and column.between(pd.Timedelta(0), pd.Timedelta("1D")).all()
        return pd.TimedeltaIndex(column) if within and column.nunique() > 1 else None
    called = name.lower().removesuffix("s")
    if called not in (*HOURS, "time", "hhmm"):
        return None
    found = written_numbers(column)
    if found is None:
        return None
    numbers = pd.Series(found)
    if (numbers % 1).any() or numbers.nunique() < 2 or not numbers.between(0, 2400).all():
        return None
    if called in (*HOURS, "time") and numbers.max() <= 24:
        return pd.TimedeltaIndex(pd.to_timedelta(numbers, unit="h"))
    if (numbers % 100 < 60).all() and numbers.max() > 24:
        return pd.TimedeltaIndex(pd.to_timedelta(numbers // 100 * 60 + numbers % 100, unit="min"))
    return None


def transposed(frame: pd.DataFrame) -> tuple[str, list[str]] | None:
    r"""Finds a wide frame that lies on its side: its columns are dates.

    Arguments:
        frame: The frame, whose columns have text as names.

    Returns:
        The code that stands it up, tried, and the columns that are dates; None if fewer than three are, or half.
    """
    named = [name for name in frame.columns if DATE_IN_NAME.search(name)]
    if len(named) < 3 or 2 * len(named) < len(frame.columns):
        return None
    found = as_dates(pd.Series(named))
    tidy = None if found is None or found[0] is not None else found[1]
    try:
        if tidy is None or not tidy.is_unique or not frequency_of(tidy, None):
            return None
    except ValueError:
        return None
    rest = [name for name in frame.columns if name not in named]
    keys = [name for name in rest if not pd.api.types.is_numeric_dtype(frame[name].dtype)] or rest
    drop = [name for name in rest if name not in keys]
    if keys and frame[keys].duplicated().any():
        return None
    code = "frame" + (f".drop(columns={drop})" if drop else "") + (f".set_index({keys})" if keys else "")
    return f"{code}.T.rename(str)", named

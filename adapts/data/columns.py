r"""Columns of a frame: reading numbers and item names, and naming columns in messages."""

from __future__ import annotations

__all__ = [
    "COMMA", "NUMBER", "are_grouped",
    "as_array", "groups", "joined_names", "named", "names_in", "numeric", "require_plain", "strange", "text",
    "text_as_numbers", "why_not_numeric", "written_numbers",
]  # fmt: skip

import datetime
import enum
import math
import numbers
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ..errors import few, reading, shown
from .date_parsing import parse_dates
from .options import label

#: A number as text. Longer exponents exceed float64, and `pandas.to_numeric` crashes on some of them.
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,4})?", re.ASCII | re.IGNORECASE)
#: A number as text with a decimal comma, with or without dots as thousands separators.
COMMA = re.compile(r"[-+]?(?:(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d*)?|,\d+)(?:e[-+]?\d{1,4})?", re.ASCII | re.IGNORECASE)
#: A number whose marks may separate thousands: three digits after each, and no leading 0.
GROUPED = {
    mark: re.compile(rf"[-+]?(?:[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+|\d{{1,3}})", re.ASCII) for mark in ".,"
}
#: Text that crashes `pandas.to_numeric`: no message may recommend that call for it.
LONG_EXPONENT = re.compile(r"[-+]?[\d.,]+e[-+]?\d{5,}", re.ASCII | re.IGNORECASE)
#: The longest text that is read as a number.
MOST_DIGITS = 25
#: Texts of missing and infinite numbers.
NO_NUMBER = ("nan", "inf", "infinity")
#: The types of entries allowed in columns of objects.
PLAIN = (
    str, bytes, numbers.Number, np.generic, datetime.date, datetime.time, datetime.timedelta, pd.Period, pd.Interval,
    type(None), type(pd.NA), uuid.UUID, enum.Enum,
)  # fmt: skip
#: Thousands separators and decimal marks.
THOUSANDS, DECIMALS = (",", " ", "'", "\u2019", "\u00a0", "\u202f", "[ '\u2019\u00a0\u202f]", "."), (".", ",")


def strange(column: pd.Series[Any]) -> str | None:
    r"""Find entries that no column may hold: lists, mappings and other objects.

    Arguments:
        column: The column.

    Returns:
        The type of these entries and the place of the first one, for a message; None if there are none.
    """
    kind = column.dtype
    if isinstance(kind, pd.ArrowDtype):
        import pyarrow

        return f"{kind.pyarrow_dtype}" if pyarrow.types.is_nested(kind.pyarrow_dtype) else None
    entries = column.cat.categories if isinstance(kind, pd.CategoricalDtype) else column
    if not pd.api.types.is_object_dtype(entries.dtype):
        return None
    values = entries.to_numpy()
    found = set(map(type, values))
    odd = {entry_type for entry_type in found if not issubclass(entry_type, PLAIN)}
    signalling = any(issubclass(entry_type, Decimal) for entry_type in found) and any(
        isinstance(value, Decimal) and value.is_snan() for value in values
    )
    if not odd and not signalling:
        return None
    row = next(
        n for n, value in enumerate(values) if type(value) in odd or isinstance(value, Decimal) and value.is_snan()
    )
    return f"{type(values[row]).__name__} (first: {shown(values[row])} in row {row})"


def require_plain(column: pd.Series[Any], whose: str, expected: str) -> None:
    r"""Check that a column holds text, numbers or dates, and no other objects.

    Arguments:
        column: The column.
        whose: What it is, at the beginning of the message: `"column 'shop'"`.
        expected: What is expected in it.

    Raises:
        ValueError: If it holds other objects.
    """
    found = strange(column)
    if found is not None:
        raise ValueError(
            f"{whose} holds {found}: expected {expected}; make text or numbers of them, or drop the column"
        )


def names_in(
    column: pd.Series[Any], noun: str, as_text: Callable[[Any], str] = str
) -> tuple[np.ndarray, pd.Index[Any]]:
    r"""Read a column of names.

    Arguments:
        column: The column.
        noun: What they name, for messages, as `"item"`.
        as_text: The function that turns an entry into text.

    Returns:
        The number of the name in each row, -1 where it is missing, and the names in the order in which they first come.

    Raises:
        ValueError: If entries are no names, or a number and a text would be the same name.
    """
    require_plain(column, f"column {shown(column.name)}", f"names of {noun}s")
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column.dt.as_unit("ns")  # raises where dates are out of range, on some of which pandas crashes
    column = column.astype(object)
    codes, names = pd.factorize(column.map(as_text, na_action="ignore"))
    kinds = set(map(type, column.to_numpy()))
    if any(issubclass(kind, str) for kind in kinds) and not all(issubclass(kind, str) for kind in kinds):
        entries = column[column.notna()]
        textual = entries.map(lambda entry: isinstance(entry, str)).to_numpy(dtype=bool)
        both = set(entries[textual]) & set(entries[~textual].map(as_text))
        if both:
            raise ValueError(
                f"column {shown(column.name)} holds the {noun} {shown(min(both))} as text, and as a number that is "
                "the same "
                f"text: make them one type, frame[{shown(column.name)}].map(str) if both are the same {noun}, or "
                "rename one"
            )
    for name in names:
        label(name, f"{'an' if noun[0] in 'aeiou' else 'a'} {noun} in column {shown(column.name)}")
    return codes, names


def groups(ids: pd.Series[Any]) -> dict[str, np.ndarray]:
    r"""Return the rows of each item, with items in the order of their first rows."""
    codes, names = names_in(ids, "item")
    if (codes < 0).any():
        raise ValueError(
            f"column {shown(ids.name)} names no item in row {int(np.argmin(codes))}: every row needs its item"
        )
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    return dict(zip(names, rows, strict=True))


def joined_names(frame: pd.DataFrame, keys: Sequence[str]) -> pd.Series[Any]:
    r"""Join the entries of several columns that name an item together into one name: "north/soap".

    Arguments:
        frame: The frame.
        keys: The columns.

    Returns:
        The names, None where an entry is missing.

    Raises:
        ValueError: If entries are no names, or different entries would give the same name.
    """
    parts, codes = [], []
    for key in keys:
        code, names = names_in(frame[key], "item")
        codes.append(code)
        parts.append(pd.Series([*names, None], dtype=object).to_numpy()[code])
    complete = np.min(codes, axis=0) >= 0
    table = pd.DataFrame(np.column_stack(parts)[complete], columns=range(len(keys)))
    joined = table.agg("/".join, axis=1) if len(table) else pd.Series([], dtype=object)
    distinct = table.assign(made=joined).drop_duplicates()
    if distinct["made"].duplicated().any():
        twice = distinct["made"][distinct["made"].duplicated()].iloc[0]
        raise ValueError(
            f"different entries of columns {few(keys)} would make the same name, {shown(twice)}: take the / out of "
            f"them, frame[{shown(keys[0])}].str.replace('/', '-')"
        )
    found = np.full(len(frame), None, dtype=object)
    found[complete] = joined.to_numpy(dtype=object)
    return pd.Series(found, frame.index, name="/".join(keys))


def are_grouped(texts: pd.Series[Any], mark: str = ".") -> bool:
    r"""Return whether the marks in numbers may separate thousands, as in 1.043 beside 974.

    Arguments:
        texts: The numbers as text, none missing.
        mark: The dot or the comma.

    Returns:
        Whether some numbers have marks, three digits follow each mark, and no number without a mark has four digits.
    """
    return bool(texts.str.fullmatch(GROUPED[mark]).all() and texts.str.contains(mark, regex=False).any())


def text_as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    r"""Convert a column of text to numbers if they can be written back as the same text (`"1"`, not `"001"`).

    Arguments:
        column: Text, or None where it is missing.

    Returns:
        The numbers, or the column itself.
    """
    for kind in (int, float):
        number_of = {entry: _number(entry, kind) for entry in column.dropna().unique()}
        if all(number is not None for number in number_of.values()):
            return column.map(number_of).astype(np.int64 if kind is int and column.notna().all() else np.float64)
    return column


def _number(entry: str, kind: type[int] | type[float]) -> int | float | None:
    r"""Return the number that a text writes, None unless it is written back the same; integers fit 64 bits."""
    if (
        len(entry) > MOST_DIGITS
        or not NUMBER.fullmatch(entry)
        or (kind is int and (not entry.lstrip("-").isdigit() or len(entry) > 18))
    ):
        return None
    number = kind(entry)
    return number if str(number) == entry else None


def numeric(column: pd.Series[Any]) -> np.ndarray | None:
    r"""Return a column as float64 with NaN for missing values; None if it is not numeric."""
    kind = column.dtype
    with reading(f"column {shown(column.name)} cannot be read as float64", "divide it by a power of ten, or drop it"):
        if pd.api.types.is_object_dtype(kind):
            if strange(column) is not None or pd.api.types.infer_dtype(column, skipna=True) not in (
                "floating",
                "integer",
                "mixed-integer-float",
                "decimal",
                "boolean",
                "empty",
            ):
                return None
            return column.where(column.notna(), np.nan).to_numpy().astype(np.float64)
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
            return None
        return column.to_numpy(dtype=np.float64, na_value=np.nan)


def written_numbers(column: pd.Series[Any]) -> np.ndarray | None:
    r"""Return a column of finite numbers, or of text that writes them, as float64; None for any other."""
    found = numeric(column)
    if found is None and not strange(column):
        entries = {entry: entry.strip() if isinstance(entry, str) else "" for entry in column.dropna().unique()}
        if all(len(stripped) <= MOST_DIGITS and NUMBER.fullmatch(stripped) for stripped in entries.values()):
            found = column.map({entry: float(stripped) for entry, stripped in entries.items()}).to_numpy(np.float64)
    return None if found is None or not np.isfinite(found).all() else found


def why_not_numeric(column: pd.Series[Any], dated: bool) -> str:
    r"""Explain what a column that is not numeric holds, and how to convert it."""
    name, odd = column.name, strange(column)
    if odd is not None:
        return f"column {shown(name)} holds {odd}"
    present = column.dropna()
    if not len(present):
        return f"column {shown(name)} holds no value at all, and is {column.dtype}: drop it"
    first = shown(present.iloc[0])
    if pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype):
        texts = present.map(lambda entry: entry if isinstance(entry, str) else shown(entry)).str.strip()
        huge = np.array([_is_huge(entry) for entry in texts])
        bad = np.array([not _is_number(entry) for entry in texts])
        bad |= huge
        if not bad.any() and are_grouped(texts):
            dotted = texts[texts.str.contains(".", regex=False)]
            return (
                f"column {shown(name)} holds numbers as text, and three figures are behind each dot (first: "
                f"{shown(dotted.iloc[0])}): pd.to_numeric(column.str.replace('.', '')) if these are thousands, "
                "pd.to_numeric(column) if they are decimals"
            )
        if not bad.any():
            return f"column {shown(name)} holds numbers as text (first: {first}): convert it with pd.to_numeric"
        rows = np.flatnonzero(column.notna())
        has_digits = bad & texts.str.contains(r"\d").to_numpy()
        notation = _notation(texts[has_digits]) if 2 * has_digits.sum() >= bad.sum() else None
        if notation is not None:
            what, remedy = notation
            number = int(has_digits.argmax())
            plain = texts[~bad & texts.str.contains(".", regex=False).to_numpy()]
            if what.endswith("comma") and not plain.str.fullmatch(GROUPED["."]).all():
                return (
                    f"column {shown(name)} holds numbers in two notations ({shown(texts.iloc[number])} in row "
                    f"{rows[number]}, and {shown(plain.iloc[0])}): write all of them with a decimal point"
                )
            where = f"first: {shown(texts.iloc[number])} in row {rows[number]}"
            return f"column {shown(name)} holds {what} ({where}): {remedy}"
        number = int(huge.argmax()) if huge.any() else int(bad.argmax())
        first = f"{shown(present.iloc[number])} in row {rows[number]}"
        if bad.mean() < 0.5:
            return f"column {shown(name)} holds numbers as text, and some entries that are none (first: {first}): " + (
                "correct those that are larger than float64 holds or have exponents of five digits, or leave them out"
                if huge.any()
                else "convert it with pd.to_numeric(..., errors='coerce') if these are missing values"
            )
    if not dated and not isinstance(column.dtype, pd.CategoricalDtype) and parse_dates(present) is not None:
        return f"column {shown(name)} holds dates: name it with timestamp_column= (--timestamp-column)"
    return f"column {shown(name)} holds {column.dtype} (first: {first})"


def _notation(texts: pd.Series[Any]) -> tuple[str, str] | None:
    r"""Describe the notation of numbers that `float` cannot read, with code that reads these texts."""

    def reads(group: str, decimal: str) -> str | None:
        r"""Return the code for a thousands separator and a decimal mark; None if some texts have other notation."""
        mark = group if group.startswith("[") else re.escape(group)
        grouped = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+" if group else r"\d+"
        pattern = rf"[-+]?(?:{grouped}|\d+|(?={re.escape(decimal)}))(?:{re.escape(decimal)}\d*)?"
        if not texts.str.fullmatch(pattern).all() or not texts.str.contains(mark or decimal).any():
            return None
        regex = ", regex=True" if group.startswith("[") else ""
        code = f"column.str.replace({ascii(group)}, ''{regex})" if group else "column"
        has_decimals = decimal == "," and bool(texts.str.contains(",", regex=False).any())
        point = ".str.replace(',', '.')" if has_decimals else ""
        return f"pd.to_numeric({code}{point})"

    if texts.str.fullmatch(r"[-+]?[\d.,]+\s*%").all():
        return "percents", "take the sign off, pd.to_numeric(column.str.rstrip('% '))"
    decimals = reads("", ",")
    for group in THOUSANDS:
        code = next((code for mark in DECIMALS if mark != group and (code := reads(group, mark)) is not None), None)
        if code is None:
            continue
        if group == "," and decimals is not None:
            return "what looks like numbers with a comma before thousands or before decimals", (
                f"{code} if these are thousands, {decimals} if they are decimals"
            )
        if group == "." and "','" in code:
            return "what looks like numbers with a decimal comma", f"write a point, {code}"
        return "what looks like numbers with separators of thousands", f"take them out, {code}"
    return None if decimals is None else ("what looks like numbers with a decimal comma", f"write a point, {decimals}")


def _is_number(entry: str) -> bool:
    r"""Return whether a text is a number, a missing or an infinite one included."""
    entry = entry.strip()
    return bool(NUMBER.fullmatch(entry)) or entry.lower().lstrip("+-") in NO_NUMBER


def _is_huge(entry: str) -> bool:
    r"""Return whether a text is a number beyond float64, or one that crashes `pandas.to_numeric`."""
    if LONG_EXPONENT.fullmatch(entry):
        return True
    return bool(NUMBER.fullmatch(entry)) and not math.isfinite(float(entry))


def _unbounded_type(values: Any) -> type | None:
    r"""Find a type that numpy could index forever: indexable, but neither a sequence nor an array."""
    kind = type(values)
    if issubclass(kind, list | tuple):
        if all(issubclass(entry_type, PLAIN) for entry_type in set(map(type, values))):
            return None
        return next((found for found in map(_unbounded_type, values) if found is not None), None)
    if issubclass(kind, (*PLAIN, Sequence, memoryview)) or hasattr(kind, "__array__"):
        return None
    return kind if hasattr(kind, "__getitem__") else None


def as_array(values: Any) -> np.ndarray:
    r"""Convert nested sequences of numbers to a float64 array; None and text such as "NaN" become NaN.

    Text is read only if JSON or CSV would write a number so: `float` would read "1_0" as 10.

    Arguments:
        values: The numbers.

    Returns:
        The array.

    Raises:
        ValueError: If some entries are no numbers, or the sequences have unequal lengths.
    """
    if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
        values = values.tolist()  # an array of arrays, as from Arrow
    expected = f"expected numbers in a (T,), (T, D) or (N, T, D) arrangement, got {type(values).__name__}"
    remedy = "write numbers, None where one is missing, and a list of arrays for items of unequal length"
    with reading(expected, remedy):
        indexable = _unbounded_type(values)
    if indexable is not None:
        raise ValueError(f"{expected} with an object of type {shown(indexable.__name__)} for numbers: {remedy}")
    with reading(expected, remedy):
        array = np.asarray(values, dtype=np.float64)  # first, because this refuses objects of any kind
        raw = np.asarray(values)
        entries = [entry for entry in raw.flat if isinstance(entry, str | bytes)] if raw.dtype.kind in "USO" else []
        texts = [entry.decode() if isinstance(entry, bytes) else entry for entry in entries]
    odd = next((entry for entry in texts if not _is_number(entry)), None)
    if odd is not None:
        raise ValueError(f"{expected} with {shown(str(odd))}: {remedy}")
    return array


def text(value: Any) -> str:
    r"""Return a name as text; a whole float is written as an integer."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def named(noun: str, names: Sequence[str]) -> str:
    r"""Return the subject and verb of a sentence: "column 'a' is", "columns a, b are"."""
    return f"{noun} {shown(names[0])} is" if len(names) == 1 else f"{noun}s {few(names)} are"

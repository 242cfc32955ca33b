r"""The columns of a frame: numbers, items, and how they are named in messages."""

from __future__ import annotations

__all__ = [
    "COMMA", "NUMBER", "are_grouped",
    "as_array", "groups", "joined_names", "listed", "named", "names_in", "numeric", "require_plain", "strange", "text",
    "text_as_numbers", "why_not_numeric", "written_numbers",
]  # fmt: skip

import datetime
import enum
import math
import numbers
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ..errors import reading, shown
from .date_parsing import parse_dates
from .options import label

#: A number as text. Longer exponents are beyond float64, and `pandas.to_numeric` crashes on some of them.
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,4})?", re.ASCII | re.IGNORECASE)
#: A number with a decimal comma as text, with or without dots of thousands.
COMMA = re.compile(r"[-+]?(?:(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d*)?|,\d+)(?:e[-+]?\d{1,4})?", re.ASCII | re.IGNORECASE)
#: A number whose marks may stand before thousands: three figures are behind each, and no 0 before the first.
GROUPED = {
    mark: re.compile(rf"[-+]?(?:[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+|\d{{1,3}})", re.ASCII) for mark in ".,"
}
#: Text that `pandas.to_numeric` must not be given, and that none of our messages may lead to it.
LONG_EXPONENT = re.compile(r"[-+]?[\d.,]+e[-+]?\d{5,}", re.ASCII | re.IGNORECASE)
#: The longest text that is taken for a number.
MOST_DIGITS = 25
#: What stands for no number, or none that is finite.
NO_NUMBER = ("nan", "inf", "infinity")
#: The types of the entries that columns of objects are read from.
PLAIN = (
    str, bytes, numbers.Number, np.generic, datetime.date, datetime.time, datetime.timedelta, pd.Period, pd.Interval,
    type(None), type(pd.NA), uuid.UUID, enum.Enum,
)  # fmt: skip
#: Marks that people write between thousands, and before decimals.
THOUSANDS, DECIMALS = (",", " ", "'", "\u2019", "\u00a0", "\u202f", "[ '\u2019\u00a0\u202f]", "."), (".", ",")


def strange(column: pd.Series[Any]) -> str | None:
    r"""Finds what no column may hold that is read: lists, mappings and other objects.

    Arguments:
        column: The column.

    Returns:
        What it holds and where the first one is, or None if it holds none.
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
    odd = {each for each in found if not issubclass(each, PLAIN)}
    signalling = any(issubclass(each, Decimal) for each in found) and any(
        isinstance(value, Decimal) and value.is_snan() for value in values
    )
    if not odd and not signalling:
        return None
    row = next(
        n for n, value in enumerate(values) if type(value) in odd or isinstance(value, Decimal) and value.is_snan()
    )
    return f"{type(values[row]).__name__} (first: {shown(values[row])} in row {row})"


def require_plain(column: pd.Series[Any], whose: str, expected: str) -> None:
    r"""Checks that a column holds text, numbers or dates, and no other objects.

    Arguments:
        column: The column.
        whose: What it is, as it begins the message: `"column 'shop'"`.
        expected: What is expected there.

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
    r"""Reads a column whose entries are names.

    Arguments:
        column: The column.
        noun: What they name, for messages, as `"item"`.
        as_text: Makes text of an entry.

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
    r"""The rows of each item, in the order in which the items first come."""
    codes, names = names_in(ids, "item")
    if (codes < 0).any():
        raise ValueError(
            f"column {shown(ids.name)} names no item in row {int(np.argmin(codes))}: every row needs its item"
        )
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    return dict(zip(names, rows, strict=True))


def joined_names(frame: pd.DataFrame, keys: Sequence[str]) -> pd.Series[Any]:
    r"""Makes one name of the entries of several columns that name an item together: "north/soap".

    Arguments:
        frame: The frame.
        keys: The columns.

    Returns:
        The names, None where an entry is missing.

    Raises:
        ValueError: If entries are no names, or different ones would make the same name.
    """
    parts, codes = [], []
    for key in keys:
        code, names = names_in(frame[key], "item")
        codes.append(code)
        parts.append(pd.Series([*names, None], dtype=object).to_numpy()[code])
    whole = np.min(codes, axis=0) >= 0
    table = pd.DataFrame(np.column_stack(parts)[whole], columns=range(len(keys)))
    made = table.agg("/".join, axis=1) if len(table) else pd.Series([], dtype=object)
    both = table.assign(made=made).drop_duplicates()
    if both["made"].duplicated().any():
        twice = both["made"][both["made"].duplicated()].iloc[0]
        raise ValueError(
            f"different entries of columns {listed(keys)} would make the same name, {shown(twice)}: take the / out of "
            f"them, frame[{shown(keys[0])}].str.replace('/', '-')"
        )
    found = np.full(len(frame), None, dtype=object)
    found[whole] = made.to_numpy(dtype=object)
    return pd.Series(found, frame.index, name="/".join(keys))


def are_grouped(texts: pd.Series[Any], mark: str = ".") -> bool:
    r"""Whether the marks in numbers may stand before thousands, as in 1.043 beside 974.

    Arguments:
        texts: The numbers as text, none missing.
        mark: The dot or the comma.

    Returns:
        Whether some have marks, each with three figures behind it, and no number of four figures has none.
    """
    return bool(texts.str.fullmatch(GROUPED[mark]).all() and texts.str.contains(mark, regex=False).any())


def text_as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    r"""Makes numbers of a column of text if they say all that the text did: `"1"`, and neither `"001"` nor `"1e3"`.

    Arguments:
        column: Text, or None where it is missing.

    Returns:
        The numbers, or the column itself.
    """
    for kind in (int, float):
        said = {entry: _number(entry, kind) for entry in column.dropna().unique()}
        if all(number is not None for number in said.values()):
            return column.map(said).astype(np.int64 if kind is int and column.notna().all() else np.float64)
    return column


def _number(entry: str, kind: type[int] | type[float]) -> int | float | None:
    r"""The number that a text is, None unless writing it gives the same text; whole ones are those of 64 bits."""
    if (
        len(entry) > MOST_DIGITS
        or not NUMBER.fullmatch(entry)
        or (kind is int and (not entry.lstrip("-").isdigit() or len(entry) > 18))
    ):
        return None
    number = kind(entry)
    return number if str(number) == entry else None


def numeric(column: pd.Series[Any]) -> np.ndarray | None:
    r"""A column as float64, missing values as NaN; None if it is not numeric."""
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
    r"""A column as float64 where it is numeric, or text that writes plain numbers, none of them missing; else None."""
    found = numeric(column)
    if found is None and not strange(column):
        entries = {entry: entry.strip() if isinstance(entry, str) else "" for entry in column.dropna().unique()}
        if all(len(entry) <= MOST_DIGITS and NUMBER.fullmatch(entry) for entry in entries.values()):
            found = column.map({entry: float(plain) for entry, plain in entries.items()}).to_numpy(np.float64)
    return None if found is None or not np.isfinite(found).all() else found


def why_not_numeric(column: pd.Series[Any], dated: bool) -> str:
    r"""What a column that is not numeric holds instead, and what to do about it."""
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
        figures = bad & texts.str.contains(r"\d").to_numpy()
        written = _notation(texts[figures]) if 2 * figures.sum() >= bad.sum() else None
        if written is not None:
            what, remedy = written
            number = int(figures.argmax())
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
    r"""What notation numbers are written in that `float` does not read, and the code that reads these very ones."""

    def reads(group: str, decimal: str) -> str | None:
        r"""The code for a mark of thousands and one of decimals; None if some numbers are written otherwise."""
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
    r"""Whether a text is a number, or stands for none or for one that is not finite."""
    entry = entry.strip()
    return bool(NUMBER.fullmatch(entry)) or entry.lower().lstrip("+-") in NO_NUMBER


def _is_huge(entry: str) -> bool:
    r"""Whether a text is a number that no float64 holds, or one that `pandas.to_numeric` must not be given."""
    if LONG_EXPONENT.fullmatch(entry):
        return True
    return bool(NUMBER.fullmatch(entry)) and not math.isfinite(float(entry))


def _endless(values: Any) -> type | None:
    r"""Finds a type that numpy would index entry by entry, perhaps without end: indexable, and no sequence or array."""
    kind = type(values)
    if issubclass(kind, list | tuple):
        if all(issubclass(each, PLAIN) for each in set(map(type, values))):
            return None
        return next((found for found in map(_endless, values) if found is not None), None)
    if issubclass(kind, (*PLAIN, Sequence, memoryview)) or hasattr(kind, "__array__"):
        return None
    return kind if hasattr(kind, "__getitem__") else None


def as_array(values: Any) -> np.ndarray:
    r"""Numbers in whatever nested sequences as a float64 array; None and text such as "NaN" become NaN.

    Text is read only where it is a number as JSON or CSV write it: `float` reads "1_0" as 10.

    Arguments:
        values: The numbers.

    Returns:
        The array.

    Raises:
        ValueError: If they are no numbers, or make no array.
    """
    if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
        values = values.tolist()  # an array of arrays, as Arrow has it
    expected = f"expected numbers in a (T,), (T, D) or (N, T, D) arrangement, got {type(values).__name__}"
    remedy = "write numbers, None where one is missing, and a list of arrays for items of unequal length"
    with reading(expected, remedy):
        indexable = _endless(values)
    if indexable is not None:
        raise ValueError(f"{expected} with an object of type {shown(indexable.__name__)} for numbers: {remedy}")
    with reading(expected, remedy):
        made = np.asarray(values, dtype=np.float64)  # first, as it refuses objects, whatever these pretend to be
        found = np.asarray(values)
        entries = [each for each in found.flat if isinstance(each, str | bytes)] if found.dtype.kind in "USO" else []
        texts = [each.decode() if isinstance(each, bytes) else each for each in entries]
    odd = next((entry for entry in texts if not _is_number(entry)), None)
    if odd is not None:
        raise ValueError(f"{expected} with {shown(str(odd))}: {remedy}")
    return made


def text(value: Any) -> str:
    r"""A name as text; a whole float as the integer that it is elsewhere."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def listed(names: Iterable[Any]) -> str:
    r"""Names as a message lists them, the first ten and the last where they are many, long ones cut."""
    said = [name if len(name) <= 80 else f"{name[:60]} ..." for name in map(str, names)]
    return ", ".join(said if len(said) <= 12 else [*said[:10], "...", said[-1]])


def named(noun: str, names: Sequence[str]) -> str:
    r"""The subject of a sentence: "column 'a' is", "columns a, b are"."""
    return f"{noun} {shown(names[0])} is" if len(names) == 1 else f"{noun}s {listed(names)} are"

r"""The columns of a frame: numbers, items, and how they are named in messages."""

from __future__ import annotations

__all__ = ["as_array", "groups", "listed", "named", "numeric", "text", "why_not_numeric"]

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..dates import parse_dates

#: Numbers as people write them and float() does not: what they look like, and what to do about them.
WRITTEN = (
    (
        "percents",
        r"[-+]?[\d.,]+\s*%",
        "take the sign off, pd.to_numeric(column.str.rstrip('% '))",
    ),
    (
        "what looks like numbers with separators of thousands",
        r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?|[-+]?\d{1,3}(?:[ '\u2019\u00a0\u202f]\d{3})+(?:[.,]\d*)?",
        "take them out, pd.to_numeric(column.str.replace(r\"[, ']\", '', regex=True)); read_csv has thousands=','",
    ),
    (
        "what looks like numbers with a decimal comma",
        r"[-+]?(?:\d+|\d{1,3}(?:\.\d{3})+)?,\d+|[-+]?\d{1,3}(?:\.\d{3}){2,}",
        "write a point, pd.to_numeric(column.str.replace('.', '').str.replace(',', '.')); read_csv has decimal=','",
    ),
)


def groups(ids: pd.Series[Any]) -> dict[str, np.ndarray]:
    r"""The rows of each item, in the order in which the items first come."""
    codes, names = pd.factorize(ids.map(str, na_action="ignore"))
    if (codes < 0).any():
        raise ValueError(f"column {ids.name!r} names no item in row {int(np.argmin(codes))}: every row needs its item")
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    return dict(zip(names, rows, strict=True))


def numeric(column: pd.Series[Any]) -> np.ndarray | None:
    r"""A column as float64, missing values as NaN; None if it is not numeric."""
    kind = column.dtype
    if pd.api.types.is_object_dtype(kind) and pd.api.types.infer_dtype(column, skipna=True) in (
        "floating",
        "integer",
        "mixed-integer-float",
        "decimal",
        "boolean",
        "empty",
    ):
        return np.asarray(pd.to_numeric(column.astype(object).where(column.notna(), np.nan)), dtype=np.float64)
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        return None
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def why_not_numeric(column: pd.Series[Any], dated: bool) -> str:
    r"""What a column that is not numeric holds instead, and what to do about it."""
    name, present = column.name, column.dropna()
    first = repr(present.iloc[0])
    if pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype):
        texts = present.astype(str).str.strip()
        bad = (pd.to_numeric(present, errors="coerce").isna() & (texts.str.lower() != "nan")).to_numpy()
        if not bad.any():
            return f"column {name!r} holds numbers as text (first: {first}): convert it with pd.to_numeric"
        rows = np.flatnonzero(column.notna())
        figures = bad & texts.str.contains(r"\d").to_numpy()
        for what, pattern, remedy in WRITTEN if 2 * figures.sum() >= bad.sum() else ():
            if texts[figures].str.fullmatch(pattern).all():
                number = int(figures.argmax())
                return f"column {name!r} holds {what} (first: {texts.iloc[number]!r} in row {rows[number]}): {remedy}"
        number = int(bad.argmax())
        first = f"{present.iloc[number]!r} in row {rows[number]}"
        if bad.mean() < 0.5:
            return (
                f"column {name!r} holds numbers as text, and some entries that are none (first: {first}): convert it "
                "with pd.to_numeric(..., errors='coerce') if these are missing values"
            )
    if not dated and not isinstance(column.dtype, pd.CategoricalDtype) and parse_dates(present) is not None:
        return f"column {name!r} holds dates: name it with timestamp_column= (--timestamp-column)"
    return f"column {name!r} holds {column.dtype} (first: {first})"


def as_array(values: Any) -> np.ndarray:
    r"""Numbers in whatever nested sequences as a float64 array; None and text such as "NaN" become NaN."""
    if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
        values = values.tolist()  # an array of arrays, as Arrow has it
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected numbers in a (T,), (T, D) or (N, T, D) arrangement, got {type(values).__name__}: {error}; "
            "items of unequal length go in a list of arrays"
        ) from None


def text(value: Any) -> str:
    r"""A name as text; a whole float as the integer that it is elsewhere."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def listed(names: Iterable[Any]) -> str:
    r"""Names as a message lists them, the first ten and the last where they are many."""
    shown = [str(name) for name in names]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:10], "...", shown[-1]])


def named(noun: str, names: Sequence[str]) -> str:
    r"""The subject of a sentence: "column 'a' is", "columns a, b are"."""
    return f"{noun} {names[0]!r} is" if len(names) == 1 else f"{noun}s {listed(names)} are"

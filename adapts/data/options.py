r"""Options of reading data, checked before anything is read."""

from __future__ import annotations

__all__ = ["column_names", "label", "reading_options"]

import datetime
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import checks
from ..errors import reading, shown, unforeseen
from .frequency import frequency_name

#: The names, in any case, by which an item column is recognised. A column `id` often is something else.
ITEM_NAMES = ("item_id", "unique_id", "series_id", "time_series_id", "ts_id", "series_name", "id")
TIMESTAMP_NAMES = ("timestamp", "date", "time", "ds", "datetime")
#: The longest name of a column or an item, in characters: names appear in messages and file names.
LONGEST_NAME = 500


def label(name: Any, whose: str = "a column") -> str:
    r"""Convert a name to text.

    Arguments:
        name: The name of a column, of an item or of a category.
        whose: What it names, for the message.

    Returns:
        The name as text.

    Raises:
        ValueError: If it cannot be written as text, is too long, or contains characters that UTF-8 cannot encode.
    """
    if isinstance(name, str):
        text = str(name)
    else:
        with reading(f"{whose} has a {type(name).__name__} as its name, which cannot be written as text", "rename it"):
            text = str(name)
    if len(text) > LONGEST_NAME:
        raise ValueError(
            f"{whose} is called {shown(text)}: a name has at most {LONGEST_NAME} characters, this one has {len(text)}"
        )
    if not text.isascii():
        with reading(f"{whose} is called {shown(text)}, which UTF-8 cannot write", "rename it"):
            text.encode()
    return text


@unforeseen("these names of columns cannot be read", "pass plain text, or a list of it")
def column_names(option: str, given: Any) -> list[str]:
    r"""Check an option that names columns.

    Arguments:
        option: The name of the option, for the message.
        given: One name or a sequence of several.

    Returns:
        The names as text.

    Raises:
        ValueError: If these are no names.
    """
    names = [given] if isinstance(given, str) else given
    flat = isinstance(names, np.ndarray) and names.ndim == 1 or isinstance(names, Sequence | pd.Index)
    if not flat or isinstance(names, bytes | bytearray | memoryview):
        raise ValueError(f"expected {option} to name columns, as 'a' or ['a', 'b'], got {shown(given)}")
    for name in names:
        if not isinstance(name, str | numbers.Real | np.generic | tuple | datetime.date):
            raise ValueError(f"expected {option} to name columns, as 'a' or ['a', 'b'], got {shown(name)} among them")
    return [label(name, f"a column that {option} names") for name in names]


@unforeseen("these options cannot be read", "pass plain text, or a list of it")
def reading_options(
    *,
    target: Any = None,
    item_column: Any = None,
    timestamp_column: Any = None,
    frequency: Any = None,
    regularise: Any = False,
    static: Any = (),
) -> dict[str, Any]:
    r"""Check the options of `Panel.of`, for every function that accepts them.

    Arguments:
        target: One column name or several, or None.
        item_column: A column name, or a list of those that name an item together, or None.
        timestamp_column: A column name, or None.
        frequency: A pandas alias, a pandas offset or a timedelta, or None.
        regularise: A boolean.
        static: One column name or several, or a mapping of column names to categories.

    Returns:
        The same options, with names as text, several names as a list, and the frequency as its alias.

    Raises:
        ValueError: If an option has another type, or names a column twice.
    """
    options: dict[str, Any] = {"target": target, "static": static}
    for option, given in options.items():
        if option == "static" and isinstance(given, Mapping):
            options[option] = _categories(given)
        elif option == "static" or given is not None:
            names = column_names(option, given)
            if len(set(names)) < len(names) or not names and option == "target":
                raise ValueError(f"expected {option} to name columns, each once, got {shown(names)}")
            options[option] = names
    if isinstance(item_column, list | tuple) and item_column:
        keys = column_names("item_column", item_column)
        if len(set(keys)) < len(keys):
            raise ValueError(f"expected item_column to name columns, each once, got {shown(keys)}")
        options["item_column"] = keys if len(keys) > 1 else keys[0]
        item_column = None
    for option, given in (("item_column", item_column), ("timestamp_column", timestamp_column)):
        if option in options:
            continue
        if given is not None and checks.whole(given) is None and not isinstance(given, str):
            raise ValueError(f"expected {option} to be the name of one column, got {shown(given)}")
        options[option] = None if given is None else label(given, f"the column that {option} names")
    if not isinstance(regularise, bool | np.bool_):
        raise ValueError(f"expected regularise to be True or False, got {shown(regularise)}")
    return {**options, "frequency": frequency_name(frequency), "regularise": bool(regularise)}


def _categories(static: Mapping[Any, Any]) -> dict[str, tuple[Any, ...] | None]:
    r"""Check a mapping of static columns to their categories."""
    for name, categories in static.items():
        is_valid = isinstance(categories, tuple) and all(isinstance(category, str | int) for category in categories)
        if not isinstance(name, str) or not (categories is None or is_valid):
            raise ValueError(
                "expected static to map names of columns to their categories, a tuple of text or of whole numbers, or "
                f"None for numbers, got {shown(name)}: {shown(categories)}"
            )
    return dict(static)

r"""The options that say how data are read, checked in one place before anything is read."""

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

#: The names, in any case, by which an item column is recognised; those of `id` alone often are something else.
ITEM_NAMES = ("item_id", "unique_id", "series_id", "time_series_id", "ts_id", "series_name", "id")
TIMESTAMP_NAMES = ("timestamp", "date", "time", "ds", "datetime")
#: The longest name of a column or an item, in characters: names stand in messages, and in names of files.
LONGEST_NAME = 500


def label(name: Any, whose: str = "a column") -> str:
    r"""Makes text of a name.

    Arguments:
        name: The name of a column, of an item or of a category.
        whose: Whose name it is, for the message.

    Returns:
        The name as text.

    Raises:
        ValueError: If it has no text, is longer than a name may be, or holds what UTF-8 cannot write.
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
    r"""Reads an option that names columns.

    Arguments:
        option: The name of the option, for the message.
        given: One name or a sequence of several.

    Returns:
        The names as text, as those of columns are.

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
    r"""Checks the options of `Panel.of`, whoever was given them.

    Arguments:
        target: One name of a column or several, or None.
        item_column: The name of a column, or a list of those that name an item together, or None.
        timestamp_column: The name of a column, or None.
        frequency: A pandas alias, an offset of pandas or a timedelta, or None.
        regularise: A truth.
        static: One name of a column or several, or the categories by column.

    Returns:
        The same options: names as text, several as a list, a frequency as its alias.

    Raises:
        ValueError: If an option is none of these, or names a column twice.
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
    for name, held in static.items():
        fit = isinstance(held, tuple) and all(isinstance(each, str | int) for each in held)
        if not isinstance(name, str) or not (held is None or fit):
            raise ValueError(
                "expected static to map names of columns to their categories, a tuple of text or of whole numbers, or "
                f"None for numbers, got {shown(name)}: {shown(held)}"
            )
    return dict(static)

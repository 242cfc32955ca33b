r"""Long frames with a column that names the group of each item, cut into a frame a group."""

from __future__ import annotations

__all__ = ["Grouped", "split"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import shown
from .columns import groups, listed, names_in, text
from .frames import as_pandas
from .from_memory import Reader
from .options import label
from .panel import Panel


@dataclass(frozen=True)
class Grouped:
    r"""A long frame, cut.

    Arguments:
        frames: The rows of each group, in the order in which the groups first come, without the group column. Dates
            are read from the whole frame, so that a group reads as its neighbours do, and are the index.
        group_of: The group of each item, in the order in which the items first come.
        item_column: The column that names the item.
    """

    frames: dict[str, pd.DataFrame]
    group_of: dict[str, str]
    item_column: str


def split(
    series: Any,
    group_column: str,
    *,
    item_column: str | Sequence[str] | None,
    timestamp_column: str | None,
    known: Mapping[str, str] | None = None,
) -> Grouped:
    r"""Cuts a long frame into a frame a group.

    Arguments:
        series: A long frame, of any library that `Panel.of` takes.
        group_column: The column that names the group of each row, the same in all rows of an item. It may be the item
            column: each item is then a group.
        item_column: The column that names the item, or a list of those that do together; recognised by its name if
            None.
        timestamp_column: The column that holds the dates; recognised if None.
        known: The groups of items, for a frame without the group column; such a frame is refused if None.

    Returns:
        The frames. Names of groups and items are text.

    Raises:
        ValueError: If it is no long frame with these columns, an item is in two groups or in an unknown one, or a row
            has no group.
    """
    frame = as_pandas(series)
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"expected a long frame with a column {shown(group_column)}, got {type(series).__name__}")
    group_column = label(group_column, "the group column")
    reader = Reader(Panel, None, item_column, timestamp_column, None, False)
    frame, item_column, timestamp_column = reader.flat(frame, keep=[group_column])
    reader = replace(reader, item_column=item_column, timestamp_column=timestamp_column)
    if known is None and group_column not in frame.columns:
        raise ValueError(f"there is no group column {shown(group_column)}; the columns are {listed(frame.columns)}")
    rest = frame if item_column == group_column else frame.drop(columns=group_column, errors="ignore")
    dates, timestamp = reader.find_dates(rest)
    item = reader.find_items(rest, dates, timestamp)
    if item is None:
        raise ValueError(
            f"expected a long frame, in which a column names the item of each row, got only {listed(rest.columns)} "
            f"beside the group: item_column= names it, item_column={shown(group_column)} where each group is one item"
        )
    rows_of = groups(rest[item])
    if group_column in frame.columns:
        group_of = _groups(frame[group_column], rows_of)
    else:
        group_of = _remembered(known or {}, rows_of, group_column)
    if dates is not None:  # text may be read in one order in all groups, and in another in one of them
        rest = rest.drop(columns=[] if timestamp is None else timestamp).set_axis(dates, axis=0)
    rows_in: dict[str, list[np.ndarray]] = {}
    for name, rows in rows_of.items():
        rows_in.setdefault(group_of[name], []).append(rows)
    frames = {group: rest.iloc[np.sort(np.concatenate(rows))] for group, rows in rows_in.items()}
    return Grouped(frames, group_of, item)


def _groups(column: pd.Series[Any], rows_of: Mapping[str, np.ndarray]) -> dict[str, str]:
    r"""The group of each item by its rows."""
    # A file, or a missing value beside them, makes floats of whole numbers.
    codes, names = names_in(column, "group", text)
    if (codes < 0).any():
        raise ValueError(
            f"column {shown(column.name)} names no group in row {int(np.argmin(codes))}: every row needs one"
        )
    for item, rows in rows_of.items():
        found = pd.unique(codes[rows])
        if len(found) > 1:
            raise ValueError(
                f"item {shown(item)} is in two groups, {shown(names[found[0]])} and {shown(names[found[1]])}: "
                "column "
                f"{shown(column.name)} needs the same group in all rows of an item"
            )
    return {item: str(names[codes[rows[0]]]) for item, rows in rows_of.items()}


def _remembered(known: Mapping[str, str], items: Mapping[str, Any], group_column: str) -> dict[str, str]:
    r"""The group of each item by what is known."""
    strange = [item for item in items if item not in known]
    if strange:
        raise ValueError(
            f"item {shown(strange[0])} was not fitted, and there is no column {shown(group_column)} to tell its "
            "group: add it"
        )
    return {item: known[item] for item in items}

r"""Long frames with a group column, split into one frame per group."""

from __future__ import annotations

__all__ = ["Grouped", "split"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import few, shown
from .columns import groups, names_in, text
from .frames import as_pandas
from .from_memory import Reader
from .options import label
from .panel import Panel


@dataclass(frozen=True)
class Grouped:
    r"""Long frame, split by group.

    Arguments:
        frames: The rows of each group, without the group column, with groups in the order of their first rows. Dates
            are parsed once for the whole frame, so that all groups are read alike, and are the index.
        group_of: The group of each item, with items in the order of their first rows.
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
    r"""Split a long frame into one frame per group.

    Arguments:
        series: A long frame, of any library that `Panel.of` supports.
        group_column: The column that names the group of each row, constant within each item. It may be the item column:
            then each item is a group.
        item_column: The column that names the item, or a list of those that do together; recognised by its name if
            None.
        timestamp_column: The column of the dates; recognised if None.
        known: The group of each item, for a frame without the group column. Such a frame is refused if None.

    Returns:
        The frames. Names of groups and items are text.

    Raises:
        ValueError: If it is no long frame with these columns, an item has two groups or an unknown one, or a row has no
            group.
    """
    frame = as_pandas(series)
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"expected a long frame with a column {shown(group_column)}, got {type(series).__name__}")
    group_column = label(group_column, "the group column")
    reader = Reader(Panel, None, item_column, timestamp_column, None, False)
    frame, item_column, timestamp_column = reader.flat(frame, keep=[group_column])
    reader = replace(reader, item_column=item_column, timestamp_column=timestamp_column)
    if known is None and group_column not in frame.columns:
        raise ValueError(f"there is no group column {shown(group_column)}; the columns are {few(frame.columns)}")
    ungrouped = frame if item_column == group_column else frame.drop(columns=group_column, errors="ignore")
    dates, timestamp = reader.find_dates(ungrouped)
    item = reader.find_items(ungrouped, dates, timestamp)
    if item is None:
        raise ValueError(
            f"expected a long frame, in which a column names the item of each row, got only "
            f"{few(ungrouped.columns)} beside the group: "
            f"item_column= names it, item_column={shown(group_column)} where each group is one item"
        )
    rows_of = groups(ungrouped[item])
    if group_column in frame.columns:
        group_of = _groups(frame[group_column], rows_of)
    else:
        group_of = _remembered(known or {}, rows_of, group_column)
    if dates is not None:  # a single group could suggest another order of day and month
        ungrouped = ungrouped.drop(columns=[] if timestamp is None else timestamp).set_axis(dates, axis=0)
    rows_in: dict[str, list[np.ndarray]] = {}
    for name, rows in rows_of.items():
        rows_in.setdefault(group_of[name], []).append(rows)
    frames = {group: ungrouped.iloc[np.sort(np.concatenate(rows))] for group, rows in rows_in.items()}
    return Grouped(frames, group_of, item)


def _groups(column: pd.Series[Any], rows_of: Mapping[str, np.ndarray]) -> dict[str, str]:
    r"""Return the group of each item from the group column."""
    # Whole numbers are floats if they come from a file or beside a missing value: hence `text`.
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
    r"""Return the group of each item from the known groups."""
    unfitted = [item for item in items if item not in known]
    if unfitted:
        raise ValueError(
            f"item {shown(unfitted[0])} was not fitted, and there is no column {shown(group_column)} for its "
            "group: add it"
        )
    return {item: known[item] for item in items}

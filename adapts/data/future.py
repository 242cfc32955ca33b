r"""Future values of known covariates."""

from __future__ import annotations

__all__ = ["followed", "require_one_value"]

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import few, shown
from .calendar import calendar_values, cycles_of
from .cards import read_table
from .columns import groups
from .frames import as_pandas
from .from_memory import Reader
from .item import Item
from .panel import Panel


def followed(panel: Panel, future: Panel | None, prediction_length: int) -> Panel:
    r"""Append the prediction steps to each item of a panel; only known covariates have values there.

    Arguments:
        panel: The panel.
        future: The future values of the given known covariates: matched by date for a dated panel (other dates are
            ignored), by order for an undated one. Ignored if the panel has no given covariates.
        prediction_length: The number of steps :math:`H`.

    Returns:
        The extended panel, with NaN in all other channels of the new rows.

    Raises:
        ValueError: If a value is missing.
    """
    given = panel.given
    columns = [panel.channels.index(name) for name in given]
    static = [panel.channels.index(name) for name in panel.static_columns]
    items = []
    for item in panel.items:
        index = panel.future_index(item, prediction_length)
        rows = np.full((prediction_length, panel.num_channels), np.nan)
        if given:
            assert future is not None  # `predict` requires it where there are given covariates
            rows[:, columns] = _values_ahead(panel, item, index, future.select(given))
        rows[:, static] = item.values[-1, static]
        if panel.calendar:
            rows[:, -len(panel.calendar) :] = calendar_values(index, cycles_of(panel.frequency))
        items.append(Item(item.item_id, np.concatenate([item.values, rows]), item.index.append(index)))
    return replace(panel, items=tuple(items))


def require_one_value(
    panel: Panel,
    given: Sequence[str],
    future: Any,
    prediction_length: int,
    *,
    item_column: str | Sequence[str] | None,
    timestamp_column: str | None,
    steps: pd.Index[Any] | None = None,
) -> None:
    r"""Check that no future date has two different values of a known covariate.

    Arguments:
        panel: The dated panel to forecast.
        given: The known covariates.
        future: The source of their values: a frame, a list of frames or a file. Other types are not checked.
        prediction_length: The number of steps :math:`H`.
        item_column: The column of the items; recognised if None.
        timestamp_column: The column of the dates; recognised if None.
        steps: The dates to check; the :math:`H` steps after each item's end if None.

    Raises:
        ValueError: If rows of one item and date differ in a value. Equal rows may be repeated, and a row may hold a
            value that another lacks.
    """
    columns: dict[str, Any] = {"item_column": item_column, "timestamp_column": timestamp_column, "steps": steps}
    if isinstance(future, list | tuple):
        for item, rows in zip(panel.items, future, strict=False):
            require_one_value(replace(panel, items=(item,)), given, rows, prediction_length, **columns)
        return
    if isinstance(future, str | Path) and os.path.isfile(future):
        future = read_table(Path(future), item_column).series
    future = as_pandas(future)
    if not isinstance(future, pd.DataFrame):
        return
    reader = Reader(Panel, list(given), item_column, timestamp_column, panel.frequency, True)
    frame, item_column, timestamp_column = reader.flat(future)
    reader = replace(reader, item_column=item_column, timestamp_column=timestamp_column)
    dates, timestamp = reader.find_dates(frame)
    if dates is None or not set(given) <= set(frame.columns):
        return
    item_column = reader.find_items(frame, dates, timestamp)
    known = pd.DataFrame(reader.numbers(frame, given, dates), columns=list(given))
    date_and_item = pd.DataFrame({"date": dates} | ({} if item_column is None else {"item": frame[item_column].array}))
    if not date_and_item.duplicated().any():
        return
    rows_of = {} if item_column is None else groups(frame[item_column])
    for item in panel.items:
        expected = panel.future_index(item, prediction_length) if steps is None else steps
        assert isinstance(expected, pd.DatetimeIndex)
        rows = rows_of.get(item.item_id, np.arange(len(frame) if len(rows_of) < 2 else 0))
        if (expected.tz is None) != (dates.tz is None) or not len(rows):  # refused later, where they are read
            continue
        item_dates = (dates if expected.tz is None else dates.tz_convert(expected.tz))[rows]
        ahead = item_dates.isin(expected)
        values, dates_ahead = known.iloc[rows[ahead]], item_dates[ahead]
        for name in given:
            counts = values[name].groupby(dates_ahead).nunique()
            if (counts > 1).any():
                date = counts.index[int((counts > 1).to_numpy().argmax())]
                first_value, second_value = values[name][dates_ahead == date].dropna().unique()[:2]
                whose = "" if len(panel) == 1 else f" of item {shown(item.item_id)}"
                raise ValueError(
                    f"{shown(name)}{whose} is both {first_value} and {second_value} at {date}: pass one value per step"
                )


def _values_ahead(panel: Panel, item: Item, expected: pd.Index[Any], future: Panel) -> np.ndarray:
    r"""Return the values of an item's known covariates at the prediction steps, with shape (H, C)."""
    by_id = {future_item.item_id: future_item for future_item in future.items}
    if panel.single and future.single:
        by_id = {item.item_id: future.items[0]}
    whose = "" if len(panel) == 1 else f" of item {shown(item.item_id)}"
    if item.item_id not in by_id:
        raise ValueError(
            f"future holds no rows of item {shown(item.item_id)}, only of {few(by_id)}: it needs the steps ahead "
            "of each"
        )
    future_item = by_id[item.item_id]
    if panel.frequency is None:
        positions = np.arange(len(expected))
        positions[positions >= len(future_item)] = -1
    elif future.frequency is None:
        raise ValueError(f"future has no dates, and the series have: it needs rows of {_span(expected)}")
    else:
        assert isinstance(future_item.index, pd.DatetimeIndex) and isinstance(expected, pd.DatetimeIndex)
        dates = future_item.index if expected.tz is None else future_item.index.tz_convert(expected.tz)
        positions = dates.as_unit("ns").get_indexer(expected.as_unit("ns"))
    absent = expected[positions < 0]
    if len(absent):
        has = f"{len(future_item)} rows" if panel.frequency is None else f"rows of {_span(future_item.index)}"
        raise ValueError(
            f"future lacks {len(absent)} of the {len(expected)} steps ahead{whose}, {_span(absent)}; it has {has}: "
            f"give a value of {few(future.channels)} for each"
        )
    values = future_item.values[positions]
    empty = np.isnan(values)
    if empty.any():
        column = int(empty.any(axis=0).argmax())
        raise ValueError(
            f"future lacks values of {shown(future.channels[column])}{whose} at "
            f"{_span(expected[empty[:, column]])}: known "
            "covariates need a value at each step ahead"
        )
    return values


def _span(index: pd.Index[Any]) -> str:
    r"""Return the steps as written in messages."""
    return str(index[0]) if len(index) == 1 else f"{index[0]} to {index[-1]} ({len(index)} steps)"

r"""Static columns, constant within each item: numbers, text or categories."""

from __future__ import annotations

__all__ = ["as_fitted", "coded", "with_static"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import few, shown
from .columns import names_in, numeric, text
from .item import Categories, Item, columns_of

if TYPE_CHECKING:
    from .panel import Panel


def coded(column: pd.Series[Any], categories: Categories | None = None) -> tuple[np.ndarray, Any]:
    r"""Encode a static column as numbers.

    Arguments:
        column: The column: numbers, booleans, text or categories.
        categories: The categories of the fit; those of the column if None.

    Returns:
        The numbers, float64, and None; or the index of each entry among the sorted categories, NaN if it is missing or
        not among them, and the categories.
    """
    plain = numeric(column)
    if categories is None and plain is not None:
        return plain, None
    # Categories that are whole numbers come from a file as numbers: hence `text`.
    codes, names = names_in(column, "category", text)
    found = tuple(sorted(names)) if categories is None else categories
    # The index of each name among the categories; missing entries have code -1, and take the last place, NaN.
    places = np.append(pd.Index([str(name) for name in found]).get_indexer(names), -1).astype(np.float64)
    places[places < 0] = np.nan
    return places[codes], found


def with_static(panel: Panel, static: Mapping[str, Categories | None]) -> Panel:
    r"""Make columns of a panel static: last in order, one value for each item, categories as indicators.

    Arguments:
        panel: A panel with a column of numbers, or of category indices, for each static column.
        static: The categories of each static column, None for numbers.

    Returns:
        The panel. A number missing in some rows of an item is taken from its others, and is NaN if missing in all. A
        missing or unknown category has zeros in all indicators.

    Raises:
        ValueError: If a column is not constant within an item, no other column is left, or two columns would have one
            name.
    """
    if not static:
        return panel
    others = [number for number, name in enumerate(panel.channels) if name not in static]
    channels, static_channels = tuple(panel.channels[number] for number in others), columns_of(static)
    if not channels:
        raise ValueError(
            f"all columns ({few(static)}) are static, expected one to forecast at least: leave some out of static="
        )
    taken = [name for name in static_channels if name in channels]
    if taken:
        raise ValueError(f"static columns add a column {shown(taken[0])}, which exists already: rename that column")
    items = []
    for item in panel.items:
        row: list[float] = []
        for name, categories in static.items():
            column = item.values[:, panel.channels.index(name)]
            distinct = np.unique(column[~np.isnan(column)])
            if len(distinct) > 1:
                shown_values = [
                    f"{value:g}" if categories is None else repr(categories[int(value)]) for value in distinct[:2]
                ]
                raise ValueError(
                    f"column {shown(name)} is static, one value an item, and item {shown(item.item_id)} has "
                    f"{shown_values[0]} and "
                    f"{shown_values[1]}: name it in known_covariates= or past_covariates= if it changes"
                )
            value = distinct[0] if len(distinct) else np.nan
            row += [value] if categories is None else [float(value == place) for place in range(len(categories))]
        items.append(replace(item, values=np.hstack([item.values[:, others], np.tile(row, (len(item), 1))])))
    return replace(
        panel, items=tuple(items), channels=(*channels, *static_channels), known_covariates=static_channels,
        static=dict(static),
    )  # fmt: skip


def as_fitted(panel: Panel, fitted: Panel) -> Panel:
    r"""Give new rows the static columns of the fit.

    Arguments:
        panel: The new rows. Static columns that they lack are taken from the fit, if their items were in it.
        fitted: The fitted panel.

    Returns:
        The panel, with the static columns of the fit last. Categories that the fit did not see have zeros in all
        indicators. Numbers are clipped to the range over the fitted items.

    Raises:
        ValueError: If an item lacks static columns and was not in the fit; a fitted item has other values than in the
            fit; or numbers were text in the fit, or vice versa. Items that are only numbered, as those of a list or an
            array, are not taken for the fitted ones, and may have other values.
    """
    absent = [name for name in fitted.static if name not in panel.static]
    for name in fitted.static:
        kinds = ["numbers" if source.static.get(name) is None else "text" for source in (fitted, panel)]
        if name not in absent and kinds[0] != kinds[1]:
            raise ValueError(
                f"static column {shown(name)} holds {kinds[1]}, and held {kinds[0]} in the fit: convert it"
            )
    known = {item.item_id: item for item in fitted.items}
    numbered = all(item.item_id == str(number) for number, item in enumerate(panel.items))
    ranges = {
        name: np.array([item.values[-1, fitted.channels.index(name)] for item in fitted.items])
        for name, categories in fitted.static.items() if categories is None
    }  # fmt: skip
    others = [number for number, name in enumerate(panel.channels) if name not in panel.static_columns]
    items = []
    for item in panel.items:
        if absent and item.item_id not in known:
            raise ValueError(
                f"item {shown(item.item_id)} was not in the fit, which read static columns: give its {few(absent)}"
            )
        row: list[float] = []
        for name, categories in fitted.static.items():
            columns = columns_of({name: categories})
            value = _values(panel, item, columns) if name not in absent else None
            if value is None or not numbered and item.item_id in known:
                fitted_value = _values(fitted, known[item.item_id], columns)
                if value is not None and not np.allclose(value, fitted_value, equal_nan=True):
                    before, now = _described(name, categories, fitted_value), _described(name, categories, value)
                    raise ValueError(
                        f"item {shown(item.item_id)} was fitted with {before}, and now has {now}: pass the fitted "
                        "value, or fit(series) again"
                    )
                value = fitted_value
            if name in ranges:
                value = np.clip(value, np.nanmin(ranges[name]), np.nanmax(ranges[name]))
            row += value.tolist()
        items.append(replace(item, values=np.hstack([item.values[:, others], np.tile(row, (len(item), 1))])))
    return replace(
        panel, items=tuple(items), channels=(*(panel.channels[number] for number in others), *fitted.static_columns),
        past_covariates=(), known_covariates=fitted.static_columns, static=fitted.static,
    )  # fmt: skip


def _values(panel: Panel, item: Item, columns: Sequence[str]) -> np.ndarray:
    r"""Return the values of a static column's channels for an item; 0 for channels that the panel lacks."""
    places = [panel.channels.index(name) if name in panel.channels else None for name in columns]
    return np.array([0.0 if place is None else item.values[-1, place] for place in places])


def _described(name: str, categories: Categories | None, value: np.ndarray) -> str:
    r"""Return the value of a static column as written in messages."""
    if categories is None:
        return f"{name}={value[0]:g}"
    return f"{name}={shown(categories[int(value.argmax())])}" if value.any() else f"no {name} of the fit"

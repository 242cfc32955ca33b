r"""Static columns: what is said of an item as a whole, in numbers, in text or in categories."""

from __future__ import annotations

__all__ = ["as_fitted", "coded", "with_static"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import shown
from .columns import listed, names_in, numeric, text
from .item import Categories, Item, columns_of

if TYPE_CHECKING:
    from .panel import Panel


def coded(column: pd.Series[Any], categories: Categories | None = None) -> tuple[np.ndarray, Any]:
    r"""Makes numbers of a static column.

    Arguments:
        column: The column: numbers, truths, text or categories.
        categories: The categories of the fit; those that are there if None.

    Returns:
        The numbers, float64, and None; or the place of each entry among the sorted categories, NaN where it is missing
        or is none of them, and the categories.
    """
    plain = numeric(column)
    if categories is None and plain is not None:
        return plain, None
    # A file reads categories that are whole numbers as numbers.
    codes, names = names_in(column, "category", text)
    found = tuple(sorted(names)) if categories is None else categories
    # The place of each name among the categories; the missing entries, of code -1, take the last one, NaN.
    places = np.append(pd.Index([str(each) for each in found]).get_indexer(names), -1).astype(np.float64)
    places[places < 0] = np.nan
    return places[codes], found


def with_static(panel: Panel, static: Mapping[str, Categories | None]) -> Panel:
    r"""Makes columns of a panel static: they move behind all others, one value an item, categories as indicators.

    Arguments:
        panel: A panel with a column of numbers, or of places among the categories, for each static one.
        static: The categories of each static column, None for numbers.

    Returns:
        The panel. A number that is missing in some rows of an item is that of the others, one that is missing in all
        is NaN; a category that is missing, or none of those given, has no indicator.

    Raises:
        ValueError: If a column is not constant within an item, no other column is left, or two are called alike.
    """
    if not static:
        return panel
    rest = [number for number, name in enumerate(panel.channels) if name not in static]
    channels, made = tuple(panel.channels[number] for number in rest), columns_of(static)
    if not channels:
        raise ValueError(f"all columns ({listed(static)}) are static, and none is left to forecast")
    taken = [name for name in made if name in channels]
    if taken:
        raise ValueError(f"static columns make a column {shown(taken[0])}, and there is one already: rename that one")
    items = []
    for item in panel.items:
        row: list[float] = []
        for name, categories in static.items():
            column = item.values[:, panel.channels.index(name)]
            held = np.unique(column[~np.isnan(column)])
            if len(held) > 1:
                said = [f"{value:g}" if categories is None else repr(categories[int(value)]) for value in held[:2]]
                raise ValueError(
                    f"column {shown(name)} is static, one value an item, and item {shown(item.item_id)} has "
                    f"{said[0]} and "
                    f"{said[1]}: name it in known_covariates= or past_covariates= if it changes"
                )
            value = held[0] if len(held) else np.nan
            row += [value] if categories is None else [float(value == place) for place in range(len(categories))]
        items.append(replace(item, values=np.hstack([item.values[:, rest], np.tile(row, (len(item), 1))])))
    return replace(panel, items=tuple(items), channels=(*channels, *made), known_covariates=made, static=dict(static))


def as_fitted(panel: Panel, fitted: Panel) -> Panel:
    r"""Gives later rows the static columns of the fit.

    Arguments:
        panel: The rows. Static columns that they lack are those of the fit, if their items were in it.
        fitted: The fitted panel.

    Returns:
        The panel, with the static columns of the fit behind all others; categories that the fit did not see have no
        indicator, and numbers beyond those of the fit's items are the nearest of these.

    Raises:
        ValueError: If an item that was not in the fit lacks static columns, one that was has other values than there,
            or numbers were text or the other way. Items that only have numbers for names, as those of a list or an
            array, are told apart by nothing, and may be others.
    """
    absent = [name for name in fitted.static if name not in panel.static]
    for name in fitted.static:
        kinds = ["numbers" if each.static.get(name) is None else "text" for each in (fitted, panel)]
        if name not in absent and kinds[0] != kinds[1]:
            raise ValueError(f"static column {shown(name)} holds {kinds[1]}, and held {kinds[0]} in the fit")
    known = {item.item_id: item for item in fitted.items}
    numbered = all(item.item_id == str(number) for number, item in enumerate(panel.items))
    ranges = {
        name: np.array([item.values[-1, fitted.channels.index(name)] for item in fitted.items])
        for name, categories in fitted.static.items() if categories is None
    }  # fmt: skip
    rest = [number for number, name in enumerate(panel.channels) if name not in panel.static_columns]
    items = []
    for item in panel.items:
        if absent and item.item_id not in known:
            raise ValueError(
                f"item {shown(item.item_id)} was not in the fit, which read static columns: give its {listed(absent)}"
            )
        row: list[float] = []
        for name, categories in fitted.static.items():
            columns = columns_of({name: categories})
            value = _values(panel, item, columns) if name not in absent else None
            if value is None or not numbered and item.item_id in known:
                held = _values(fitted, known[item.item_id], columns)
                if value is not None and not np.allclose(value, held, equal_nan=True):
                    raise ValueError(
                        f"item {shown(item.item_id)} was fitted with {_said(name, categories, held)}, and comes with "
                        f"{_said(name, categories, value)}: give it as it was, or fit(series) anew"
                    )
                value = held
            if name in ranges:
                value = np.clip(value, np.nanmin(ranges[name]), np.nanmax(ranges[name]))
            row += value.tolist()
        items.append(replace(item, values=np.hstack([item.values[:, rest], np.tile(row, (len(item), 1))])))
    return replace(
        panel, items=tuple(items), channels=(*(panel.channels[number] for number in rest), *fitted.static_columns),
        past_covariates=(), known_covariates=fitted.static_columns, static=fitted.static,
    )  # fmt: skip


def _values(panel: Panel, item: Item, columns: Sequence[str]) -> np.ndarray:
    r"""What the columns of a static one say of an item; 0 for categories that the panel does not have."""
    places = [panel.channels.index(name) if name in panel.channels else None for name in columns]
    return np.array([0.0 if place is None else item.values[-1, place] for place in places])


def _said(name: str, categories: Categories | None, value: np.ndarray) -> str:
    if categories is None:
        return f"{name}={value[0]:g}"
    return f"{name}={shown(categories[int(value.argmax())])}" if value.any() else f"no {name} of the fit"

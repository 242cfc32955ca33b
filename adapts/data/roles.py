r"""Roles of the columns of a panel: targets, past, known and static covariates."""

from __future__ import annotations

__all__ = ["assign", "calendar_columns", "require_tellable"]

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import few, shown, unknown
from .calendar import calendar_values, cycles_of
from .item import columns_of
from .options import column_names
from .panel import Panel

#: The most known covariates, with their products with static columns.
MOST_PRODUCTS = 256


def assign(
    panel: Panel,
    *,
    target: str | Sequence[str] | None,
    past_covariates: str | Sequence[str],
    known_covariates: str | Sequence[str],
    calendar: bool,
) -> Panel:
    r"""Assign roles to the columns of a panel.

    Arguments:
        panel: The panel. Its static columns keep their role.
        target: The columns to forecast; all that are no covariates if None.
        past_covariates: The columns that are known up to the forecast origin only.
        known_covariates: The columns whose future values will be given.
        calendar: Whether to add known covariates of the dates: sines and cosines of the time of day, week and year,
            each if the steps are shorter.

    Returns:
        The panel of these columns only: targets, past, known and static covariates, calendar.

    Raises:
        ValueError: If a column is unknown or has two roles, none is left to forecast, or a panel without dates is to
            have a calendar.
    """
    panel = panel.select([name for name in panel.channels if name not in panel.calendar])
    roles = {
        "target": None if target is None else column_names("target", target),
        "past_covariates": column_names("past_covariates", past_covariates),
        "known_covariates": column_names("known_covariates", known_covariates),
    }
    static = panel.static_columns
    columns = [name for name in panel.channels if name not in static]
    role_of = dict.fromkeys(panel.static, "static")
    for role, names in roles.items():
        for name in names or ():
            if name in role_of:
                both = role if role == role_of[name] else f"{role_of[name]} and {role}"
                raise ValueError(f"column {shown(name)} is named twice, in {both}: a column has one role")
            if name not in columns:
                raise ValueError(unknown(f"column for {role}", name, columns))
            role_of[name] = role
    targets = roles["target"]
    if targets is None:
        targets = [name for name in columns if name not in role_of]
    if not targets:
        raise ValueError(f"all {len(columns)} columns are covariates, and none is left to forecast")
    past, known = roles["past_covariates"] or [], [*(roles["known_covariates"] or []), *static]
    categories = panel.static
    panel = replace(panel, past_covariates=(), known_covariates=(), calendar=()).select([*targets, *past, *known])
    panel = replace(panel, past_covariates=tuple(past), known_covariates=tuple(known), static=categories)
    return _with_calendar(panel) if calendar else panel


def require_tellable(panel: Panel) -> None:
    r"""Check that static columns, if any, can explain how items respond to known covariates.

    Arguments:
        panel: The panel.

    Raises:
        ValueError: If there is a single item, no known covariate that varies in time, a static column with one value in
            all items, or more than `MOST_PRODUCTS` known covariates and products.
    """
    if not panel.static:
        return
    names, columns = few(panel.static), panel.static_columns
    moving = len(panel.known_covariates) - len(columns)
    if len(panel) == 1:
        raise ValueError(f"static columns ({names}) need several items, got one: leave static= out")
    if not moving:
        raise ValueError(
            f"static columns ({names}) interact with known covariates, got none: pass known_covariates= or "
            "calendar=True, or leave static= out"
        )
    values = panel.select(columns)
    for name, categories in panel.static.items():
        rows = np.stack([item.values[0] for item in values.select(columns_of({name: categories})).items])
        if len(np.unique(rows[~np.isnan(rows).any(1)], axis=0)) < 2:
            raise ValueError(f"static column {shown(name)} is the same in all {len(panel)} items: leave it out")
    if moving * (1 + len(columns)) > MOST_PRODUCTS:
        raise ValueError(
            f"static columns ({names}) have {len(columns)} numbers and categories; with {moving} known covariates "
            f"these make {moving * (1 + len(columns))} interactions, expected at most {MOST_PRODUCTS}: merge rare "
            "categories"
        )


def _with_calendar(panel: Panel) -> Panel:
    r"""Append the calendar covariates to a panel."""
    if panel.frequency is None:
        raise ValueError(
            "calendar=True derives covariates from dates, and these series have none: pass a frame with a "
            "DatetimeIndex, or name the column with timestamp_column="
        )
    cycles, names = cycles_of(panel.frequency), calendar_columns(panel.frequency)
    taken = [name for name in names if name in panel.channels]
    if taken:
        raise ValueError(f"calendar=True adds a column {shown(taken[0])}, which exists already: rename that column")
    items = tuple(
        replace(item, values=np.hstack([item.values, calendar_values(item.index, cycles)])) for item in panel.items
    )
    known = (*panel.known_covariates, *names)
    return replace(panel, items=items, channels=(*panel.channels, *names), known_covariates=known, calendar=names)


def calendar_columns(frequency: str) -> tuple[str, ...]:
    r"""Return the names of the columns that `calendar=True` adds.

    Arguments:
        frequency: The frequency of the dates.

    Returns:
        The names, in order.

    Raises:
        ValueError: If the steps are longer than all cycles of the calendar.
    """
    harmonics = [(cycle, n) for cycle, most in cycles_of(frequency) for n in range(1, most + 1)]
    return tuple(f"{cycle} {wave} {n}" for cycle, n in harmonics for wave in ("sin", "cos"))

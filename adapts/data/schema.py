r"""Schema of the data of a fit: roles of columns, frequency and time zone."""

from __future__ import annotations

__all__ = ["Schema", "has_names", "read_dataset"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import checks
from ..errors import few
from .cards import Dataset, read_with
from .frames import as_pandas
from .frequency import date_grid, frequency_name
from .from_memory import read_series
from .future import followed, require_one_value
from .options import column_names, label, reading_options
from .panel import Panel
from .roles import assign
from .static import as_fitted


def read_dataset(
    series: Any,
    *,
    target: str | Sequence[str] | None = None,
    past_covariates: str | Sequence[str] = (),
    known_covariates: str | Sequence[str] = (),
    calendar: bool = False,
    static: str | Sequence[str] = (),
    **options: Any,
) -> Dataset:
    r"""Read series, and assign roles to their columns.

    Arguments:
        series: The series, in any form that `Adapter.fit` takes.
        target: The columns to forecast; all that are no covariates if None.
        past_covariates: Columns that are known up to the forecast origin only.
        known_covariates: Columns whose future values are known.
        calendar: Whether to derive known covariates from the dates.
        static: Columns that are constant within an item.
        **options: Options of reading: item_column, timestamp_column, frequency, regularise.

    Returns:
        The data set.

    Raises:
        ValueError: If the series are invalid, or covariates are no columns or have two roles.
    """
    checks.flag("expected calendar", calendar)
    past = column_names("past_covariates", past_covariates)
    known = column_names("known_covariates", known_covariates)
    kinds = column_names("static", static)
    if not (past or known or calendar or kinds):
        return _read(series, target=target, **options)
    if (past or known or kinds) and not has_names(series):
        raise ValueError(f"covariates are columns with names, and {type(series).__name__} has none: pass a frame")
    columns = None if target is None else [*dict.fromkeys([*column_names("target", target), *past, *known])]
    dataset = _read(series, covariates=[*past, *known], target=columns, static=kinds, **options)
    panel = assign(dataset.panel, target=target, past_covariates=past, known_covariates=known, calendar=calendar)
    return replace(dataset, panel=panel)


def has_names(series: Any) -> bool:
    r"""Return whether the columns of an input have names given by the caller.

    Arguments:
        series: The input.
    """
    entries = series if isinstance(series, list | tuple) else [series]
    kinds = (str, Path, Dataset, Panel)
    return bool(len(entries)) and all(isinstance(entry, kinds) or hasattr(entry, "columns") for entry in entries)


@dataclass(frozen=True)
class Schema:
    r"""Schema of the data that a fitted adapter accepts.

    Arguments:
        panel: The fitted panel. Later data must have its roles, frequency, time zone and categories.
    """

    panel: Panel

    @property
    def roles(self) -> dict[str, Any]:
        r"""The options of `Adapter.fit` that assign the roles of columns, except for static columns."""
        panel = self.panel
        return {
            "target": list(panel.targets), "past_covariates": list(panel.past_covariates),
            "known_covariates": list(panel.given), "calendar": bool(panel.calendar),
        }  # fmt: skip

    def read(self, series: Any, **options: Any) -> Dataset:
        r"""Read further series with the fitted channels, if these have names, and the fitted frequency.

        Arguments:
            series: The series, in any form that `Adapter.fit` takes.
            **options: Options of reading: item_column, timestamp_column, frequency, regularise.

        Returns:
            The data set, with the fitted roles of its columns.

        Raises:
            ValueError: If the series lack fitted channels, or have another frequency or time zone.
        """
        panel = self.panel
        if isinstance(series, list | tuple):
            series = [as_pandas(entry) for entry in series]
        elif not isinstance(series, Path | Dataset | Panel):
            series = as_pandas(series)
        columns = tuple(name for name in panel.channels if name not in (*panel.static_columns, *panel.calendar))
        named = columns != tuple(map(str, range(len(columns))))
        entries = series if isinstance(series, list) else [series]
        frames = [entry for entry in entries if isinstance(entry, pd.DataFrame)]
        whole = [{label(column) for column in frame.columns}.issuperset(columns) for frame in frames]
        others_aside = named and isinstance(series, str | Path) or frames and all(whole)
        target = list(columns) if others_aside else None
        steps = [frequency_name(options.pop("frequency"))]
        if steps == [None] and not isinstance(series, Dataset | Panel):
            steps.append(panel.frequency)  # a few rows do not show their frequency
        problem = None
        for number, step in enumerate(dict.fromkeys(steps)):
            try:
                later = _read(series, target=target, frequency=step, static=panel.static, **options)
                kept = (*columns, *later.panel.static_columns)
                if named and set(later.panel.channels).issuperset(columns):
                    later = replace(later, panel=later.panel.select(kept))
                rows = self.in_steps(later.panel.require_channels(kept), given=number == 0 and step is not None)
                return replace(later, panel=rows if panel.targets == panel.channels else self.assigned(rows))
            except ValueError as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def read_ahead(self, panel: Panel, future: Any, prediction_length: int, **columns: Any) -> Panel:
        r"""Append the prediction steps to a panel, with values of the known covariates.

        Arguments:
            panel: The panel.
            future: The known covariates at these steps, in any form that `Adapter.fit` takes; None without any.
            prediction_length: The number of steps :math:`H`.
            **columns: Options of reading `future`: item_column, timestamp_column.

        Returns:
            The longer panel; the panel itself without known covariates.

        Raises:
            ValueError: If a value is missing, a date has two values, or `future` is passed without known covariates, or
                left out with them.
        """
        given = list(self.panel.given)
        if future is not None and not given:
            raise ValueError("future holds known covariates, and the adapter was fitted with none: leave it out")
        if given and future is None:
            raise ValueError(
                f"the adapter was fitted with known covariates ({few(given)}): predict(future=...) needs their "
                f"values at the {prediction_length} steps ahead"
            )
        if not panel.known_covariates:
            return panel
        read = None
        if given:
            try:
                read = self._future(panel, given, future, prediction_length, **columns)
            except ValueError as error:
                raise ValueError(f"future: {error}") from error
        return followed(panel, read, prediction_length)

    def assigned(self, later: Panel) -> Panel:
        r"""Assign the fitted roles to the columns of later rows.

        Arguments:
            later: The later rows.

        Returns:
            The panel.
        """
        return assign(as_fitted(later, self.panel) if self.panel.static else later, **self.roles)

    def in_steps(self, later: Panel, *, given: bool) -> Panel:
        r"""Check that later rows have the fitted frequency, and set its alias and the fitted time zone.

        Arguments:
            later: The later rows.
            given: Whether the caller passed their frequency, which then holds for all dates. An inferred frequency may
                be ambiguous: days from Monday to Friday may be business days.

        Returns:
            The rows, in the fitted time zone.

        Raises:
            ValueError: If they have another frequency, or only one of fit and rows has a time zone.
        """
        fitted = self.panel
        if fitted.frequency is None or later.frequency is None:
            return later
        ours, theirs = (getattr(panel.items[0].index, "tz", None) for panel in (fitted, later))
        if ours is not None and theirs is None:
            raise ValueError(
                f"the adapter was fitted on dates in the time zone {ours}, and these dates have none: "
                f"use frame.tz_localize({str(ours)!r}), or their own time zone"
            )
        if ours is None and theirs is not None:
            raise ValueError(
                f"the adapter was fitted on dates without a time zone, and these are in {theirs}: use "
                "frame.tz_convert(zone).tz_localize(None), with the zone of the fitted local time"
            )
        steps = later.frequency, fitted.frequency
        if ours != theirs:  # the hours of the day are local to the fitted time zone
            later = later.in_zone(ours)
        if later.frequency == fitted.frequency:
            return later
        for item in later.items:
            rows = max(len(item), 60) if given or len(item) == 1 else len(item)
            dates = [date_grid(item.index[0], step, periods=rows, unit="ns") for step in steps]
            if not np.array_equal(dates[0].asi8, dates[1].asi8):
                raise ValueError(
                    f"expected rows of the fitted frequency, {fitted.frequency!r}, got {later.frequency!r}: "
                    "resample them, or fit another adapter"
                )
        return replace(later, frequency=fitted.frequency)

    def _future(self, panel: Panel, given: list[str], future: Any, prediction_length: int, **columns: Any) -> Panel:
        r"""Read the known covariates at the prediction steps."""
        if not isinstance(future, str | Path | Dataset | Panel):
            future = as_pandas(future)
        if hasattr(future, "to_frame") and not hasattr(future, "columns"):
            future = future.to_frame(given[0] if future.name is None else future.name)
        if not has_names(future):
            read = Panel.of(future)
            if panel.frequency is not None or read.num_channels != len(given):
                raise ValueError(
                    f"expected a frame with the columns {few(given)}"
                    + ("" if panel.frequency is None else " and the dates")
                    + f", got {type(future).__name__}"
                )
            return replace(read, channels=tuple(given))
        options = {} if isinstance(future, Dataset | Panel) else columns
        if options and not panel.single and panel.item_column in getattr(future, "columns", ()):
            options = {**options, "item_column": options["item_column"] or panel.item_column}
        if options and panel.frequency is not None:
            options = {**options, "frequency": panel.frequency, "regularise": True}
            read_by = {name: options[name] for name in ("item_column", "timestamp_column")}
            require_one_value(panel, given, future, prediction_length, **read_by)
        read = _read(future, target=given, **options).panel
        return Schema(panel).in_steps(read, given=True)


def _read(series: Any, covariates: Sequence[str] = (), **options: Any) -> Dataset:
    options = {name: value for name, value in reading_options(**options).items() if name in options}
    if isinstance(series, Dataset):
        target, static = options.pop("target", None), options.pop("static", ())
        given = [name for name, value in options.items() if value not in (None, False)]
        if given:
            raise ValueError(
                f"a Dataset is already read, {given[0]}= cannot change it: pass the option to adapts.data.cards.read"
            )
        if target is None and not static:
            return series
        return replace(series, panel=Panel.of(series.panel, target=target, static=static))
    if isinstance(series, str | Path):
        return read_with(series, covariates, **options)
    panel = read_series(series, Panel, covariates=covariates, **options)
    return Dataset(name="series", panel=panel)

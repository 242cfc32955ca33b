r"""Panel: what every input becomes, items x time x channels. All checks of the caller's data live here."""

from __future__ import annotations

__all__ = ["Item", "Panel", "require_length"]

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from .dates import alias, first_undated, frequency_of, parse_dates, regular_dates

ITEM_NAMES = ("item_id", "unique_id", "series_id", "ts_id", "id")
TIMESTAMP_NAMES = ("timestamp", "date", "time", "ds", "datetime")


@dataclass(frozen=True, eq=False)
class Item:
    r"""One multivariate series.

    Arguments:
        item_id: The name of the item.
        values: The rows, oldest first, with shape :math:`(T, D)`, float64. NaN marks a missing value.
        index: The dates of the rows, or a RangeIndex where the data have none.
    """

    item_id: str
    values: np.ndarray
    index: pd.Index[Any]

    def __post_init__(self) -> None:
        assert self.values.ndim == 2 and self.values.dtype == np.float64 and len(self.index) == len(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def clock(self) -> np.ndarray:
        r"""The dates as integers that compare across items (nanoseconds of UTC).

        Returns:
            The integers, with shape :math:`(T,)`.
        """
        assert isinstance(self.index, pd.DatetimeIndex)
        return np.asarray(self.index.as_unit("ns").asi8)


@dataclass(frozen=True, eq=False)
class Panel:
    r"""Items with the same channels and the same frequency. `Panel.of` makes one of anything.

    Arguments:
        items: The items.
        channels: The names of the :math:`D` channels.
        frequency: The pandas alias of the time step, or None for undated data.
        single: Whether the input was one series, so that one forecast comes out, not a list.
    """

    items: tuple[Item, ...]
    channels: tuple[str, ...]
    frequency: str | None
    single: bool

    def __post_init__(self) -> None:
        assert self.items and all(item.values.shape[1] == len(self.channels) for item in self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_channels(self) -> int:
        r"""The number of channels :math:`D`."""
        return len(self.channels)

    @property
    def lengths(self) -> tuple[int, ...]:
        r"""The number of rows of each item."""
        return tuple(len(item) for item in self.items)

    @cached_property
    def concatenated(self) -> tuple[np.ndarray, np.ndarray]:
        r"""The rows of all items, (sum T, D) float64, and where each item starts, (N + 1,). Windows gather from it."""
        rows = np.concatenate([item.values for item in self.items])
        return rows, np.cumsum([0, *self.lengths])

    @classmethod
    def of(
        cls,
        series: Any,
        *,
        target: str | Sequence[str] | None = None,
        item_column: str = "item_id",
        timestamp_column: str | None = None,
        frequency: str | None = None,
        regularise: bool = False,
    ) -> Panel:
        r"""Makes a panel of whatever holds series.

        Arguments:
            series: A wide frame (a DatetimeIndex, a PeriodIndex or a timestamp column), a long frame (with an item
                column), a Series, an array or tensor :math:`(T, D)`, :math:`(N, T, D)` or :math:`(T,)`, a list of
                these, a gluonts dataset, or a Panel. NaN marks a missing value.
            target: The columns to forecast, all by default.
            item_column: The column of a long frame that names the item.
            timestamp_column: The column that holds the dates. By default the index, or else the one column of dates
                that is called timestamp, date, time, ds or datetime.
            frequency: The pandas alias of the time step, inferred by default.
            regularise: Whether to mend dates that are not regular: sort the rows, keep one row of each repeated date
                (their mean where they differ), put rows of NaN where dates are missing.

        Returns:
            The panel.

        Raises:
            ValueError: If the input is of an unknown kind, empty, not numeric or infinite, or its dates are unknown
                or not regular.
        """
        reader = _Reader(target, item_column, timestamp_column, frequency, regularise)
        return reader.read(series)

    def standardised(self, location: np.ndarray, scale: np.ndarray) -> Panel:
        r"""Changes the units of the channels, :math:`(x - location) / scale`.

        Arguments:
            location: The locations, with shape :math:`(D,)`.
            scale: The scales, with shape :math:`(D,)`.

        Returns:
            The panel in the new units.
        """
        return replace(self, items=tuple(replace(i, values=(i.values - location) / scale) for i in self.items))

    def rows(self, stop: int | Sequence[int]) -> Panel:
        r"""Keeps the first rows of each item.

        Arguments:
            stop: The number of rows to keep, one for all items or one each.

        Returns:
            The shorter panel.
        """
        stops = [stop] * len(self) if isinstance(stop, int | np.integer) else stop
        items = (Item(i.item_id, i.values[:n], i.index[:n]) for i, n in zip(self.items, stops, strict=True))
        return replace(self, items=tuple(items))

    def future_index(self, item: Item, prediction_length: int) -> pd.Index[Any]:
        r"""The dates of the steps after an item's end.

        Arguments:
            item: An item of the panel.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The :math:`H` dates, in the item's time zone; for undated data the numbers that continue its rows.
        """
        if self.frequency is None:
            assert isinstance(item.index, pd.RangeIndex)
            return pd.RangeIndex(item.index.stop, item.index.stop + prediction_length)
        assert isinstance(item.index, pd.DatetimeIndex)
        end, unit = item.index[-1], item.index.unit
        return pd.date_range(end, periods=prediction_length + 1, freq=self.frequency, unit=unit)[1:]

    def require_observed(self) -> None:
        r"""Checks that every channel has a value somewhere.

        Raises:
            ValueError: If a channel is NaN throughout.
        """
        seen = np.any([~np.isnan(item.values).all(axis=0) for item in self.items], axis=0)
        empty = [channel for channel, any_seen in zip(self.channels, seen, strict=True) if not any_seen]
        if empty:
            raise ValueError(
                f"expected a value in every channel, but {_names('column', empty)} NaN throughout: "
                f"drop {'it' if len(empty) == 1 else 'them'}, or name the others in target=[...]"
            )

    def require_channels(self, names: Sequence[str]) -> Panel:
        r"""Brings the channels into the order of those that an adapter was fitted on.

        Arguments:
            names: The names of the fitted channels.

        Returns:
            The panel with its channels in that order.

        Raises:
            ValueError: If channels are missing or there are others.
        """
        missing = [name for name in names if name not in self.channels]
        extra = [name for name in self.channels if name not in names]
        if missing or extra:
            raise ValueError(
                f"expected the {len(names)} channels of the fit ({_list(names)}), got {self.num_channels}"
                + (f"; missing: {_list(missing)}" if missing else "")
                + (f"; not fitted: {_list(extra)}" if extra else "")
                + ("; target=[...] picks columns" if extra and not missing else "")
            )
        return self.select(names)

    def select(self, names: Sequence[str]) -> Panel:
        r"""Keeps some channels.

        Arguments:
            names: The names of the channels to keep, in the order wished.

        Returns:
            The panel of these channels.

        Raises:
            ValueError: If the panel has no such channel.
        """
        if tuple(names) == self.channels:
            return self
        unknown = [name for name in names if name not in self.channels]
        if unknown:
            raise ValueError(f"there is no column {_list(unknown)}; the columns are {_list(self.channels)}")
        columns = [self.channels.index(name) for name in names]
        items = tuple(replace(item, values=item.values[:, columns]) for item in self.items)
        return replace(self, items=items, channels=tuple(names))


def require_length(panel: Panel, needed: int, why: str) -> None:
    r"""Checks that every item is long enough.

    Arguments:
        panel: The panel.
        needed: The number of rows that each item needs.
        why: What the rows are needed for, to be read after "for".

    Raises:
        ValueError: If an item is shorter.
    """
    short = min(panel.items, key=len)
    if len(short) < needed:
        whose = "the series" if len(panel) == 1 else f"item {short.item_id!r}"
        raise ValueError(f"too short a series: {whose} has {len(short)} steps, at least {needed} are needed for {why}")


@dataclass(frozen=True)
class _Reader:
    r"""Reads one input with the options of `Panel.of`."""

    target: str | Sequence[str] | None
    item_column: str
    timestamp_column: str | None
    frequency: str | None
    regularise: bool

    def read(self, series: Any) -> Panel:
        if isinstance(series, Panel):
            self.require_as_read(series)
            return series if self.target is None else series.select(self.wanted(series.channels))
        if isinstance(series, pd.Series):
            series = series.to_frame("0" if series.name is None else series.name)
        if isinstance(series, pd.DataFrame):
            return self.read_frame(series)
        if isinstance(series, torch.Tensor):
            series = series.detach().cpu()
            series = (series.double() if series.is_floating_point() else series).numpy()  # numpy has no bfloat16
        if isinstance(series, np.ndarray):
            return self.read_array(series)
        if isinstance(series, list | tuple):
            return self.read_list(list(series))
        if isinstance(series, Iterable) and not isinstance(series, str | bytes | Mapping):
            entries = list(series)
            if entries and all(isinstance(entry, Mapping) for entry in entries):
                return self.read_gluonts(entries)
        raise ValueError(
            "expected a pandas frame or Series, an array or tensor (T, D), (N, T, D) or (T,), a list of these or a "
            f"gluonts dataset, got {type(series).__name__}"
            + ("; adapts.readers.read opens files and cards" if isinstance(series, str) else "")
            + ("; call its to_pandas() first" if hasattr(series, "to_pandas") else "")
        )

    def read_list(self, series: list[Any]) -> Panel:
        if not series:
            raise ValueError("expected at least one series, got an empty list")
        if all(isinstance(entry, Mapping) for entry in series):
            return self.read_gluonts(series)
        if not any(isinstance(entry, pd.DataFrame | pd.Series | np.ndarray | torch.Tensor | Panel) for entry in series):
            return self.read_array(_as_array(series))
        return self.join(self.read_all(series))

    def read_all(self, series: list[Any]) -> list[Panel]:
        r"""Reads the entries of a list; those too short to show a frequency take that of the longest."""
        framed = [isinstance(entry, pd.DataFrame | pd.Series) for entry in series]
        longest = max(range(len(series)), key=lambda n: len(series[n]) if framed[n] else 0)
        lead = self.read(series[longest])
        if self.frequency is not None or lead.frequency is None:
            return [self.read(entry) for entry in series]
        panels = []
        for entry, is_frame in zip(series, framed, strict=True):
            if is_frame and len(entry) < 3:
                panels.append(replace(self, frequency=lead.frequency).read(entry))
                continue
            panel = self.read(entry)
            if is_frame and panel.frequency != lead.frequency:  # Monday to Friday look like days, be they business days
                with suppress(ValueError):
                    panel = replace(self, frequency=lead.frequency, regularise=False).read(entry)
            panels.append(panel)
        return panels

    def join(self, panels: list[Panel], names: Sequence[str] | None = None) -> Panel:
        first = panels[0]
        dated = [panel.frequency for panel in panels]
        if len(set(dated)) > 1:
            raise ValueError(f"expected items of one frequency, got {_list(sorted({str(f) for f in dated}))}")
        items = []
        for number, panel in enumerate(panels):
            if len(panel) != 1:
                raise ValueError(f"expected a list of single series, but entry {number} holds {len(panel)} items")
            name = str(number) if names is None else names[number]
            items.append(replace(panel.require_channels(first.channels).items[0], item_id=name))
        return Panel(tuple(items), first.channels, first.frequency, single=False)

    def read_gluonts(self, entries: list[Any]) -> Panel:
        frames, names = [], []
        for number, entry in enumerate(entries):
            if "target" not in entry or "start" not in entry:
                raise ValueError(
                    f"expected gluonts entries with 'target' and 'start'; entry {number} has {_list(entry)}"
                )
            values = np.atleast_2d(_as_array(entry["target"])).T  # (T, D)
            start = entry["start"]
            index: pd.Index[Any]
            if isinstance(start, pd.Period):
                index = pd.period_range(start, periods=len(values), freq=start.freq)
            elif self.frequency is not None:
                index = pd.date_range(start, periods=len(values), freq=alias(self.frequency))
            else:
                raise ValueError(f"entry {number} starts at {start!r}, no Period with a frequency: give frequency=")
            frames.append(pd.DataFrame(values, index=index))
            names.append(str(entry.get("item_id", number)))
        return self.join(self.read_all(frames), names)

    def read_array(self, values: np.ndarray) -> Panel:
        if values.dtype.kind == "O":
            values = _as_array(values)
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2, 3):
            raise ValueError(f"expected real numbers (T,), (T, D) or (N, T, D), got {values.dtype} {values.shape}")
        single = values.ndim < 3
        if values.ndim == 1:
            values = values[:, None]
        if single:
            values = values[None]  # (N, T, D)
        if values.size == 0:
            raise ValueError(f"expected at least one item, one row and one channel, got shape {values.shape} (N, T, D)")
        self.refuse_frequency()
        channels = tuple(str(number) for number in range(values.shape[2]))
        items = (
            Item(str(number), item.astype(np.float64), pd.RangeIndex(len(item))) for number, item in enumerate(values)
        )
        return self.finish(Panel(tuple(items), channels, None, single))

    def finish(self, panel: Panel) -> Panel:
        r"""Picks the target columns and refuses infinities."""
        panel = panel.select(self.wanted(panel.channels))
        for item in panel.items:
            rows, columns = np.nonzero(np.isinf(item.values))
            if len(rows):
                where = "" if len(panel) == 1 else f" of item {item.item_id!r}"
                bad = [panel.channels[column] for column in sorted(set(columns.tolist()))]
                raise ValueError(
                    f"{_names('column', bad)} infinite{where}, first in row {rows[0]}: "
                    "a missing value is NaN, series.replace([np.inf, -np.inf], np.nan)"
                )
        return panel

    def wanted(self, channels: Sequence[str]) -> Sequence[str]:
        if self.target is None:
            return channels
        names = [self.target] if isinstance(self.target, str) else [str(name) for name in self.target]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected target to name columns, each once, got {names}")
        return names

    def read_frame(self, frame: pd.DataFrame) -> Panel:
        if isinstance(frame.index, pd.MultiIndex):  # (item, timestamp), as AutoGluon has it
            frame = frame.reset_index()
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
        if frame.columns.has_duplicates:
            twice = frame.columns[frame.columns.duplicated()].unique()
            raise ValueError(f"expected columns of different names, but {_list(twice)} came more than once")
        if len(frame) == 0:
            raise ValueError("expected at least one row, got an empty frame")
        long = self.item_column in frame.columns
        if not long and self.item_column != "item_id":
            raise ValueError(f"there is no item column {self.item_column!r}; the columns are {_list(frame.columns)}")
        dates, column = self.find_dates(frame)
        others = [name for name in frame.columns if name != column and not (long and name == self.item_column)]
        channels = tuple(self.wanted(others))
        if dates is not None and not long:
            self.require_one_series(frame, dates)
        values = self.numbers(frame, channels, dated=dates is not None)  # (rows, D)
        groups = _groups(frame[self.item_column]) if long else {"0": np.arange(len(frame))}
        if dates is None:
            self.refuse_frequency()
            frequency, items = None, []
            for name, rows in groups.items():
                start = 0 if long else int(frame.index[0])
                items.append(Item(name, values[rows], pd.RangeIndex(start, start + len(rows))))
        else:
            frequency, items = frequency_of(dates[max(groups.values(), key=len)], self.frequency), []
            for name, rows in groups.items():
                whose = f" of item {name!r}" if long else ""
                index, mended = regular_dates(
                    dates[rows], frequency, values[rows], regularise=self.regularise, whose=whose
                )
                items.append(Item(name, mended, index))
        return self.finish(Panel(tuple(items), channels, frequency, single=len(items) == 1))

    def find_dates(self, frame: pd.DataFrame) -> tuple[pd.DatetimeIndex | None, str | None]:
        r"""The dates of the rows, None if undated, and the column they come from, None if the index."""
        name = self.timestamp_column
        if name is None and not pd.api.types.is_numeric_dtype(frame.index.dtype):
            dates, source = parse_dates(frame.index), "the index"
        elif name is not None and name not in frame.columns and name == frame.index.name:
            dates, source, name = parse_dates(frame.index), f"the index {name!r}", None
        else:
            name = self.date_column(frame) if name is None else name
            if name is None:
                self.require_row_numbers(frame)
                return None, None
            if name not in frame.columns:
                raise ValueError(f"there is no timestamp column {name!r}; the columns are {_list(frame.columns)}")
            dates, source = parse_dates(frame[name]), f"column {name!r}"
        if dates is None:
            row, entry = first_undated(frame.index if name is None else frame[name])
            raise ValueError(
                f"{source} could not be read as dates (first: {entry!r} in row {row}): "
                "convert it with pd.to_datetime, or name another column with timestamp_column= (--timestamp-column)"
            )
        if dates.hasnans:
            none = np.flatnonzero(dates.isna())
            raise ValueError(f"{source} has {len(none)} rows without a date, the first is row {none[0]}: drop them")
        return dates, name

    def require_one_series(self, frame: pd.DataFrame, dates: pd.DatetimeIndex) -> None:
        r"""Checks that dates that repeat do not do so because another column than the item column names the item."""
        if not dates.has_duplicates:
            return
        repeated = int(dates.duplicated().sum())
        for name in frame.columns:
            if name.lower() in ITEM_NAMES and name not in self.wanted(()):
                apart = pd.DataFrame({"item": frame[name].to_numpy(), "date": dates}).duplicated().sum()
                if apart < repeated and frame[name].nunique() < len(frame):  # a number a row names no series
                    raise ValueError(
                        f"{repeated} of the {len(dates)} dates are repeated, and the rows look like several series "
                        f"told apart by column {name!r}: pass item_column={name!r} (--item-column {name})"
                    )

    def date_column(self, frame: pd.DataFrame) -> str | None:
        r"""The one column of dates that is called so, or whose type is dates; None if there is none."""
        free = [name for name in frame.columns if name != self.item_column and name not in self.wanted(())]
        called = [name for name in free if name.lower() in TIMESTAMP_NAMES]
        found = [name for name in called if parse_dates(frame[name]) is not None]
        found = found or [name for name in free if pd.api.types.is_datetime64_any_dtype(frame[name].dtype)]
        if len(found) > 1:
            raise ValueError(
                f"columns {_list(found)} all hold dates: name one with timestamp_column= (--timestamp-column), "
                "and the columns to forecast with target=[...]"
            )
        if called and not found:
            return called[0]  # its reading fails, with the reason
        return found[0] if found else None

    def require_row_numbers(self, frame: pd.DataFrame) -> None:
        r"""Checks that the index of an undated frame counts its rows."""
        index = frame.index
        if self.item_column not in frame.columns and not np.array_equal(index, index[0] + np.arange(len(frame))):
            raise ValueError(
                f"the index holds neither dates nor row numbers without gaps (first: {_list(index[:3])}): set a "
                "DatetimeIndex, name a column with timestamp_column= (--timestamp-column), or call "
                "reset_index(drop=True) if the rows are regular"
            )

    def numbers(self, frame: pd.DataFrame, channels: Sequence[str], *, dated: bool) -> np.ndarray:
        r"""The channels as an array (rows, D); columns that are not numeric are refused by name."""
        unknown = [name for name in channels if name not in frame.columns]
        if unknown:
            raise ValueError(f"there is no column {_list(unknown)}; the columns are {_list(frame.columns)}")
        if not channels:
            raise ValueError(f"expected at least one column to forecast, got only {_list(frame.columns)}")
        columns, bad, ids = [], [], []
        for name in channels:
            column = _numeric(frame[name])
            if column is None:
                bad.append(_why_not_numeric(frame[name], dated))
                if name.lower() in ITEM_NAMES or bad[-1].startswith(f"column {name!r} holds {frame[name].dtype} "):
                    ids.append(name)
            else:
                columns.append(column)
        if bad:
            raise ValueError(
                f"expected numbers, but {'; '.join(bad)}. target=[...] (--columns) picks the columns to forecast"
                + (
                    f"; if {ids[0]!r} names the series of each row: item_column={ids[0]!r} (--item-column {ids[0]})"
                    if ids
                    else ""
                )
            )
        return np.column_stack(columns)

    def require_as_read(self, panel: Panel) -> None:
        r"""Checks that no option asks to read a panel otherwise than it was."""
        asked = {
            "item_column": self.item_column != "item_id",
            "timestamp_column": self.timestamp_column is not None,
            "frequency": self.frequency is not None and alias(self.frequency) != panel.frequency,
            "regularise": self.regularise,
        }
        for option, is_asked in asked.items():
            if is_asked:
                raise ValueError(
                    f"a Panel is already read (its frequency is {panel.frequency!r}), {option}= cannot change it: pass "
                    "the frame it came from instead"
                )

    def refuse_frequency(self) -> None:
        if self.frequency is not None or self.regularise:
            option = "frequency=" if self.frequency is not None else "regularise="
            raise ValueError(f"the data have no dates for {option} to apply to: pass a frame with dates")


def _groups(ids: pd.Series[Any]) -> dict[str, np.ndarray]:
    r"""The rows of each item, in the order in which the items first come."""
    codes, names = pd.factorize(ids.map(str, na_action="ignore"))
    if (codes < 0).any():
        raise ValueError(f"column {ids.name!r} names no item in row {int(np.argmin(codes))}: every row needs its item")
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    return dict(zip(names, rows, strict=True))


def _numeric(column: pd.Series[Any]) -> np.ndarray | None:
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


def _why_not_numeric(column: pd.Series[Any], dated: bool) -> str:
    name, present = column.name, column.dropna()
    if pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype):
        numbers = pd.to_numeric(present, errors="coerce")
        if numbers.notna().all():
            return f"column {name!r} holds numbers as text (first: {present.iloc[0]!r}): convert it with pd.to_numeric"
        if numbers.notna().mean() > 0.5:
            first = present[numbers.isna()].iloc[0]
            return (
                f"column {name!r} holds numbers as text, and some entries that are none (first: {first!r}): convert it "
                "with pd.to_numeric(..., errors='coerce') if these are missing values"
            )
    if not dated and not isinstance(column.dtype, pd.CategoricalDtype) and parse_dates(present) is not None:
        return f"column {name!r} holds dates: name it with timestamp_column= (--timestamp-column)"
    return f"column {name!r} holds {column.dtype} (first: {present.iloc[0]!r})"


def _as_array(values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected numbers in a (T,), (T, D) or (N, T, D) arrangement, got {type(values).__name__}: {error}; "
            "items of unequal length go in a list of arrays"
        ) from None


def _list(names: Iterable[Any]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:10], "...", shown[-1]])


def _names(noun: str, names: Sequence[str]) -> str:
    return f"{noun} {names[0]!r} is" if len(names) == 1 else f"{noun}s {_list(names)} are"

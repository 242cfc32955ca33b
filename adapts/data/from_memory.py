r"""The doors: frames, arrays, lists and gluonts entries become a panel. All checks of the caller's data live here."""

from __future__ import annotations

__all__ = ["Reader", "read_series"]

import datetime
import numbers
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from inspect import getattr_static
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from .._logging import warn
from ..errors import reading, shown, unforeseen
from .clocks import SERIAL, as_dates, as_steps, counts, fields_of, joined, of_parts, spells, suggested, transposed
from .columns import (
    as_array,
    groups,
    joined_names,
    listed,
    named,
    names_in,
    numeric,
    require_plain,
    strange,
    why_not_numeric,
)
from .date_parsing import (
    first_undated,
    out_of_range,
    parse_dates,
    times_of_day,
    two_digit_years,
    two_orders,
    uncategorised,
)
from .frames import as_pandas
from .frequency import RANGE, alias, calendar_period
from .item import Categories, Item
from .options import ITEM_NAMES, TIMESTAMP_NAMES, label, reading_options
from .regular_dates import STEPS_IN_GAPS, STEPS_PER_DATE, frequency_of, is_regular, regular_dates, steps_from
from .sizes import require_sizes
from .static import coded, with_static

if TYPE_CHECKING:
    from .panel import Panel

#: What the names of features begin with in gluonts entries, those of former versions, and which an estimator takes.
FEATURES, FORMER_FEATURES = ("feat_", "past_feat_"), ("cat", "dynamic_feat", "past_dynamic_feat")
DECLARED = ("feat_dynamic_real", "past_feat_dynamic_real", "feat_static_real", "feat_static_cat")
#: The most channels: a fit holds several matrices of channels by channels, 200 MB each at this number.
MOST_CHANNELS = 5000


@dataclass(frozen=True)
class Reader:
    r"""Reads one input with the options of `Panel.of`.

    `covariates` are columns that the caller names beside the target. They are read either way; what is said of columns
    that nobody named is not said of them.
    """

    panel_type: type[Panel]
    target: str | Sequence[str] | None
    item_column: str | Sequence[str] | None
    timestamp_column: str | None
    frequency: str | None
    regularise: bool
    static: Sequence[str] | Mapping[str, Categories | None] = ()
    covariates: Sequence[str] = ()

    def __post_init__(self) -> None:
        given = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in ("panel_type", "covariates")
        }
        for name, value in reading_options(**given).items():
            object.__setattr__(self, name, value)

    def read(self, series: Any) -> Panel:
        r"""Makes a panel of whatever holds series; see `Panel.of`."""
        if isinstance(series, self.panel_type):
            return self.read_panel(series)
        try:
            return self.read_any(as_pandas(series))
        except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta) as error:
            raise ValueError(f"{error}: {RANGE}") from error

    def read_panel(self, panel: Panel) -> Panel:
        r"""Picks columns of a panel; its static columns stay with them, or those of its numbers that are named are."""
        self.require_as_read(panel)
        new = {name: None for name in self.static if name not in panel.static}
        if isinstance(self.static, Mapping):
            new = {name: None for name in new if name in panel.channels and self.static[name] is None}
        if new and panel.static:
            raise ValueError(
                f"the panel was read with the static columns {listed(panel.static)}, without {listed(new)}: name all "
                "where it is read"
            )
        if self.target is not None:
            wanted = replace(self, static=()).wanted(panel.channels)
            panel = panel.select([*dict.fromkeys([*wanted, *new, *panel.static_columns])])
        unknown = [name for name in new if name not in panel.channels]
        if unknown:
            raise ValueError(f"there is no column {listed(unknown)}; the columns are {listed(panel.channels)}")
        return with_static(panel, new)

    def read_any(self, series: Any) -> Panel:
        r"""Reads what is no panel."""
        if isinstance(series, pd.Series):
            series = series.to_frame("0" if series.name is None else series.name)
        if isinstance(series, pd.DataFrame):
            return self.read_frame(series)
        if isinstance(series, torch.Tensor):
            with reading("the tensor cannot be read as an array", "pass a dense tensor, tensor.to_dense()"):
                series = series.detach().cpu()
                series = (series.double() if series.is_floating_point() else series).numpy()  # numpy has no bfloat16
        if isinstance(series, np.ma.MaskedArray):
            with reading("the masked array does not hold real numbers", "pass series.astype(float)"):
                series = np.ma.filled(series.astype(np.float64), np.nan)
        if isinstance(series, np.ndarray):
            return self.read_array(series)
        if isinstance(series, list | tuple):
            return self.read_list(list(series))
        with reading(f"reading the {type(series).__name__} failed", "pass a frame, an array or a list"):
            entries, names = _entries_of(series)
        if entries:
            return self.read_gluonts(entries, names)
        raise ValueError(
            "expected a frame or series (pandas, polars, Arrow), an array or tensor (T, D), (N, T, D) or (T,), a list "
            f"of these or a gluonts dataset, got {type(series).__name__}"
            + ("; adapts.data.cards.read opens files and cards" if isinstance(series, str | PathLike) else "")
            + ("; call its to_pandas() first" if getattr_static(series, "to_pandas", None) is not None else "")
            + ("; pass its values as a list" if isinstance(series, Mapping) else "")
        )

    # ------------------------------------------------------------------ lists and arrays

    def read_list(self, series: list[Any]) -> Panel:
        r"""Reads a list of series, of gluonts entries, or nested lists of numbers."""
        if not series:
            raise ValueError("expected at least one series, got an empty list")
        if all(isinstance(entry, Mapping) for entry in series):
            return self.read_gluonts(series)
        series = [as_pandas(entry) for entry in series]
        if self.static and not isinstance(self.static, Mapping):
            return self.of_one_kind(series).read_list(series)
        if not any(
            isinstance(entry, (pd.DataFrame, pd.Series, np.ndarray, torch.Tensor, self.panel_type)) for entry in series
        ):
            return self.read_array(as_array(series))
        return self.join(self.read_all(series))

    def of_one_kind(self, series: list[Any]) -> Reader:
        r"""The reader that gives a list of frames the same categories."""
        static = {}
        for name in self.static:
            columns = [entry[name] for entry in series if isinstance(entry, pd.DataFrame) and name in entry.columns]
            if len(columns) < len(series):
                raise ValueError(
                    f"expected the static column {shown(name)} in each entry, {len(columns)} of {len(series)} have it"
                )
            static[name] = coded(pd.concat(columns, ignore_index=True))[1]
        return replace(self, static=static)

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

    def join(self, panels: list[Panel]) -> Panel:
        r"""One panel of several of one item each, numbered."""
        first = panels[0]
        dated = [panel.frequency for panel in panels]
        if len(set(dated)) > 1:
            raise ValueError(f"expected items of one frequency, got {listed(sorted({str(f) for f in dated}))}")
        zones = {str(getattr(panel.items[0].index, "tz", None)): n for n, panel in reversed([*enumerate(panels)])}
        if len(zones) > 1 and "None" in zones:
            first_zone = next(zone for zone in zones if zone != "None")
            raise ValueError(
                f"expected dates with a time zone in all entries or in none, got {first_zone} in entry "
                f"{zones[first_zone]} and none in entry {zones['None']}: frame.tz_localize(zone) says which it is"
            )
        items = []
        for number, panel in enumerate(panels):
            if len(panel) != 1:
                raise ValueError(f"expected a list of single series, but entry {number} holds {len(panel)} items")
            items.append(replace(panel.require_channels(first.channels).items[0], item_id=str(number)))
        return self.panel_type(
            tuple(items), first.channels, first.frequency, single=False, known_covariates=first.known_covariates,
            static=first.static,
        )  # fmt: skip

    def read_array(self, values: np.ndarray) -> Panel:
        r"""Reads numbers (T,), (T, D) or (N, T, D)."""
        if values.dtype.kind == "O":
            values = as_array(values)
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2, 3):
            raise ValueError(f"expected real numbers (T,), (T, D) or (N, T, D), got {values.dtype} {values.shape}")
        single = values.ndim < 3
        if values.ndim == 1:
            values = values[:, None]
        if single:
            values = values[None]  # (N, T, D)
        if values.size == 0:
            raise ValueError(f"expected at least one item, one row and one channel, got shape {values.shape} (N, T, D)")
        self.refuse_width(values.shape[2])
        self.refuse_columns()
        self.refuse_frequency()
        channels = tuple(str(number) for number in range(values.shape[2]))
        items = (
            Item(str(number), np.array(item, np.float64), pd.RangeIndex(len(item)))
            for number, item in enumerate(values)
        )
        return self.finish(self.panel_type(tuple(items), channels, None, single))

    # ------------------------------------------------------------------ gluonts

    def read_gluonts(self, entries: Sequence[Mapping[str, Any]], names: str | Sequence[str] | None = None) -> Panel:
        r"""Reads entries of `start` and `target`; `names` are those of the channels, if the dataset knows them."""
        self.refuse_columns()
        items: list[Item] = []
        found: list[str] = []
        settled: dict[Any, str] = {}
        for number, entry in enumerate(entries):
            if "target" not in entry or "start" not in entry:
                raise ValueError(
                    f"expected gluonts entries with 'target' and 'start'; entry {number} has {listed(entry)}"
                )
            values = np.atleast_2d(as_array(entry["target"])).T.copy()  # (T, D)
            if values.ndim > 2 or values.size == 0:
                raise ValueError(f"expected a target (T,) or (D, T), entry {number} has shape {values.T.shape}")
            self.refuse_width(values.shape[1])
            if items and values.shape[1] != items[0].values.shape[1]:
                raise ValueError(
                    f"expected as many channels in each entry, got {items[0].values.shape[1]} in entry 0 and "
                    f"{values.shape[1]} in entry {number}"
                )
            start = entry["start"]
            if not isinstance(start, pd.Period | str | datetime.date | np.datetime64):
                raise ValueError(f"entry {number} starts at {shown(start)}: expected a Period, a date or its text")
            if self.frequency is None and not isinstance(start, pd.Period):
                raise ValueError(
                    f"entry {number} starts at {shown(start)}, no Period with a frequency: give frequency= "
                    "(--frequency)"
                )
            like = settled.get(getattr(start, "freq", None))
            dates, frequency = steps_from(start, self.frequency, len(values), like=like)
            settled[getattr(start, "freq", None)] = frequency
            found.append(frequency)
            name = number if entry.get("item_id") is None else entry["item_id"]
            if not isinstance(name, str | numbers.Number | np.generic):
                raise ValueError(f"entry {number} has the item_id {shown(name)}: expected text or a number")
            items.append(Item(label(name, f"entry {number}"), values, dates))
        if len(set(found)) > 1:
            period = calendar_period(self.frequency)  # holds weeks of other days, and years that begin in other months
            if period is None or all(isinstance(entry["start"], pd.Period) for entry in entries):
                raise ValueError(f"expected items of one frequency, got {listed(sorted(set(found)))}")
            with reading("the starts of the entries cannot be read as periods", f"give periods of {period!r}"):
                entries = [{**entry, "start": pd.Period(entry["start"], freq=period)} for entry in entries]
            return replace(self, frequency=None).read_gluonts(entries, names)
        width = items[0].values.shape[1]
        channels = tuple(str(number) for number in range(width))
        if names is not None:
            names = [names] if isinstance(names, str) else names
            channels = tuple(label(name) for name in names) if len(names) == width else channels
        _tell_unread(entries)
        return self.finish(self.panel_type(tuple(items), channels, found[0], single=False))

    # ------------------------------------------------------------------ frames

    def read_frame(self, given: pd.DataFrame) -> Panel:
        r"""Reads a wide or a long pandas frame."""
        _require_years(given)
        if not isinstance(given.index, pd.MultiIndex):  # numbers as any index holds them
            given = given.set_axis(uncategorised(given.index).infer_objects())
        frame, item_column, timestamp_column = self.flat(given)
        if isinstance(self.static, Mapping) and not self.static.keys() <= set(frame.columns):
            here = {name: held for name, held in self.static.items() if name in frame.columns}
            return replace(self, static=here).read_frame(given)
        reader = replace(self, item_column=item_column, timestamp_column=timestamp_column)
        level = timestamp_column if isinstance(given.index, pd.MultiIndex) else None
        return reader.read_flat(frame, level)

    def read_flat(self, frame: pd.DataFrame, level: str | None) -> Panel:
        r"""Reads a frame that `flat` has made; `level` is the level of its index that the dates were, if any."""
        dates, column = self.find_dates(frame)
        steps = as_steps(frame[column]) if dates is None and column is not None else None
        clock = _clock(frame, dates, steps)
        item = self.find_items(frame, clock, column)
        channels = tuple(self.wanted([name for name in frame.columns if name not in (column, item)]))
        codes = np.zeros(len(frame), np.int64) if item is None else names_in(frame[item], "item")[0]
        if dates is not None:
            self.require_whole_dates(frame, dates, column, codes)
        if clock is not None:
            self.require_one_series(frame.drop(columns=[] if column is None else column), clock, codes, item)
        if clock is None:
            self.require_undated(frame, item, codes)
        self.require_no_clocks(frame, dates, item, codes, channels)
        frame, static = self.with_codes(frame)
        values = self.numbers(frame, channels, dates)  # (rows, D)
        rows_of = {"0": np.arange(len(frame))} if item is None else groups(frame[item])
        items: list[Item] = []
        if dates is None:
            self.refuse_frequency()
            frequency = None
            for name, rows in rows_of.items():
                start = int(frame.index[0]) if item is None and steps is None else 0
                if steps is not None:
                    start = _first_step(steps[rows], str(column), "" if item is None else f" of item {shown(name)}")
                items.append(Item(name, values[rows], pd.RangeIndex(start, start + len(rows))))
        else:
            undated = _without_dates(column, level)
            frequency = frequency_of(dates[max(rows_of.values(), key=len)], self.frequency, undated=undated)
            for name, rows in rows_of.items():
                index = dates if item is None else dates[rows]  # as it stands, it keeps its freq
                whose = "" if item is None else f" of item {shown(name)}"
                index, mended = regular_dates(
                    index, frequency, values[rows], regularise=self.regularise, whose=whose, undated=undated
                )
                items.append(Item(name, mended, index))
                _require_proportion(items, len(frame))
        panel = self.panel_type(tuple(items), channels, frequency, single=len(items) == 1)
        return with_static(self.finish(panel if item is None else replace(panel, item_column=item)), static)

    def with_codes(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Categories | None]]:
        r"""A frame with numbers in place of the categories of its static columns, and these categories."""
        fitted = isinstance(self.static, Mapping)
        static = dict(self.static) if isinstance(self.static, Mapping) else dict.fromkeys(self.static)
        for name, categories in static.items():
            if name in frame.columns and not (fitted and categories is None):  # text is no number, as `numbers` says
                codes, static[name] = coded(frame[name], categories)
                frame = frame.assign(**{name: codes})
        return frame, static

    def flat(self, frame: pd.DataFrame, keep: Sequence[str] = ()) -> tuple[pd.DataFrame, str | None, str | None]:
        r"""A frame whose columns have text as names and whose index names no items, and what the index named."""
        # Columns that name an item together are made one, and go but for those that the options name, and `keep`.
        frame = _without_twins(frame)
        item, timestamp, index = self.item_column, self.timestamp_column, frame.index
        columns = _labels(frame.columns)
        called = [label(name, "the index") for name in index.names if name is not None]
        if isinstance(index, pd.MultiIndex):  # (item, timestamp), as AutoGluon has it
            dated = [
                isinstance(level, pd.PeriodIndex) or pd.api.types.is_datetime64_any_dtype(level.dtype)
                for level in index.levels
            ]
            if len(dated) == 2 and sum(dated) == 1:
                frame = frame.rename_axis(
                    [
                        str(name) if name is not None else "timestamp" if is_date else "item_id"
                        for name, is_date in zip(index.names, dated, strict=True)
                    ]
                )
                item = item or str(frame.index.names[dated.index(False)])
                timestamp = timestamp or str(frame.index.names[dated.index(True)])
            frame = _with_index(frame, columns)
        elif called and (called[0] in item if isinstance(item, list) else called[0] == (item or called[0])):
            counts = pd.api.types.is_numeric_dtype(index.dtype) and index.is_unique  # a number a row names no series
            if item or (called[0].lower() in ITEM_NAMES and not counts):
                frame = _with_index(frame, columns)
        frame = frame.set_axis(_labels(frame.columns), axis=1)
        if frame.columns.has_duplicates:
            twice = frame.columns[frame.columns.duplicated()].unique()
            raise ValueError(f"expected columns of different names, but {listed(twice)} came more than once")
        if len(frame) == 0:
            raise ValueError("expected at least one row, got an empty frame")
        if isinstance(item, list):
            frame, item = _joined(frame, item, (*keep, *self.wanted(()))), "/".join(item)
        return frame, None if item is None else str(item), timestamp

    def find_dates(self, frame: pd.DataFrame) -> tuple[pd.DatetimeIndex | None, str | None]:
        r"""The dates of the rows, None if undated, and the column they come from, None if the index."""
        name = self.timestamp_column
        if name is None and not pd.api.types.is_numeric_dtype(frame.index.dtype):
            dates, source = parse_dates(frame.index), "the index"
        elif name is not None and name not in frame.columns and name == str(frame.index.name):
            dates, source, name = parse_dates(frame.index), f"the index {shown(name)}", None
        else:
            name = self.date_column(frame) if name is None else name
            if name is None:
                return None, None
            if name not in frame.columns:
                raise ValueError(f"there is no timestamp column {shown(name)}; the columns are {listed(frame.columns)}")
            dates, source = parse_dates(frame[name]), f"column {shown(name)}"
        held = frame.index.to_series() if name is None else frame[name]
        if dates is None and self.frequency is not None:
            orders = [each for each, _ in (two_orders(held) or {}).values() if is_regular(each, self.frequency)]
            dates = orders[0] if len(orders) == 1 else None
        if dates is None:
            require_plain(held, source, "dates")
            for each in frame.columns if name is not None else ():
                days = None if each == name or strange(frame[each]) is not None else as_dates(frame[each])
                both = None if days is None else joined(frame, each, days[1], [str(name)])
                if both is not None:
                    raise ValueError(both)
            if name is not None and _numbers_steps(held):
                return None, name
            raise ValueError(self.why_undated(frame, held, source, name))
        if dates.hasnans:
            none = np.flatnonzero(dates.isna())
            raise ValueError(f"{source} has {len(none)} rows without a date, the first is row {none[0]}: drop them")
        return dates, name

    def why_undated(self, frame: pd.DataFrame, held: pd.Series[Any], source: str, name: str | None) -> str:
        r"""Why a column holds no dates, and what reads this very column."""
        row, entry = first_undated(held)
        where = f"(first: {shown(entry)} in row {row})"
        sideways = transposed(frame) if name is None else None
        if sideways is not None:
            return f"the columns {listed(sideways[1])} are called by dates: {sideways[0]} has a row a date"
        orders = two_orders(held)
        if orders is not None:
            said = " and ".join(
                f"{order} they are {f'of frequency {step!r}' if step else 'not regular'}, {dates[0]} to {dates[-1]}"
                for order, (dates, step) in orders.items()
            )
            return (
                f"{source} does not tell in which order day and month stand (first: {shown(str(held.iloc[0]))}): "
                f"read {said}. pd.to_datetime(column, dayfirst=True) reads the day first, and "
                "pd.to_datetime(column, dayfirst=False) the month"
            )
        if two_digit_years(held):
            return (
                f"{source} holds years of two digits {where}, and its dates do not "
                "tell in which order day, month and year stand: write the years with four digits, as 2024-01-31"
            )
        if times_of_day(held) is not None:
            return (
                f"{source} could not be read as dates {where}, for it holds times of day without a day: put the date "
                "before them, or drop it if the rows are to be numbered"
            )
        unread = f"{source} could not be read as dates {where}"
        another = "or name another column with timestamp_column= (--timestamp-column)"
        found = suggested(held)
        if found is not None:
            code, dates = found
            counted = "if it numbers the rows, drop it, " if _numbers_steps(held, serial=True) else ""
            return f"{unread}: {code} makes dates of it, from {dates[0]} on; {counted}{another}"
        if pd.api.types.is_numeric_dtype(held.dtype):
            return f"{unread}, for it holds numbers of no known unit: drop it if it numbers the rows, {another}"
        if out_of_range(entry):
            return f"{source} holds {shown(entry)} in row {row}: {RANGE}"
        entries = held.to_numpy(dtype=object)
        rest = held[[each != held.iloc[row] for each in entries]]
        if 2 * len(rest) >= len(held) and parse_dates(rest) is not None:
            return f"{unread}, and the other rows could: correct that row or drop it"
        return f"{unread}: write them as 2024-01-31 or 2024-01-31 12:00, {another}"

    def require_whole_dates(
        self, frame: pd.DataFrame, dates: pd.DatetimeIndex, column: str | None, codes: np.ndarray
    ) -> None:
        r"""Checks that days that repeat have no times of day in another column."""
        if not pd.DataFrame({"item": codes, "date": dates}).duplicated().any():
            return
        names = [name for name in frame.columns if name != column and name not in self.wanted(())]
        both = joined(frame, column, dates, names)
        if both is not None:
            raise ValueError(both)

    def require_undated(self, frame: pd.DataFrame, item: str | None, codes: np.ndarray) -> None:
        r"""Checks that a frame without dates holds none, whichever of its columns are asked for."""
        free = [name for name in frame.columns if name != item and name not in (*self.wanted(()), *self.covariates)]
        parts = of_parts(frame, free)
        if parts is not None:
            code, names = parts
            raise ValueError(
                f"columns {listed(names)} spell out the dates of the rows: make one column of them, "
                f"frame['date'] = {code}, and drop them; if they are to be forecast, target=[...] (--columns) names "
                "them"
            )
        largest = codes == np.bincount(np.maximum(codes, 0)).argmax()
        for name in free:
            if strange(frame[name]) is not None:
                continue
            found = as_dates(frame[name])
            if found is None or found[1][largest].nunique() < 2:
                continue
            read, dates = found
            both = joined(frame, name, dates, [each for each in free if each != name])
            if both is not None:
                raise ValueError(both)
            raise ValueError(
                f"column {shown(name)} holds dates: "
                + (
                    f"name it with timestamp_column= (--timestamp-column), timestamp_column={shown(name)}"
                    if read is None
                    else f"make them such, frame[{name!r}] = {read.replace('column', f'frame[{name!r}]')}, and name it "
                    f"with timestamp_column={shown(name)}"
                )
                + "; if the rows are to be numbered instead, drop it"
            )
        sideways = transposed(frame) if self.target is None and item is None else None
        if sideways is not None:
            code, names = sideways
            raise ValueError(
                f"the columns {listed(names)} are called by dates, so that each row would be a step: {code} has a row "
                "a date; target=[...] (--columns) names these columns if they are the series"
            )
        if item is None:
            self.require_row_numbers(frame)
        for name in free if self.target is not None else ():  # or else it is a channel, and text is none
            if strange(frame[name]) is None and _are_blocks(frame[name], codes):
                keys = name if item is None else [item, name]
                raise ValueError(
                    f"the rows have no dates, and column {shown(name)} has names of as many rows each: if these are "
                    f"series, item_column={keys!r} (--item-column) says so; if not, drop it"
                )
        for name in free:
            numbers = as_steps(frame[name]) if strange(frame[name]) is None else None
            if numbers is None or not counts(numbers, codes, in_order=False):
                continue
            if not counts(numbers, codes, in_order=True):
                by = [*([item] if item is not None else []), name]
                raise ValueError(
                    f"column {shown(name)} numbers the rows, and they do not lie in its order: "
                    f"frame.sort_values({by}, ignore_index=True) sorts them; drop it if it means something else"
                )

    def require_no_clocks(
        self,
        frame: pd.DataFrame,
        dates: pd.DatetimeIndex | None,
        item: str | None,
        codes: np.ndarray,
        channels: Sequence[str],
    ) -> None:
        r"""Checks that no channel that nobody named says what the dates or the numbers of the rows do."""
        if self.target is not None:
            return
        free = [name for name in channels if name not in (*self.wanted(()), *self.covariates) and name in frame.columns]
        whole = [name for name in free if pd.api.types.is_integer_dtype(frame[name].dtype)]
        fields = {} if dates is None or not whole else fields_of(dates)
        said = [name for name in whole if fields and spells(frame[name], fields)]
        if said and len(said) < len(free):
            raise ValueError(
                f"{named('column', said)} what the dates say once more, and no series to forecast: drop "
                f"{'it' if len(said) == 1 else 'them'}, or name the columns to forecast with target=[...] (--columns)"
            )
        numbered = {name: as_steps(frame[name]) for name in whole}
        said = [name for name, each in numbered.items() if each is not None and counts(each, codes, in_order=True)]
        if said and len(said) < len(free):
            steps = dates is None and _numbers_steps(frame[said[0]])
            more = f"; timestamp_column={shown(said[0])} says that it numbers the steps" if steps else ""
            raise ValueError(
                f"{named('column', said)} no series to forecast but a number of each row: drop "
                f"{'it' if len(said) == 1 else 'them'}, or name the columns to forecast with target=[...] "
                f"(--columns){more}"
            )

    def date_column(self, frame: pd.DataFrame) -> str | None:
        r"""The one column of dates that is called so, or whose type is dates; None if there is none."""
        free = [name for name in frame.columns if name != self.item_column and name not in self.wanted(())]
        called = [name for name in free if name.lower() in TIMESTAMP_NAMES]
        found = [name for name in called if parse_dates(frame[name]) is not None]
        found = found or [name for name in free if pd.api.types.is_datetime64_any_dtype(frame[name].dtype)]
        if len(found) > 1:
            raise ValueError(
                f"columns {listed(found)} all hold dates: name one with timestamp_column= (--timestamp-column), "
                "and the columns to forecast with target=[...]"
            )
        if called and not found:
            return called[0]  # its reading fails, with the reason
        return found[0] if found else None

    def find_items(self, frame: pd.DataFrame, dates: pd.DatetimeIndex | None, dated: str | None) -> str | None:
        r"""The column that names the item of each row: the one given, or else the one that is called so and does so."""
        if self.item_column is not None:
            given = str(self.item_column)  # of several, `flat` has made one
            if given not in frame.columns:
                raise ValueError(
                    f"there is no item column {shown(self.item_column)}; the columns are {listed(frame.columns)}"
                )
            both = None
            if dates is not None and dated is not None:
                both = joined(frame, dated, dates, [given])
            if both is not None and times_of_day(frame[given]) is not None:
                raise ValueError(f"times of day name no items: {both}")
            return given
        free = [name for name in frame.columns if name.lower() in ITEM_NAMES and name not in (dated, *self.wanted(()))]
        found = [name for name in free if self.names_items(frame[name], dates)]
        if len(found) > 1:
            raise ValueError(
                f"columns {listed(found)} could each name the item of a row: name one with item_column= "
                "(--item-column), and the columns to forecast with target=[...] (--columns)"
            )
        return found[0] if found else None

    @staticmethod
    def names_items(ids: pd.Series[Any], dates: pd.DatetimeIndex | None) -> bool:
        r"""Whether a column of such a name tells several series apart, and is no channel nor a number a row."""
        require_plain(ids, f"column {shown(ids.name)}", "names of items")
        name, rows, count = str(ids.name).lower(), len(ids), ids.nunique()
        repeated = 0 if dates is None else int(dates.duplicated().sum())
        if name == "item_id":
            return True
        if not (count <= 1 or 2 * count <= rows or 2 * repeated >= rows):
            return False
        if name != "id":
            return True
        if dates is not None and repeated:
            return not pd.DataFrame({"item": ids.to_numpy(), "date": dates}).duplicated().any()
        return numeric(ids) is None

    def require_one_series(
        self, frame: pd.DataFrame, dates: pd.DatetimeIndex, codes: np.ndarray, item: str | None
    ) -> None:
        r"""Checks that dates do not repeat, within items, because other columns tell further series apart."""
        rows, repeated = len(dates), _repeated(codes, dates)
        for name in frame.columns if repeated and item is None else ():
            if name.lower() in ITEM_NAMES and name not in self.wanted(()):
                apart = pd.DataFrame({"item": frame[name].to_numpy(), "date": dates}).duplicated().sum()
                if apart < repeated and frame[name].nunique() < len(frame):  # a number a row names no series
                    raise ValueError(
                        f"{repeated} of the {rows} dates are repeated, and the rows may be several series "
                        f"told apart by column {shown(name)}: pass item_column={shown(name)} (--item-column {name})"
                    )
        if 10 * repeated <= rows:  # the hours that clocks repeat, which a flag may tell apart, are no series
            return
        keys = self.keys(frame, dates, codes, item)
        if not keys:
            return
        whole = keys if item is None else [item, *keys]
        given = shown(whole[0]) if len(whole) == 1 else f"[{', '.join(map(repr, whole))}]"
        typed = " ".join(f"--item-column {shown(name) if ' ' in name else name}" for name in whole)
        unless = (
            f"If not, drop {'it' if len(keys) == 1 else 'them'}: regularise=True does not average what "
            f"{' and '.join(map(shown, keys))} {'tells' if len(keys) == 1 else 'tell'} apart"
        )
        which = f"does column {shown(keys[0])}" if len(keys) == 1 else f"do columns {listed(keys)} together"
        raise ValueError(
            f"{repeated} of the {rows} dates are repeated{'' if item is None else ' within items'}: {which} name the "
            f"series of each row{'' if item is None else f', beside {shown(item)}'}? item_column={given} "
            f"({typed}) says so. {unless}"
        )

    def keys(self, frame: pd.DataFrame, dates: pd.DatetimeIndex, codes: np.ndarray, item: str | None) -> list[str]:
        r"""The fewest columns that, beside the items, tell apart series whose dates repeat; none if there are none."""
        coded = {}
        for name in frame.columns:
            column = frame[name]
            if name == item or name in self.wanted(()) or strange(column) is not None:
                continue
            numbers = pd.api.types.is_numeric_dtype(column.dtype)
            each = pd.factorize(column if numbers else column.map(str, na_action="ignore"))[0]
            if (each >= 0).all() and 2 <= each.max() + 1 <= len(each) / 2:
                coded[name] = _paired(codes, each)
        alone = [name for name in coded if self.tells_apart(coded[name], codes, dates)]
        if alone:
            return [min(alone, key=lambda name: len(set(frame[name].map(str))))]
        floats = [name for name in coded if pd.api.types.is_float_dtype(frame[name].dtype)]
        chosen: list[str] = []
        made = codes
        while len(chosen) < 4 and (left := [name for name in coded if name not in (*chosen, *floats)]):
            best = min(left, key=lambda name: _repeated(_paired(made, coded[name]), dates))
            if _repeated(_paired(made, coded[best]), dates) == _repeated(made, dates):
                break
            made = _paired(made, coded[best])
            chosen.append(best)
            if self.tells_apart(made, codes, dates):
                return chosen
        return []

    @staticmethod
    def tells_apart(made: np.ndarray, codes: np.ndarray, dates: pd.DatetimeIndex) -> bool:
        r"""Whether the rows of equal entries have dates of some frequency that, but for a few, repeat no more."""
        if 2 * (made.max() + 1) > len(made) or 10 * _repeated(made, dates) > _repeated(codes, dates):
            return False
        largest = np.argsort(np.bincount(made), kind="stable")[-8:]
        try:
            return all(frequency_of(dates[made == code], None) for code in largest)
        except ValueError:
            return False

    def require_row_numbers(self, frame: pd.DataFrame) -> None:
        r"""Checks that the index of an undated frame counts its rows."""
        index = frame.index
        if not np.array_equal(np.asarray(index), np.asarray(index)[0] + np.arange(len(frame))):
            found = as_dates(index.to_series())
            if found is not None:
                code = str(suggested(index.to_series())[0]).replace("column", "frame.index")  # type: ignore[index]
                raise ValueError(
                    f"the index holds dates as numbers (first: {listed(index[:3])}): frame.set_axis({code}) makes them "
                    "dates"
                )
            raise ValueError(
                f"the index holds neither dates nor row numbers without gaps (first: {listed(index[:3])}): set a "
                "DatetimeIndex, name a column with timestamp_column= (--timestamp-column), or call "
                "reset_index(drop=True) if the rows are regular"
            )

    def numbers(self, frame: pd.DataFrame, channels: Sequence[str], dates: pd.DatetimeIndex | None) -> np.ndarray:
        r"""The channels as an array (rows, D); columns that are not numeric are refused by name."""
        unknown = [name for name in channels if name not in frame.columns]
        if unknown:
            raise ValueError(f"there is no column {listed(unknown)}; the columns are {listed(frame.columns)}")
        if not channels:
            raise ValueError(f"expected at least one column to forecast, got only {listed(frame.columns)}")
        self.refuse_width(len(channels))
        columns, bad, ids = [], [], []
        for name in channels:
            column = numeric(frame[name])
            if column is None:
                bad.append(why_not_numeric(frame[name], dates is not None))
                textual = bad[-1].startswith(f"column {shown(name)} holds {frame[name].dtype} ")
                if (textual or name.lower() in ITEM_NAMES) and _may_name_items(frame[name], dates):
                    ids.append(name)
            else:
                columns.append(column)
        if bad:
            raise ValueError(
                f"expected numbers, but {'; '.join(bad[:5])}"
                + (f"; and {len(bad) - 5} more columns are not numeric" if len(bad) > 5 else "")
                + ". target=[...] (--columns) picks the columns to forecast"
                + (
                    f"; if {shown(ids[0])} names the series of each row: item_column={shown(ids[0])} "
                    f"(--item-column {ids[0]})"
                    if ids
                    else ""
                )
            )
        return np.column_stack(columns)

    # ------------------------------------------------------------------ what all share

    def finish(self, panel: Panel) -> Panel:
        r"""Picks the target columns, and refuses infinities and numbers of a size that squares cannot hold."""
        panel = panel.select(self.wanted(panel.channels))
        for item in panel.items:
            rows, columns = np.nonzero(np.isinf(item.values))
            if len(rows):
                where = "" if len(panel) == 1 else f" of item {shown(item.item_id)}"
                bad = [panel.channels[column] for column in sorted(set(columns.tolist()))]
                raise ValueError(
                    f"{named('column', bad)} infinite{where}, first in row {rows[0]}: "
                    "a missing value is NaN, series.replace([np.inf, -np.inf], np.nan)"
                )
        require_sizes(panel)
        return panel

    def wanted(self, channels: Sequence[str]) -> Sequence[str]:
        r"""The channels that the caller asks for, of those there are, all by default; behind them the static ones."""
        names = list(channels if self.target is None else self.target)
        return [*names, *(name for name in self.static if name not in names)]

    def require_as_read(self, panel: Panel) -> None:
        r"""Checks that no option asks to read a panel otherwise than it was."""
        asked = {
            "item_column": self.item_column is not None,
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

    def refuse_width(self, width: int) -> None:
        r"""Checks that there are no more channels than a fit can hold."""
        if width > MOST_CHANNELS:
            raise ValueError(
                f"expected at most {MOST_CHANNELS} columns to forecast, got {width}: target=[...] (--columns) picks "
                "some; an array has time first, (T, D)"
            )

    def refuse_columns(self) -> None:
        r"""Checks that no option names columns where there are none."""
        static = None if isinstance(self.static, Mapping) or not self.static else self.static[0]
        columns = {"item_column": self.item_column, "timestamp_column": self.timestamp_column, "static": static}
        for option, name in columns.items():
            if name is not None:
                raise ValueError(
                    f"the data have no columns, of which {option}={shown(name)} could be one: leave it out"
                )

    def refuse_frequency(self) -> None:
        r"""Checks that no option asks something of dates where there are none."""
        if self.frequency is not None or self.regularise:
            option = "frequency=" if self.frequency is not None else "regularise="
            raise ValueError(f"the data have no dates for {option} to apply to: pass a frame with dates")


def read_series(series: Any, panel_type: type[Panel], *, covariates: Sequence[str] = (), **options: Any) -> Panel:
    r"""Makes a panel of whatever holds series.

    Arguments:
        series: As for `Panel.of`.
        panel_type: `Panel`, which is made of them.
        covariates: Columns that are read whichever are to be forecast, and may say what the dates do.
        options: Those of `Panel.of`.

    Returns:
        The panel.
    """
    missing = dict.fromkeys(("target", "item_column", "timestamp_column", "frequency"))
    with unforeseen("these data cannot be read", "pass frames or arrays of plain numbers, text and dates"):
        return Reader(panel_type, **{**missing, "regularise": False, **options, "covariates": covariates}).read(series)


def _entries_of(series: Any) -> tuple[list[Mapping[str, Any]], Any]:
    r"""The entries of a gluonts dataset, and what it calls its channels; none if it is something else."""
    entries: list[Mapping[str, Any]] = []
    pandas = type(series).__module__.partition(".")[0] == "pandas"  # which crashes where it iterates over some dates
    if isinstance(series, Iterable) and not isinstance(series, str | bytes | Mapping) and not pandas:
        for entry in series:
            if not isinstance(entry, Mapping):
                return [], None
            entries.append(entry)
    return entries, getattr(series, "target", None) if entries else None


def _tell_unread(entries: Sequence[Mapping[str, Any]]) -> None:
    r"""Warns of features of gluonts entries, which are read by no more than their declaration by an estimator."""
    held: dict[str, int] = {}
    for entry in entries:
        for name, value in entry.items():
            if str(name).startswith(FEATURES) or name in FORMER_FEATURES:
                held.setdefault(str(name), _how_many(str(name), value))
    if not held:
        return
    options = [f"num_{name}={count}" for name, count in held.items() if name in DECLARED]
    remedy = f"AdapterEstimator(..., {', '.join(options)}) of adapts.gluonts reads them, and so do"
    warn(
        f"the gluonts entries hold {listed(held)}, and only their targets are read here: "
        f"{remedy if len(options) == len(held) else 'use'} columns of a frame that are named as covariates"
    )


def _how_many(name: str, value: Any) -> int:
    r"""How many features a field of an entry holds."""
    with suppress(Exception):  # whatever numpy raises for what holds no numbers
        return len(np.ravel(value)) if "static" in name else len(np.atleast_2d(as_array(value)))
    return 1


def _labels(columns: pd.Index[Any]) -> list[str]:
    r"""The names of columns as text."""
    return [label(name) for name in (columns.astype(str) if isinstance(columns, pd.DatetimeIndex) else columns)]


def _with_index(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    r"""A frame with its index as columns."""
    names = [None if name is None else str(name) for name in frame.index.names]
    twice = [name for name in names if name is not None and names.count(name) > 1]
    if twice:
        raise ValueError(f"two levels of the index are called {shown(twice[0])}: rename or drop one of them")
    with reading("the index of the frame cannot be made columns", "call reset_index() on it first"):
        return frame.set_axis([*columns], axis=1).reset_index()


def _without_twins(frame: pd.DataFrame) -> pd.DataFrame:
    r"""A frame none of whose columns is called as its index is: of twins, an index of dates or items stays."""
    index, columns = frame.index, _labels(frame.columns)
    names = [None if name is None else label(name, "the index") for name in index.names]
    for place, name in enumerate(names):
        if name is None or columns.count(name) != 1:
            continue
        level = pd.Series(index.get_level_values(place).array)
        column = pd.Series(frame.iloc[:, columns.index(name)].array)
        if strange(column) is None and strange(level) is None and not _same(level, column):
            differ = (level.map(str) != column.map(str)).to_numpy()
            row = int(differ.argmax())
            what = "a level of the index" if len(names) > 1 else "the index"
            drop = f"droplevel({name!r})" if len(names) > 1 else "reset_index(drop=True)"
            raise ValueError(
                f"{what} and a column are both called {shown(name)}, and they disagree, first in row {row} "
                f"({shown(str(level[row]))} and {shown(str(column[row]))}): drop one of them, frame.{drop} or "
                f"frame.drop(columns={name!r})"
            )
        keep_index = len(names) > 1 or name.lower() in ITEM_NAMES
        keep_index |= not pd.api.types.is_numeric_dtype(level.dtype) and parse_dates(level) is not None
        if not keep_index:
            return frame.reset_index(drop=True)
        frame = frame.iloc[:, [number for number in range(len(columns)) if number != columns.index(name)]]
        columns = _labels(frame.columns)
    return frame


def _same(level: pd.Series[Any], column: pd.Series[Any]) -> bool:
    r"""Whether the index and a column of one name hold the same, be it as text or as dates."""
    if level.map(str).equals(column.map(str)):
        return True
    dates = [None if pd.api.types.is_numeric_dtype(each.dtype) else parse_dates(each) for each in (level, column)]
    return dates[0] is not None and dates[1] is not None and dates[0].equals(dates[1])


def _joined(frame: pd.DataFrame, keys: Sequence[str], keep: Sequence[str]) -> pd.DataFrame:
    r"""A frame with one column for those that name an item together, which go but for some to keep."""
    unknown = [name for name in keys if name not in frame.columns]
    if unknown:
        raise ValueError(f"there is no item column {listed(unknown)}; the columns are {listed(frame.columns)}")
    made = joined_names(frame, keys)
    frame = frame.drop(columns=[name for name in keys if name not in keep])
    if made.name in frame.columns:
        raise ValueError(f"columns {listed(keys)} make one called {shown(made.name)}, and there is one: rename it")
    return frame.assign(**{str(made.name): made})


def _may_name_items(column: pd.Series[Any], dates: pd.DatetimeIndex | None) -> bool:
    r"""Whether the entries of a column, which are text, could name series: the rows of each have dates that go on."""
    if strange(column) is not None or times_of_day(column) is not None or as_dates(column) is not None:
        return False
    codes = pd.factorize(column.map(str, na_action="ignore"))[0]
    if (codes < 0).any() or 2 * (codes.max() + 1) > len(codes) + 1:
        return False
    sizes = np.bincount(codes)
    if dates is None:  # one after another, or side by side
        return bool((np.diff(codes) != 0).sum() + 1 == len(sizes) or (sizes == sizes[0]).all())
    if _repeated(codes, dates) > len(dates) // 10:
        return False
    largest = [dates[codes == code] for code in np.argsort(sizes)[-8:]]
    try:
        found = [frequency_of(each, None) for each in largest]
    except ValueError:
        return False
    # What tells no dates apart makes parts of one series, which are series of their own if they have no gaps.
    return dates.has_duplicates or all(map(is_regular, largest, found))


def _clock(frame: pd.DataFrame, dates: pd.DatetimeIndex | None, steps: np.ndarray | None) -> pd.DatetimeIndex | None:
    r"""The dates of the rows, or their numbers as days; None if there are neither."""
    if dates is not None or steps is None:
        return dates
    days = np.minimum(steps - steps.min(), 100_000)  # all that nanoseconds count
    return pd.DatetimeIndex(pd.Timestamp("1900-01-01") + pd.to_timedelta(days, unit="D"))


def _are_blocks(column: pd.Series[Any], codes: np.ndarray) -> bool:
    r"""Whether text cuts the rows of each item into parts of one length, two rows or more."""
    if pd.api.types.is_numeric_dtype(column.dtype) or column.isna().any():
        return False
    names = pd.factorize(column.map(str))[0]
    pairs = _paired(codes, names)
    sizes = np.bincount(pairs)
    return len(sizes) > codes.max() + 1 and sizes[0] > 1 and bool((sizes == sizes[0]).all())


def _numbers_steps(column: pd.Series[Any], *, serial: bool = False) -> bool:
    r"""Whether a column numbers steps, by numbers that are no days of a spreadsheet, or are such."""
    numbers = as_steps(column)
    return numbers is not None and serial == (SERIAL[0] <= numbers.min() and numbers.max() < SERIAL[1])


def _first_step(numbers: np.ndarray, column: str, whose: str) -> int:
    r"""The number of the first row of an item, whose rows are numbered by a column."""
    wrong = np.flatnonzero(np.diff(numbers) != 1)
    if len(wrong):
        row = int(wrong[0])
        tidy = len(np.unique(numbers)) == len(numbers) == numbers.max() - numbers.min() + 1
        raise ValueError(
            f"column {shown(column)} numbers the rows, and{whose} {numbers[row + 1]} comes after {numbers[row]} (row "
            f"{row + 1}): "
            + (
                f"sort them, frame.sort_values({column!r}, kind='stable')"
                if tidy
                else "each row has the number after that of the row before; drop the column if it means something else"
            )
        )
    return int(numbers[0])


def _without_dates(column: str | None, level: str | None) -> str:
    r"""What drops the dates of a frame."""
    if column is None:
        return "frame.reset_index(drop=True)"
    return f"frame.droplevel({column!r})" if column == level else f"frame.drop(columns={column!r})"


def _paired(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    r"""The codes of pairs."""
    both: np.ndarray = np.unique(codes * (others.max() + 1) + others, return_inverse=True)[1]
    return both


def _repeated(codes: np.ndarray, dates: pd.DatetimeIndex) -> int:
    r"""How many rows have an item and a date that an earlier one has."""
    return int(pd.DataFrame({"item": codes, "date": dates}).duplicated().sum())


def _require_proportion(items: Sequence[Item], rows: int) -> None:
    r"""Checks that gaps do not make items long beyond all proportion to the rows that are given."""
    steps = sum(map(len, items))
    if steps > STEPS_PER_DATE * rows + STEPS_IN_GAPS:
        raise ValueError(
            f"regularise=True makes {steps} rows or more of {rows}, most of them missing: correct stray dates, such as "
            f"{items[-1].index[0]} or {items[-1].index[-1]} of item {shown(items[-1].item_id)}, or give a longer "
            "frequency="
        )


def _require_years(frame: pd.DataFrame) -> None:
    r"""Refuses dates outside of the years 2 to 9998, on which pandas ends the process where it makes text of them."""
    index = frame.index
    levels = index.levels if isinstance(index, pd.MultiIndex) else [index]
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    each_of: list[Any] = [*levels, *columns]
    for values in each_of:
        held = values.dtype.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
        if pd.api.types.is_datetime64_any_dtype(held.dtype):
            dates = pd.DatetimeIndex(held)
            years = np.asarray(dates.asi8).view(f"M8[{dates.unit}]").astype("M8[Y]")
        elif isinstance(held.dtype, pd.PeriodDtype):
            periods = pd.PeriodIndex(held)
            years = (np.asarray(periods.year)[~np.asarray(periods.isna())] - 1970).astype("M8[Y]")
        elif pd.api.types.is_object_dtype(held.dtype):
            given = [each for each in np.asarray(held, dtype=object) if isinstance(each, np.datetime64)]
            years = np.array([each.astype("M8[Y]") for each in given], dtype="M8[Y]")
        else:
            continue
        number = years[~np.isnat(years)].astype(np.int64) + 1970
        if len(number) and not 2 <= number.min() <= number.max() <= 9998:
            raise ValueError(f"{shown(values.name)} holds dates outside of the years 2 to 9998: {RANGE}")

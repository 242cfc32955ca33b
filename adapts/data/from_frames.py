r"""Pandas frames, wide or long, read into a panel."""

from __future__ import annotations

__all__ = ["MOST_CHANNELS", "FrameReader"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import few, reading, shown
from .clocks import as_dates, as_steps, joined
from .columns import groups, joined_names, named, names_in, numeric, require_plain, strange, why_not_numeric
from .date_parsing import parse_dates, times_of_day, two_orders, uncategorised
from .frame_checks import (
    first_step,
    may_name_items,
    names_items,
    numbers_steps,
    require_no_time_columns,
    require_one_series,
    require_proportion,
    require_undated,
    require_whole_dates,
    require_years,
    why_undated,
)
from .item import Categories, Item
from .options import ITEM_NAMES, TIMESTAMP_NAMES, label, reading_options
from .regular_dates import frequency_of, is_regular, regular_dates
from .sizes import require_sizes
from .static import coded, with_static

if TYPE_CHECKING:
    from .panel import Panel

#: The most channels: a fit holds several matrices of channels by channels, 200 MB each at this number.
MOST_CHANNELS = 5000


@dataclass(frozen=True)
class FrameReader:
    r"""Reader of pandas frames, with the options of `Panel.of`.

    Arguments:
        panel_type: `Panel`, which would import this module in a circle.
        target: The columns to forecast, all by default.
        item_column: The column that names the item of each row, or several that do together; recognised if None.
        timestamp_column: The column of the dates; recognised if None.
        frequency: The pandas alias of the time step, inferred if None.
        regularise: Whether to sort rows, merge repeated dates and fill gaps with NaN.
        static: The columns that are constant within each item, or their categories by column.
        covariates: The columns that the caller names beside the target. They are read like the others; only the
            checks of columns that no option names pass them over.
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
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.name not in ("panel_type", "covariates")
        }
        for name, value in reading_options(**given).items():
            object.__setattr__(self, name, value)

    def read_frame(self, given: pd.DataFrame) -> Panel:
        r"""Read a wide or a long pandas frame."""
        require_years(given)
        if not isinstance(given.index, pd.MultiIndex):
            given = given.set_axis(uncategorised(given.index).infer_objects())
        frame, item_column, timestamp_column = self.flat(given)
        if isinstance(self.static, Mapping) and not self.static.keys() <= set(frame.columns):
            present = {name: categories for name, categories in self.static.items() if name in frame.columns}
            return replace(self, static=present).read_frame(given)
        reader = replace(self, item_column=item_column, timestamp_column=timestamp_column)
        level = timestamp_column if isinstance(given.index, pd.MultiIndex) else None
        return reader.read_flat(frame, level)

    def read_flat(self, frame: pd.DataFrame, level: str | None) -> Panel:
        r"""Read a frame that `flat` returned; `level` names the index level that held the dates, if one did."""
        dates, column = self.find_dates(frame)
        steps = as_steps(frame[column]) if dates is None and column is not None else None
        row_dates = _dates_or_numbered_days(dates, steps)
        item = self.find_items(frame, row_dates, column)
        channels = tuple(self.wanted([name for name in frame.columns if name not in (column, item)]))
        codes = np.zeros(len(frame), np.int64) if item is None else names_in(frame[item], "item")[0]
        if dates is not None:
            require_whole_dates(frame, dates, column, codes, requested=self.wanted(()))
        if row_dates is not None:
            other_columns = frame.drop(columns=[] if column is None else column)
            require_one_series(other_columns, row_dates, codes, item, requested=self.wanted(()))
        if row_dates is None:
            require_undated(
                frame,
                item,
                codes,
                requested=self.wanted(()),
                covariates=self.covariates,
                has_target=self.target is not None,
            )
        if self.target is None:
            named_columns = (*self.wanted(()), *self.covariates)
            free = [name for name in channels if name not in named_columns and name in frame.columns]
            require_no_time_columns(frame, dates, codes, free)
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
                    start = first_step(steps[rows], str(column), "" if item is None else f" of item {shown(name)}")
                items.append(Item(name, values[rows], pd.RangeIndex(start, start + len(rows))))
        else:
            undated = _without_dates(column, level)
            frequency = frequency_of(dates[max(rows_of.values(), key=len)], self.frequency, undated=undated)
            for name, rows in rows_of.items():
                index = dates if item is None else dates[rows]  # indexing would lose its freq
                whose = "" if item is None else f" of item {shown(name)}"
                index, regular_values = regular_dates(
                    index, frequency, values[rows], regularise=self.regularise, whose=whose, undated=undated
                )
                items.append(Item(name, regular_values, index))
                require_proportion(items, len(frame))
        panel = self.panel_type(tuple(items), channels, frequency, single=len(items) == 1)
        return with_static(self.finish(panel if item is None else replace(panel, item_column=item)), static)

    def with_codes(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Categories | None]]:
        r"""Replace the categories of static columns by their codes; return the frame and the categories."""
        fitted = isinstance(self.static, Mapping)
        static = dict(self.static) if isinstance(self.static, Mapping) else dict.fromkeys(self.static)
        for name, categories in static.items():
            if name in frame.columns and not (fitted and categories is None):  # `numbers` refuses text in their place
                codes, static[name] = coded(frame[name], categories)
                frame = frame.assign(**{name: codes})
        return frame, static

    def flat(self, frame: pd.DataFrame, keep: Sequence[str] = ()) -> tuple[pd.DataFrame, str | None, str | None]:
        r"""Move items and dates from the index to columns, and make text of column names.

        Several item columns are joined into one, and dropped unless the options or `keep` name them.

        Arguments:
            frame: The frame.
            keep: Item columns to keep.

        Returns:
            The frame, the name of its item column, and that of its timestamp column, each None if unknown.

        Raises:
            ValueError: If the frame is empty, two columns have the same name, or index and columns disagree.
        """
        frame = _without_twins(frame)
        item, timestamp, index = self.item_column, self.timestamp_column, frame.index
        columns = _labels(frame.columns)
        index_names = [label(name, "the index") for name in index.names if name is not None]
        if isinstance(index, pd.MultiIndex):  # (item, timestamp), as in AutoGluon
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
        elif index_names and (
            index_names[0] in item if isinstance(item, list) else index_names[0] == (item or index_names[0])
        ):
            numbers_rows = pd.api.types.is_numeric_dtype(index.dtype) and index.is_unique
            if item or (index_names[0].lower() in ITEM_NAMES and not numbers_rows):
                frame = _with_index(frame, columns)
        frame = frame.set_axis(_labels(frame.columns), axis=1)
        if frame.columns.has_duplicates:
            twice = frame.columns[frame.columns.duplicated()].unique()
            raise ValueError(f"expected columns of different names, but {few(twice)} came more than once")
        if len(frame) == 0:
            raise ValueError("expected at least one row, got an empty frame")
        if isinstance(item, list):
            frame, item = _with_joined_names(frame, item, (*keep, *self.wanted(()))), "/".join(item)
        return frame, None if item is None else str(item), timestamp

    def find_dates(self, frame: pd.DataFrame) -> tuple[pd.DatetimeIndex | None, str | None]:
        r"""Return the dates of the rows, None if undated, and the column that holds them, None if the index does."""
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
                raise ValueError(f"there is no timestamp column {shown(name)}; the columns are {few(frame.columns)}")
            dates, source = parse_dates(frame[name]), f"column {shown(name)}"
        column = frame.index.to_series() if name is None else frame[name]
        if dates is None and self.frequency is not None:
            readings = [order for order, _ in (two_orders(column) or {}).values()
                        if is_regular(order, self.frequency)]  # fmt: skip
            dates = readings[0] if len(readings) == 1 else None
        if dates is None:
            require_plain(column, source, "dates")
            for other in frame.columns if name is not None else ():
                days = None if other == name or strange(frame[other]) is not None else as_dates(frame[other])
                both = None if days is None else joined(frame, other, days[1], [str(name)])
                if both is not None:
                    raise ValueError(both)
            if name is not None and numbers_steps(column):
                return None, name
            raise ValueError(why_undated(frame, column, source, name))
        if dates.hasnans:
            missing = np.flatnonzero(dates.isna())
            raise ValueError(
                f"{source} has {len(missing)} rows without a date, the first is row {missing[0]}: drop them"
            )
        return dates, name

    def date_column(self, frame: pd.DataFrame) -> str | None:
        r"""Find the one column of dates by its name, or else by its type; None if there is none."""
        free = [name for name in frame.columns if name != self.item_column and name not in self.wanted(())]
        called = [name for name in free if name.lower() in TIMESTAMP_NAMES]
        found = [name for name in called if parse_dates(frame[name]) is not None]
        found = found or [name for name in free if pd.api.types.is_datetime64_any_dtype(frame[name].dtype)]
        if len(found) > 1:
            raise ValueError(
                f"columns {few(found)} all hold dates: name one with timestamp_column= (--timestamp-column), "
                "and the columns to forecast with target=[...]"
            )
        if called and not found:
            return called[0]  # reading it raises the error that says why
        return found[0] if found else None

    def find_items(self, frame: pd.DataFrame, dates: pd.DatetimeIndex | None, dated: str | None) -> str | None:
        r"""Find the column that names the item of each row: the given one, or one recognised by name and entries."""
        if self.item_column is not None:
            given = str(self.item_column)  # `flat` has joined several
            if given not in frame.columns:
                raise ValueError(
                    f"there is no item column {shown(self.item_column)}; the columns are {few(frame.columns)}"
                )
            both = None
            if dates is not None and dated is not None:
                both = joined(frame, dated, dates, [given])
            if both is not None and times_of_day(frame[given]) is not None:
                raise ValueError(f"times of day name no items: {both}")
            return given
        free = [name for name in frame.columns if name.lower() in ITEM_NAMES and name not in (dated, *self.wanted(()))]
        found = [name for name in free if names_items(frame[name], dates)]
        if len(found) > 1:
            raise ValueError(
                f"columns {few(found)} could each name the item of a row: name one with item_column= "
                "(--item-column), and the columns to forecast with target=[...] (--columns)"
            )
        return found[0] if found else None

    def numbers(self, frame: pd.DataFrame, channels: Sequence[str], dates: pd.DatetimeIndex | None) -> np.ndarray:
        r"""Return the channels as an array (rows, D); refuse columns that are not numeric by name."""
        unknown = [name for name in channels if name not in frame.columns]
        if unknown:
            raise ValueError(f"there is no column {few(unknown)}; the columns are {few(frame.columns)}")
        if not channels:
            raise ValueError(f"expected at least one column to forecast, got only {few(frame.columns)}")
        self.refuse_width(len(channels))
        columns, bad, ids = [], [], []
        for name in channels:
            column = numeric(frame[name])
            if column is None:
                bad.append(why_not_numeric(frame[name], dates is not None))
                textual = bad[-1].startswith(f"column {shown(name)} holds {frame[name].dtype} ")
                if (textual or name.lower() in ITEM_NAMES) and may_name_items(frame[name], dates):
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

    def finish(self, panel: Panel) -> Panel:
        r"""Select the requested columns; refuse infinities, and sizes whose squares overflow or underflow."""
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
        r"""Return the requested channels, all by default, followed by the static columns."""
        names = list(channels if self.target is None else self.target)
        return [*names, *(name for name in self.static if name not in names)]

    def refuse_width(self, width: int) -> None:
        r"""Refuse more channels than a fit can hold."""
        if width > MOST_CHANNELS:
            raise ValueError(
                f"expected at most {MOST_CHANNELS} columns to forecast, got {width}: target=[...] (--columns) picks "
                "some; an array has time first, (T, D)"
            )

    def refuse_frequency(self) -> None:
        r"""Refuse options about dates where there are none."""
        if self.frequency is not None or self.regularise:
            option = "frequency=" if self.frequency is not None else "regularise="
            raise ValueError(f"the data have no dates for {option} to apply to: pass a frame with dates")


def _dates_or_numbered_days(dates: pd.DatetimeIndex | None, steps: np.ndarray | None) -> pd.DatetimeIndex | None:
    r"""Return the dates of the rows, or their step numbers as days; None if there are neither."""
    if dates is not None or steps is None:
        return dates
    days = np.minimum(steps - steps.min(), 100_000)  # nanoseconds count no more days
    return pd.DatetimeIndex(pd.Timestamp("1900-01-01") + pd.to_timedelta(days, unit="D"))


def _without_dates(column: str | None, level: str | None) -> str:
    r"""Return the code that drops the dates of a frame."""
    if column is None:
        return "frame.reset_index(drop=True)"
    return f"frame.droplevel({column!r})" if column == level else f"frame.drop(columns={column!r})"


def _labels(columns: pd.Index[Any]) -> list[str]:
    r"""Return the names of columns as text."""
    return [label(name) for name in (columns.astype(str) if isinstance(columns, pd.DatetimeIndex) else columns)]


def _with_index(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    r"""Move the index of a frame to columns."""
    names = [None if name is None else str(name) for name in frame.index.names]
    twice = [name for name in names if name is not None and names.count(name) > 1]
    if twice:
        raise ValueError(f"two levels of the index are called {shown(twice[0])}: rename or drop one of them")
    with reading("the index of the frame cannot be made columns", "call reset_index() on it first"):
        return frame.set_axis([*columns], axis=1).reset_index()


def _without_twins(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Drop the duplicate where index and column share a name: the column for dates or items, else the index."""
    index, columns = frame.index, _labels(frame.columns)
    names = [None if name is None else label(name, "the index") for name in index.names]
    for place, name in enumerate(names):
        if name is None or columns.count(name) != 1:
            continue
        level = pd.Series(index.get_level_values(place).array)
        column = pd.Series(frame.iloc[:, columns.index(name)].array)
        if strange(column) is None and strange(level) is None and not _equal_as_text_or_dates(level, column):
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


def _equal_as_text_or_dates(level: pd.Series[Any], column: pd.Series[Any]) -> bool:
    r"""Return whether an index level and a column have equal entries, as text or as dates."""
    if level.map(str).equals(column.map(str)):
        return True
    dates = [None if pd.api.types.is_numeric_dtype(side.dtype) else parse_dates(side) for side in (level, column)]
    return dates[0] is not None and dates[1] is not None and dates[0].equals(dates[1])


def _with_joined_names(frame: pd.DataFrame, keys: Sequence[str], keep: Sequence[str]) -> pd.DataFrame:
    r"""Join the columns that name an item together into one; drop them, except those to keep."""
    unknown = [name for name in keys if name not in frame.columns]
    if unknown:
        raise ValueError(f"there is no item column {few(unknown)}; the columns are {few(frame.columns)}")
    names = joined_names(frame, keys)
    frame = frame.drop(columns=[name for name in keys if name not in keep])
    if names.name in frame.columns:
        raise ValueError(f"columns {few(keys)} make one called {shown(names.name)}, and there is one: rename it")
    return frame.assign(**{str(names.name): names})

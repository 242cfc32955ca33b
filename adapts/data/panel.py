r"""The panel: items x time x channels, with names and dates."""

from __future__ import annotations

__all__ = ["Panel", "require_length"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .. import checks
from ..errors import shown
from .columns import listed, named
from .frequency import RANGE, OutOfRange, calendar, period_of, steps_since
from .from_memory import read_series
from .item import Categories, Item, columns_of
from .options import TIMESTAMP_NAMES

#: How many standard deviations a value may lie from the mean of the rows that were fitted.
FARTHEST = 1e15


@dataclass(frozen=True, eq=False)
class Panel:
    r"""Items with the same channels and the same frequency. `Panel.of` makes one of anything.

    Arguments:
        items: The items.
        channels: The names of the :math:`D` channels.
        frequency: The pandas alias of the time step, or None for undated data.
        single: Whether the input was one series, so that one forecast comes out, not a list.
        item_column: The name of the column that named the items, for `to_pandas`.
        past_covariates: Those of the channels that are known up to now only and not forecast, behind the targets.
        known_covariates: Those whose future values are given, behind all others.
        calendar: Those of the known covariates that were made of the dates, the last ones.
        static: What is said of items as a whole: the categories of each such column, None for numbers. Their columns,
            `static_columns`, are the known covariates before the calendar, and constant within each item.
    """

    items: tuple[Item, ...]
    channels: tuple[str, ...]
    frequency: str | None
    single: bool
    item_column: str = "item_id"
    past_covariates: tuple[str, ...] = ()
    known_covariates: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    static: Mapping[str, Categories | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.items or any(item.values.shape[1] != len(self.channels) for item in self.items):
            raise ValueError(
                f"a panel holds one item at least, each with the {len(self.channels)} channels, got "
                f"{shown([item.values.shape for item in self.items])}: Panel.of makes one"
            )
        if self.targets != self.channels[: len(self.targets)]:
            raise ValueError(f"the targets of a panel come before its covariates, got {listed(self.channels)}")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_channels(self) -> int:
        r"""The number of channels :math:`D`."""
        return len(self.channels)

    @property
    def targets(self) -> tuple[str, ...]:
        r"""The names of the channels to forecast: those that are no covariates."""
        if not (self.past_covariates or self.known_covariates):
            return self.channels
        return tuple(name for name in self.channels if name not in (*self.past_covariates, *self.known_covariates))

    @property
    def static_columns(self) -> tuple[str, ...]:
        r"""The names of the channels that the static columns are: numbers under their own, an indicator a category."""
        return columns_of(self.static)

    @property
    def given(self) -> tuple[str, ...]:
        r"""The names of the known covariates whose future values a caller gives: all but static ones and calendar."""
        made = {*self.static_columns, *self.calendar}
        return tuple(name for name in self.known_covariates if name not in made)

    def roles(self) -> dict[str, Any]:
        r"""Tells the roles of the columns, as JSON can hold it.

        Returns:
            The names of the targets, "channels", and of the covariates by their kind.
        """
        return {
            "channels": list(self.targets),
            "past_covariates": list(self.past_covariates),
            "known_covariates": list(self.known_covariates),
            "static": dict(self.static),
        }

    @property
    def lengths(self) -> tuple[int, ...]:
        r"""The number of rows of each item."""
        return tuple(len(item) for item in self.items)

    @cached_property
    def concatenated(self) -> tuple[np.ndarray, np.ndarray]:
        r"""The rows of all items, (sum T, D) float64, and where each item starts, (N + 1,). Windows gather from it."""
        rows = np.concatenate([item.values for item in self.items])
        return rows, np.cumsum([0, *self.lengths])

    @cached_property
    def begins(self) -> np.ndarray:
        r"""The step of the calendar at which each item begins, (N,): row r of item i stands at step begins[i] + r.

        The calendar is common to all items: its steps are those of the frequency, and the earliest date is step 0. The
        items of an undated panel are taken to end together: there a row's number, from the item's end, is its time.
        """
        lengths = np.asarray(self.lengths)
        if self.frequency is None:
            begins: np.ndarray = lengths.max() - lengths
            return begins
        begins = np.zeros(len(self), dtype=np.int64)
        some = np.flatnonzero(lengths)
        if len(some):
            firsts = [pd.Timestamp(self.items[number].index[0]).as_unit("ns") for number in some]
            clock = np.array([first.value for first in firsts])
            begins[some] = steps_since(firsts[int(clock.argmin())], clock, self.frequency)
        return begins

    @cached_property
    def steps(self) -> np.ndarray:
        r"""The steps of the calendar at which an item has a row, each once, in order."""
        each = zip(self.begins, self.lengths, strict=True)
        return np.unique(np.concatenate([begin + np.arange(length) for begin, length in each]))

    @classmethod
    def of(
        cls,
        series: Any,
        *,
        target: str | Sequence[str] | None = None,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        frequency: str | None = None,
        regularise: bool = False,
        static: str | Sequence[str] | Mapping[str, Categories | None] = (),
    ) -> Panel:
        r"""Makes a panel of whatever holds series.

        Arguments:
            series: A wide frame (a DatetimeIndex, a PeriodIndex or a timestamp column), a long frame (with an item
                column), a Series, all of pandas, polars, Arrow or another library that narwhals knows; an array or
                tensor :math:`(T, D)`, :math:`(N, T, D)` or :math:`(T,)`; a list of these; a gluonts dataset or its
                entries; or a Panel. NaN marks a missing value.
            target: The columns to forecast, all by default.
            item_column: The column of a long frame that names the item, or a list of those that do together: the item
                "north/soap" of the columns shop and product. By default the one that is called item_id, unique_id,
                series_id, time_series_id, ts_id, series_name or id, if it tells several series apart.
            timestamp_column: The column that holds the dates, or whole numbers that count the steps of an undated
                series. By default the index, or else the one column of these that is called timestamp, date, time, ds
                or datetime.
            frequency: The pandas alias of the time step, inferred by default.
            regularise: Whether to mend dates that are not regular: sort the rows, keep one row of each repeated date
                (their mean where they differ), put rows of NaN where dates are missing.
            static: Columns that say something of each item as a whole: numbers, text or categories, beside the target.
                Or those of another panel, its `static`, which then are read as there, as far as they are here.

        Returns:
            The panel.

        Raises:
            ValueError: If the input is of an unknown kind, empty, not numeric or infinite, its dates are unknown or
                not regular, columns that are not named tell the time or further series apart, or a static column is
                not constant within an item.
        """
        return read_series(
            series, cls, target=target, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
            regularise=regularise, static=static,
        )  # fmt: skip

    def standardised(self, location: np.ndarray, scale: np.ndarray) -> Panel:
        r"""Changes the units of the channels, :math:`(x - location) / scale`.

        Arguments:
            location: The locations, with shape :math:`(D,)`.
            scale: The scales, with shape :math:`(D,)`.

        Returns:
            The panel in the new units.

        Raises:
            ValueError: If a value lies farther out than models can compute with, 1e15 scales.
        """
        items = tuple(replace(item, values=(item.values - location) / scale) for item in self.items)
        for item, standard in zip(self.items, items, strict=True):
            rows, columns = np.nonzero(np.abs(standard.values) > FARTHEST)
            if len(rows):
                whose = "" if len(self) == 1 else f" of item {shown(item.item_id)}"
                raise ValueError(
                    f"column {shown(self.channels[columns[0]])} holds {item.values[rows[0], columns[0]]:g} in row "
                    f"{rows[0]}{whose}, {abs(standard.values[rows[0], columns[0]]):.0e} standard deviations from the "
                    f"mean of the train rows, expected at most {FARTHEST:g}: write NaN if the value is a mistake, or "
                    "fit an adapter on rows of this size"
                )
        return replace(self, items=items)

    def rows(self, stop: int | Sequence[int]) -> Panel:
        r"""Keeps the first rows of each item.

        Arguments:
            stop: The number of rows to keep, one for all items or one each.

        Returns:
            The shorter panel.

        Raises:
            ValueError: If these are no numbers of rows.
        """
        each = checks.several("expected stop", stop)
        stops = [checks.whole(n) for n in (each * len(self) if len(each) == 1 else each)]
        if len(stops) != len(self) or any(n is None or n < 1 for n in stops):
            raise ValueError(
                f"expected stop to be a positive number of rows, or one for each of the {len(self)} items, got "
                f"{shown(stop)}"
            )
        items = (Item(i.item_id, i.values[:n], i.index[:n]) for i, n in zip(self.items, stops, strict=True))
        return replace(self, items=tuple(items))

    def in_zone(self, zone: Any) -> Panel:
        r"""The same instants in another time zone.

        Arguments:
            zone: The time zone, as pandas takes it.

        Returns:
            The panel, whose dates have a time zone, with those of this one.
        """
        items = (replace(item, index=pd.DatetimeIndex(item.index).tz_convert(zone)) for item in self.items)
        return replace(self, items=tuple(items))

    def future_index(self, item: Item, prediction_length: int) -> pd.Index[Any]:
        r"""The dates of the steps after an item's end.

        Arguments:
            item: An item of the panel.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The :math:`H` dates, in the item's time zone; for undated data the numbers that continue its rows.

        Raises:
            ValueError: If the dates go beyond those that nanoseconds can count.
        """
        if self.frequency is None:
            assert isinstance(item.index, pd.RangeIndex)
            return pd.RangeIndex(item.index.stop, item.index.stop + prediction_length)
        assert isinstance(item.index, pd.DatetimeIndex)
        # Local days go on from the first one: the last may stand at 01:00 because the clocks skipped its midnight.
        past = item.index if item.index.tz is not None else item.index[-1:]
        try:
            whole = calendar(past[0], self.frequency, periods=len(past) + prediction_length, unit=item.index.unit)
        except OutOfRange as error:
            raise ValueError(
                f"the {prediction_length} steps after {item.index[-1]} are out of range: {RANGE}"
            ) from error
        return whole[len(past) :]

    def to_pandas(self, *, long: bool | None = None) -> pd.DataFrame:
        r"""Writes the panel as a frame, which `Panel.of` reads back to the bit.

        What came as float64 numbers, with dates of any unit and time zone, goes out as it came: names, values, dates.
        Other numbers come out as float64, names as text, periods and dates in text as date-times.

        Arguments:
            long: Whether to write a long frame; by default, if the panel has several items.

        Returns:
            The wide frame, indexed by the dates, with a column a channel; or the long one, an item after another, with
            the columns item_id (or as it came), timestamp (or as it came, or date, time, ds where a channel is called
            so; for undated data the numbers of the rows, none where those of all items begin with 0), and the channels.
            A channel that is called as a column of dates or items is takes `target=` when it is read back.

        Raises:
            ValueError: If a wide frame is asked for and there are several items, or a channel is called as the column
                of the items is.

        Example:
            >>> panel = adapts.data.panel.Panel.of(np.zeros((2, 3, 1)))
            >>> panel.to_pandas().columns.tolist(), panel.to_pandas().shape
            (['item_id', '0'], (6, 2))
        """
        if long is None:
            long = len(self) > 1
        if not long and len(self) > 1:
            raise ValueError(f"a wide frame holds one item, the panel has {len(self)}: to_pandas(long=True)")
        values = np.concatenate([item.values for item in self.items])  # (sum T, D)
        ids = [item.item_id for item in self.items]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ValueError(
                f"a long frame tells items apart by their names, and several are called {shown(twice)}: give entries "
                "different item_ids"
            )
        if not long:
            return pd.DataFrame(values, self.items[0].index, list(self.channels))
        keys: dict[Any, Any] = {
            self.item_column: np.repeat(np.array([i.item_id for i in self.items], dtype=object), self.lengths)
        }
        if self.item_column in self.channels:
            raise ValueError(
                f"a long frame names its items in the column {shown(self.item_column)}, and a channel is called so "
                "too: "
                "rename the channel"
            )
        steps = self.frequency is None and any(item.index[0] != 0 for item in self.items)
        if self.frequency is not None or steps:
            dates = self.items[0].index.append([item.index for item in self.items[1:]])
            names = (self.items[0].index.name or "timestamp", *TIMESTAMP_NAMES)
            taken = (self.item_column, *self.channels)
            keys[next((name for name in names if str(name) not in taken), "timestamp of the row")] = dates
        return pd.concat([pd.DataFrame(keys), pd.DataFrame(values, columns=list(self.channels))], axis=1)

    def to_gluonts(self) -> list[dict[str, Any]]:
        r"""Writes the panel as gluonts entries, which any gluonts model takes as its dataset.

        Returns:
            One entry an item: `start` (a Period), `target` with shape :math:`(D, T)`, or :math:`(T,)` for a single
            channel, float64, and `item_id`. gluonts has no time zones, so the start is local time, and no names of
            channels.

        Raises:
            ValueError: If the items have no dates, or no periods stand for their dates.
        """
        entries = []
        for item in self.items:
            target = item.values[:, 0] if self.num_channels == 1 else item.values.T
            start = period_of(item.index, self.frequency, f"item {shown(item.item_id)}")
            entries.append({"start": start, "target": target.copy(), "item_id": item.item_id})
        return entries

    def require_observed(self) -> None:
        r"""Checks that every channel has a value somewhere.

        Raises:
            ValueError: If a channel is NaN throughout.
        """
        seen = np.any([~np.isnan(item.values).all(axis=0) for item in self.items], axis=0)
        empty = [channel for channel, any_seen in zip(self.channels, seen, strict=True) if not any_seen]
        if empty:
            raise ValueError(
                f"expected a value in every channel, but {named('column', empty)} NaN throughout: "
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
                f"expected the {len(names)} channels of the fit ({listed(names)}), got {self.num_channels}"
                + (f"; missing: {listed(missing)}" if missing else "")
                + (f"; not fitted: {listed(extra)}" if extra else "")
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
            raise ValueError(f"there is no column {listed(unknown)}; the columns are {listed(self.channels)}")
        columns = [self.channels.index(name) for name in names]
        items = tuple(replace(item, values=item.values[:, columns]) for item in self.items)
        past, known, made = (
            tuple(name for name in role if name in names)
            for role in (self.past_covariates, self.known_covariates, self.calendar)
        )
        targets = [name for name in names if name not in (*past, *known)]
        if [*targets, *past, *known] != list(names):
            past, known, made = (), (), ()  # columns in an order of the caller's have no roles
        static = {name: held for name, held in self.static.items() if set(columns_of({name: held})) <= set(known)}
        return replace(
            self, items=items, channels=tuple(names), past_covariates=past, known_covariates=known, calendar=made,
            static=static,
        )  # fmt: skip


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
        whose = "the series" if len(panel) == 1 else f"item {shown(short.item_id)}"
        raise ValueError(f"too short a series: {whose} has {len(short)} steps, at least {needed} are needed for {why}")

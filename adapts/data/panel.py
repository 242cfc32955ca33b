r"""Panel data: items x time x channels, with names and dates."""

from __future__ import annotations

__all__ = ["Panel", "require_length"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .. import checks
from ..errors import few, shown
from .columns import named
from .frequency import RANGE, OutOfRange, date_grid, period_of, steps_since
from .from_memory import read_series
from .item import Categories, Item, columns_of
from .options import TIMESTAMP_NAMES

#: The most standard deviations that a value may lie from the mean of the fitted rows.
FARTHEST = 1e15


@dataclass(frozen=True, eq=False)
class Panel:
    r"""Items with the same channels and frequency; `Panel.of` reads them from other types.

    Arguments:
        items: The items.
        channels: The names of the :math:`D` channels.
        frequency: The pandas alias of the time step, or None for undated data.
        single: Whether the input was one series, so that a forecast is one object and not a list.
        item_column: The name of the column that named the items, for `to_pandas`.
        past_covariates: The channels that are known up to the origin only and not forecast, after the targets.
        known_covariates: The channels whose future values are known, after all others.
        calendar: The known covariates computed from the dates, the last channels.
        static: The categories of each static column, None for numbers. A static column is constant within each item.
            Its channels, `static_columns`, are the known covariates before the calendar.
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
            raise ValueError(f"the targets of a panel come before its covariates, got {few(self.channels)}")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_channels(self) -> int:
        r"""The number of channels :math:`D`."""
        return len(self.channels)

    @property
    def targets(self) -> tuple[str, ...]:
        r"""The names of the channels to forecast: all that are not covariates."""
        if not (self.past_covariates or self.known_covariates):
            return self.channels
        return tuple(name for name in self.channels if name not in (*self.past_covariates, *self.known_covariates))

    @property
    def static_columns(self) -> tuple[str, ...]:
        r"""The names of the channels of static columns: one for numbers, one indicator for each category."""
        return columns_of(self.static)

    @property
    def given(self) -> tuple[str, ...]:
        r"""The names of the known covariates whose future values the caller passes: neither static nor calendar."""
        made = {*self.static_columns, *self.calendar}
        return tuple(name for name in self.known_covariates if name not in made)

    def roles(self) -> dict[str, Any]:
        r"""Return the roles of the columns, serialisable as JSON.

        Returns:
            The names of the targets, as "channels", and of the covariates by their kind.
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
        r"""The rows of all items, (sum T, D) float64, and the offsets of the items, (N + 1,)."""
        rows = np.concatenate([item.values for item in self.items])
        return rows, np.cumsum([0, *self.lengths])

    @cached_property
    def begins(self) -> np.ndarray:
        r"""The step of the calendar at which each item begins, (N,).

        Row r of item i is at step begins[i] + r. All items share the calendar: its steps are those of the frequency,
        and the earliest date is step 0. The items of an undated panel are assumed to end together, so that time is
        counted from the end of each item.
        """
        lengths = np.asarray(self.lengths)
        if self.frequency is None:
            begins: np.ndarray = lengths.max() - lengths
            return begins
        begins = np.zeros(len(self), dtype=np.int64)
        nonempty = np.flatnonzero(lengths)
        if len(nonempty):
            firsts = [pd.Timestamp(self.items[number].index[0]).as_unit("ns") for number in nonempty]
            clock = np.array([first.value for first in firsts])
            begins[nonempty] = steps_since(firsts[int(clock.argmin())], clock, self.frequency)
        return begins

    @cached_property
    def steps(self) -> np.ndarray:
        r"""The distinct steps of the calendar at which some item has a row, in order."""
        ranges = zip(self.begins, self.lengths, strict=True)
        return np.unique(np.concatenate([begin + np.arange(length) for begin, length in ranges]))

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
        r"""Read series of any supported type into a panel.

        Arguments:
            series: A wide frame (with a DatetimeIndex, a PeriodIndex or a timestamp column), a long frame (with an item
                column) or a Series, of pandas, polars, Arrow or another library that narwhals supports; an array or
                tensor :math:`(T, D)`, :math:`(N, T, D)` or :math:`(T,)`; a list of these; a gluonts dataset or its
                entries; or a Panel. NaN marks a missing value.
            target: The columns to forecast, all by default.
            item_column: The column of a long frame that names the item, or a list of those that do together: item
                "north/soap" for the columns shop and product. By default the column called item_id, unique_id,
                series_id, time_series_id, ts_id, series_name or id, if it identifies several series.
            timestamp_column: The column of the dates, or of whole numbers that count the steps of an undated series. By
                default the index, or else the one column of dates called timestamp, date, time, ds or datetime.
            frequency: The pandas alias of the time step, inferred by default.
            regularise: Whether to make irregular dates regular: sort the rows, keep one row of each repeated date (the
                mean where they differ), and insert rows of NaN for missing dates.
            static: Columns that are constant within each item (numbers, text or categories), beside the target. Or the
                `static` of another panel, whose categories are then used for the columns that are present.

        Returns:
            The panel.

        Raises:
            ValueError: If the input is of an unknown type, empty, not numeric or infinite; its dates cannot be parsed
                or are not regular; columns that no option names hold dates or identify further series; or a static
                column is not constant within an item.
        """
        return read_series(
            series, cls, target=target, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
            regularise=regularise, static=static,
        )  # fmt: skip

    def standardised(self, location: np.ndarray, scale: np.ndarray) -> Panel:
        r"""Standardise the channels, :math:`(x - location) / scale`.

        Arguments:
            location: The locations, with shape :math:`(D,)`.
            scale: The scales, with shape :math:`(D,)`.

        Returns:
            The panel in the new units.

        Raises:
            ValueError: If a value lies more than 1e15 scales from its location, too far for models to compute with.
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
        r"""Return the first rows of each item.

        Arguments:
            stop: The number of rows to keep, one for all items or one for each.

        Returns:
            The shorter panel.

        Raises:
            ValueError: If these are no numbers of rows.
        """
        given = checks.several("expected stop", stop)
        stops = [checks.whole(n) for n in (given * len(self) if len(given) == 1 else given)]
        if len(stops) != len(self) or any(n is None or n < 1 for n in stops):
            raise ValueError(
                f"expected stop to be a positive number of rows, or one for each of the {len(self)} items, got "
                f"{shown(stop)}"
            )
        items = (Item(i.item_id, i.values[:n], i.index[:n]) for i, n in zip(self.items, stops, strict=True))
        return replace(self, items=tuple(items))

    def in_zone(self, zone: Any) -> Panel:
        r"""Convert the dates to another time zone.

        Arguments:
            zone: The time zone, in any form that pandas accepts.

        Returns:
            The panel with the same instants in this zone. The dates of this panel must have a time zone.
        """
        items = (replace(item, index=pd.DatetimeIndex(item.index).tz_convert(zone)) for item in self.items)
        return replace(self, items=tuple(items))

    def future_index(self, item: Item, prediction_length: int) -> pd.Index[Any]:
        r"""Return the dates of the steps after an item's end.

        Arguments:
            item: An item of the panel.
            prediction_length: The number of steps :math:`H`.

        Returns:
            The :math:`H` dates, in the item's time zone; for undated data the row numbers after its last.

        Raises:
            ValueError: If the dates exceed the range of nanosecond timestamps.
        """
        if self.frequency is None:
            assert isinstance(item.index, pd.RangeIndex)
            return pd.RangeIndex(item.index.stop, item.index.stop + prediction_length)
        assert isinstance(item.index, pd.DatetimeIndex)
        # Local days continue from the first date: the last may be at 01:00 because a clock change skipped midnight.
        past = item.index if item.index.tz is not None else item.index[-1:]
        try:
            whole = date_grid(past[0], self.frequency, periods=len(past) + prediction_length, unit=item.index.unit)
        except OutOfRange as error:
            raise ValueError(
                f"the {prediction_length} steps after {item.index[-1]} are out of range: {RANGE}"
            ) from error
        return whole[len(past) :]

    def to_pandas(self, *, long: bool | None = None) -> pd.DataFrame:
        r"""Convert the panel to a frame, which `Panel.of` reads back exactly.

        Names, float64 values, and dates of any unit and time zone are those of the input. Other numbers become float64,
        names text, and periods and dates in text timestamps.

        Arguments:
            long: Whether to return a long frame; by default, if the panel has several items.

        Returns:
            The wide frame, indexed by the dates, with one column per channel; or the long frame, one item after
            another, with an item column, a timestamp column and the channels. These columns are called item_id and
            timestamp, or as in the input; timestamp becomes date, time or ds if a channel has its name. For undated
            data it holds row numbers, and is left out if those of all items begin with 0. To read back a channel named
            like a column of dates or items, pass `target=`.

        Raises:
            ValueError: If a wide frame is requested for several items, two items have one name, or a channel is named
                like the item column.

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
        r"""Convert the panel to gluonts entries, a dataset for any gluonts model.

        Returns:
            One entry per item: `start` (a Period), `target` with shape :math:`(D, T)`, or :math:`(T,)` for a single
            channel, float64, and `item_id`. gluonts has neither time zones nor channel names, so the start is in local
            time.

        Raises:
            ValueError: If the items have no dates, or no periods represent their dates.
        """
        entries = []
        for item in self.items:
            target = item.values[:, 0] if self.num_channels == 1 else item.values.T
            start = period_of(item.index, self.frequency, f"item {shown(item.item_id)}")
            entries.append({"start": start, "target": target.copy(), "item_id": item.item_id})
        return entries

    def require_observed(self) -> None:
        r"""Check that every channel has an observed value.

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
        r"""Reorder the channels to the order in which an adapter was fitted.

        Arguments:
            names: The names of the fitted channels.

        Returns:
            The panel with its channels in that order.

        Raises:
            ValueError: If fitted channels are missing, or there are other channels.
        """
        missing = [name for name in names if name not in self.channels]
        extra = [name for name in self.channels if name not in names]
        if missing or extra:
            raise ValueError(
                f"expected the {len(names)} channels of the fit ({few(names)}), got {self.num_channels}"
                + (f"; missing: {few(missing)}" if missing else "")
                + (f"; not fitted: {few(extra)}" if extra else "")
                + ("; target=[...] picks columns" if extra and not missing else "")
            )
        return self.select(names)

    def select(self, names: Sequence[str]) -> Panel:
        r"""Return some of the channels, in the given order.

        Arguments:
            names: The names of the channels to keep.

        Returns:
            The panel of these channels.

        Raises:
            ValueError: If the panel has no such channel.
        """
        if tuple(names) == self.channels:
            return self
        unknown = [name for name in names if name not in self.channels]
        if unknown:
            raise ValueError(f"there is no column {few(unknown)}; the columns are {few(self.channels)}")
        columns = [self.channels.index(name) for name in names]
        items = tuple(replace(item, values=item.values[:, columns]) for item in self.items)
        past, known, calendar_names = (
            tuple(name for name in role if name in names)
            for role in (self.past_covariates, self.known_covariates, self.calendar)
        )
        targets = [name for name in names if name not in (*past, *known)]
        if [*targets, *past, *known] != list(names):
            past, known, calendar_names = (), (), ()  # reordered columns lose their roles
        static = {
            name: categories
            for name, categories in self.static.items()
            if set(columns_of({name: categories})) <= set(known)
        }
        return replace(
            self, items=items, channels=tuple(names), past_covariates=past, known_covariates=known,
            calendar=calendar_names,
            static=static,
        )  # fmt: skip


def require_length(panel: Panel, needed: int, why: str) -> None:
    r"""Check that every item is long enough.

    Arguments:
        panel: The panel.
        needed: The number of rows that each item needs.
        why: What the rows are needed for, as the message continues after "for".

    Raises:
        ValueError: If an item is shorter.
    """
    short = min(panel.items, key=len)
    if len(short) < needed:
        whose = "the series" if len(panel) == 1 else f"item {shown(short.item_id)}"
        raise ValueError(f"too short a series: {whose} has {len(short)} steps, at least {needed} are needed for {why}")

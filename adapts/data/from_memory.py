r"""Data in memory (frames, arrays, lists, gluonts entries) read into a panel, with all checks of the input."""

from __future__ import annotations

__all__ = ["MOST_CHANNELS", "Reader", "read_series"]

import datetime
import numbers
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import getattr_static
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from .._logging import warn
from ..errors import few, reading, shown, unforeseen
from .columns import as_array
from .frames import as_pandas
from .frequency import RANGE, alias, calendar_period
from .from_frames import MOST_CHANNELS, FrameReader
from .item import Item
from .options import label
from .regular_dates import steps_from
from .static import coded, with_static

if TYPE_CHECKING:
    from .panel import Panel

#: Prefixes of the feature fields of gluonts entries, their names in former versions, and those an estimator declares.
FEATURES, FORMER_FEATURES = ("feat_", "past_feat_"), ("cat", "dynamic_feat", "past_dynamic_feat")
DECLARED = ("feat_dynamic_real", "past_feat_dynamic_real", "feat_static_real", "feat_static_cat")


@dataclass(frozen=True)
class Reader(FrameReader):
    r"""Reader of anything that holds series, with the options of `Panel.of`; see `FrameReader` for these."""

    def read(self, series: Any) -> Panel:
        r"""Read series of any supported type into a panel; see `Panel.of`."""
        if isinstance(series, self.panel_type):
            return self.read_panel(series)
        try:
            return self.read_any(as_pandas(series))
        except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta) as error:
            raise ValueError(f"{error}: {RANGE}") from error

    def read_panel(self, panel: Panel) -> Panel:
        r"""Select columns of a panel, with its static columns, and make the named numeric columns static."""
        self.require_as_read(panel)
        new = {name: None for name in self.static if name not in panel.static}
        if isinstance(self.static, Mapping):
            new = {name: None for name in new if name in panel.channels and self.static[name] is None}
        if new and panel.static:
            raise ValueError(
                f"the panel was read with the static columns {few(panel.static)}, without {few(new)}: name all "
                "where it is read"
            )
        if self.target is not None:
            wanted = replace(self, static=()).wanted(panel.channels)
            panel = panel.select([*dict.fromkeys([*wanted, *new, *panel.static_columns])])
        unknown = [name for name in new if name not in panel.channels]
        if unknown:
            raise ValueError(f"there is no column {few(unknown)}; the columns are {few(panel.channels)}")
        return with_static(panel, new)

    def read_any(self, series: Any) -> Panel:
        r"""Read series that are not yet a panel."""
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

    def read_list(self, series: list[Any]) -> Panel:
        r"""Read a list of series, of gluonts entries, or nested lists of numbers."""
        if not series:
            raise ValueError("expected at least one series, got an empty list")
        if all(isinstance(entry, Mapping) for entry in series):
            return self.read_gluonts(series)
        series = [as_pandas(entry) for entry in series]
        if self.static and not isinstance(self.static, Mapping):
            return self.with_common_categories(series).read_list(series)
        if not any(
            isinstance(entry, (pd.DataFrame, pd.Series, np.ndarray, torch.Tensor, self.panel_type)) for entry in series
        ):
            return self.read_array(as_array(series))
        return self.join(self.read_all(series))

    def with_common_categories(self, series: list[Any]) -> Reader:
        r"""Return a reader that gives the static columns of all frames of a list the same categories."""
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
        r"""Read the entries of a list; those too short to infer a frequency take that of the longest."""
        are_frames = [isinstance(entry, pd.DataFrame | pd.Series) for entry in series]
        longest = max(range(len(series)), key=lambda n: len(series[n]) if are_frames[n] else 0)
        reference = self.read(series[longest])
        if self.frequency is not None or reference.frequency is None:
            return [self.read(entry) for entry in series]
        panels = []
        for entry, is_frame in zip(series, are_frames, strict=True):
            if is_frame and len(entry) < 3:
                panels.append(replace(self, frequency=reference.frequency).read(entry))
                continue
            panel = self.read(entry)
            if is_frame and panel.frequency != reference.frequency:  # one week of business days looks like days
                with suppress(ValueError):
                    panel = replace(self, frequency=reference.frequency, regularise=False).read(entry)
            panels.append(panel)
        return panels

    def join(self, panels: list[Panel]) -> Panel:
        r"""Join panels of one item each into one panel, with numbers as item names."""
        first = panels[0]
        frequencies = [panel.frequency for panel in panels]
        if len(set(frequencies)) > 1:
            raise ValueError(f"expected items of one frequency, got {few(sorted({str(f) for f in frequencies}))}")
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
        r"""Read numbers of shape (T,), (T, D) or (N, T, D)."""
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

    def read_gluonts(self, entries: Sequence[Mapping[str, Any]], names: str | Sequence[str] | None = None) -> Panel:
        r"""Read gluonts entries with `start` and `target`; `names` are the channel names, if the dataset has them."""
        self.refuse_columns()
        items: list[Item] = []
        frequencies: list[str] = []
        frequency_by_offset: dict[Any, str] = {}
        for number, entry in enumerate(entries):
            if "target" not in entry or "start" not in entry:
                raise ValueError(f"expected gluonts entries with 'target' and 'start'; entry {number} has {few(entry)}")
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
            like = frequency_by_offset.get(getattr(start, "freq", None))
            dates, frequency = steps_from(start, self.frequency, len(values), like=like)
            frequency_by_offset[getattr(start, "freq", None)] = frequency
            frequencies.append(frequency)
            name = number if entry.get("item_id") is None else entry["item_id"]
            if not isinstance(name, str | numbers.Number | np.generic):
                raise ValueError(f"entry {number} has the item_id {shown(name)}: expected text or a number")
            items.append(Item(label(name, f"entry {number}"), values, dates))
        if len(set(frequencies)) > 1:
            period = calendar_period(self.frequency)  # weeks may begin on different days, and years in different months
            if period is None or all(isinstance(entry["start"], pd.Period) for entry in entries):
                raise ValueError(f"expected items of one frequency, got {few(sorted(set(frequencies)))}")
            with reading("the starts of the entries cannot be read as periods", f"give periods of {period!r}"):
                entries = [{**entry, "start": pd.Period(entry["start"], freq=period)} for entry in entries]
            return replace(self, frequency=None).read_gluonts(entries, names)
        width = items[0].values.shape[1]
        channels = tuple(str(number) for number in range(width))
        if names is not None:
            names = [names] if isinstance(names, str) else names
            channels = tuple(label(name) for name in names) if len(names) == width else channels
        _warn_of_features(entries)
        return self.finish(self.panel_type(tuple(items), channels, frequencies[0], single=False))

    def require_as_read(self, panel: Panel) -> None:
        r"""Refuse options that contradict how a panel was read."""
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

    def refuse_columns(self) -> None:
        r"""Refuse options that name columns where there are none."""
        static = None if isinstance(self.static, Mapping) or not self.static else self.static[0]
        columns = {"item_column": self.item_column, "timestamp_column": self.timestamp_column, "static": static}
        for option, name in columns.items():
            if name is not None:
                raise ValueError(
                    f"the data have no columns, of which {option}={shown(name)} could be one: leave it out"
                )


def read_series(series: Any, panel_type: type[Panel], *, covariates: Sequence[str] = (), **options: Any) -> Panel:
    r"""Read series of any supported type into a panel.

    Arguments:
        series: As for `Panel.of`.
        panel_type: `Panel`, the class to return.
        covariates: Columns that the caller names as covariates. They may repeat what the dates say.
        options: The options of `Panel.of`.

    Returns:
        The panel.
    """
    missing = dict.fromkeys(("target", "item_column", "timestamp_column", "frequency"))
    with unforeseen("these data cannot be read", "pass frames or arrays of plain numbers, text and dates"):
        return Reader(panel_type, **{**missing, "regularise": False, **options, "covariates": covariates}).read(series)


def _entries_of(series: Any) -> tuple[list[Mapping[str, Any]], Any]:
    r"""Return the entries of a gluonts dataset and its channel names; no entries for anything else."""
    entries: list[Mapping[str, Any]] = []
    is_pandas = type(series).__module__.partition(".")[0] == "pandas"  # iterating over some dates crashes
    if isinstance(series, Iterable) and not isinstance(series, str | bytes | Mapping) and not is_pandas:
        for entry in series:
            if not isinstance(entry, Mapping):
                return [], None
            entries.append(entry)
    return entries, getattr(series, "target", None) if entries else None


def _warn_of_features(entries: Sequence[Mapping[str, Any]]) -> None:
    r"""Warn that features of gluonts entries are not read; only an estimator that declares them reads them."""
    features: dict[str, int] = {}
    for entry in entries:
        for name, value in entry.items():
            if str(name).startswith(FEATURES) or name in FORMER_FEATURES:
                features.setdefault(str(name), _count_features(str(name), value))
    if not features:
        return
    options = [f"num_{name}={count}" for name, count in features.items() if name in DECLARED]
    remedy = f"AdapterEstimator(..., {', '.join(options)}) of adapts.gluonts reads them, and so do"
    warn(
        f"the gluonts entries hold {few(features)}, and only their targets are read here: "
        f"{remedy if len(options) == len(features) else 'use'} columns of a frame that are named as covariates"
    )


def _count_features(name: str, value: Any) -> int:
    r"""Return the number of features in a field of an entry."""
    with suppress(Exception):  # of any kind: the field holds no numbers
        return len(np.ravel(value)) if "static" in name else len(np.atleast_2d(as_array(value)))
    return 1

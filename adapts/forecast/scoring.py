r"""Scores of one forecast against observed values."""

from __future__ import annotations

__all__ = ["score"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from .. import checks
from ..data.cards import Dataset
from ..data.frames import as_pandas
from ..data.frequency import season_length as guess_season
from ..data.from_memory import Reader
from ..data.future import require_one_value
from ..data.item import Item
from ..data.panel import Panel
from ..data.schema import Schema, has_names
from ..errors import few, shown
from ..evaluation.scores import naive_error
from ..evaluation.tables import require_names, summarise, varying_columns, window_scores

if TYPE_CHECKING:
    from .forecast import Forecast


def score(
    forecast: Forecast,
    actual: Any,
    *,
    scale: Any,
    location: Any,
    season_length: int | None,
    history: Any,
    item_column: str | Sequence[str] | None,
    timestamp_column: str | None,
) -> pd.DataFrame:
    r"""Return the scores of a forecast.

    Arguments:
        forecast: The forecast.
        actual: The observed values. This and the other arguments are those of `Forecast.score`.
        scale: The divisors.
        location: The locations.
        season_length: The season length of the MASE.
        history: The rows before the forecast.
        item_column: The item column of frames.
        timestamp_column: The column of the dates of frames.

    Returns:
        The tidy frame.
    """
    checks.integer("score expects season_length", season_length, most=checks.LONGEST, none=True)
    require_names(forecast.channels)
    names, source = forecast.channels, _Source(forecast, item_column, timestamp_column)
    values = source.ahead(actual)  # (H, D)
    past = np.empty((0, len(names)))
    if history is not None:
        past = source.before(history)
    elif forecast.history is not None:
        past = forecast.history[list(names)].to_numpy(float)
    known = len(past) > 0
    windows = window_scores(
        forecast.joint_distribution,
        torch.from_numpy(values)[None],
        location=_means(past if known else values) if location is None else _numbers("location", location, names),
        scale=np.ones(len(names)) if scale is None else _numbers("scale", scale, names, positive=True),
        varies=varying_columns(np.concatenate([past, values])) if known else np.ones(len(names), dtype=bool),
        num_samples=max(2, forecast.num_samples),  # the fair CRPS compares pairs
        generator=torch.Generator().manual_seed(forecast.seed),
        naive_error=naive_error(past, season_length or guess_season(forecast.frequency))[None],
    )
    return summarise("", windows, None, names).drop(columns="model")


def _means(rows: np.ndarray) -> np.ndarray:
    r"""Return the mean of each channel, with shape (D,); zero for a channel without values."""
    means: np.ndarray = np.nansum(rows, axis=0) / np.maximum((~np.isnan(rows)).sum(axis=0), 1)
    return means


def _numbers(option: str, value: Any, names: Sequence[str], *, positive: bool = False) -> np.ndarray:
    r"""Return one number per channel, of a number, a sequence in the order of the channels, or a mapping of names."""
    if isinstance(value, Mapping | pd.Series):
        missing = [name for name in names if name not in value]
        if missing:
            raise ValueError(f"score expects {option} to name each channel, got none for {few(missing)}: add them")
        value = [value[name] for name in names]
    given = checks.several(f"score expects {option}", value)
    numbers = np.array([checks.real(number) for number in given])
    if len(given) not in (1, len(names)) or not np.isfinite(numbers).all() or (positive and (numbers <= 0).any()):
        raise ValueError(
            f"score expects {option} to be a {'positive ' if positive else ''}finite number, or one for each of the "
            f"{len(names)} channels, got {shown(value)}: pass those of the fit, adapter.{option}_, or None"
        )
    return np.broadcast_to(numbers, len(names)).copy()


@dataclass(frozen=True)
class _Source:
    r"""Reader of the rows of a forecast's item, with the forecast's channels, frequency and time zone."""

    forecast: Forecast
    item_column: str | Sequence[str] | None
    timestamp_column: str | None

    def ahead(self, actual: Any) -> np.ndarray:
        r"""Return the observed values of the forecast's steps, with shape (H, D); NaN where there are none."""
        index = self.forecast.index
        item, by_order = self._item(actual, "actual")
        if by_order:
            if len(item) > len(index):
                raise ValueError(
                    f"actual has {len(item)} rows without dates, expected the {len(index)} steps of the forecast, or "
                    "the first of them: leave out the rows before and after these"
                )
            rows = np.arange(len(item))
        else:
            rows = index.get_indexer(item.index)
        inside = rows >= 0
        if not inside.any():
            raise ValueError(
                f"actual has rows of {item.index[0]} to {item.index[-1]}, none at a step of the forecast: expected "
                f"rows of {index[0]} to {index[-1]}"
            )
        values = np.full((len(index), item.values.shape[1]), np.nan)
        values[rows[inside]] = item.values[inside]
        if np.isnan(values).all():
            raise ValueError("actual has no value at the steps of the forecast: all are missing, expected one or more")
        return values

    def before(self, history: Any) -> np.ndarray:
        r"""Return the rows before the forecast's first step, with shape (T, D)."""
        item, by_order = self._item(history, "history")
        dated = self.forecast.frequency is not None
        return item.values if by_order and dated else item.values[np.asarray(item.index < self.forecast.index[0])]

    def _item(self, series: Any, what: str) -> tuple[Item, bool]:
        r"""Return the rows of the forecast's item, and whether these are numbered from zero on, without dates."""
        forecast = self.forecast
        try:
            panel = self._read(series)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
        by_id = {item.item_id: item for item in panel.items}
        if panel.single:
            by_id = {forecast.item_id: panel.items[0]}
        if forecast.item_id not in by_id:
            raise ValueError(
                f"{what} holds no rows of item {shown(forecast.item_id)}, only of {few(by_id)}: pass the rows of this "
                "item alone, without a column of items"
            )
        item = by_id[forecast.item_id]
        if panel.frequency is None:
            return item, bool(item.index[0] == 0)
        if forecast.frequency is None:
            raise ValueError(
                f"{what} has dates, and the steps of the forecast are numbered {forecast.index[0]} to "
                f"{forecast.index[-1]}: pass the rows without dates, frame.to_numpy()"
            )
        assert isinstance(item.index, pd.DatetimeIndex) and isinstance(forecast.index, pd.DatetimeIndex)
        return replace(item, index=item.index.as_unit(forecast.index.unit)), False

    def _read(self, series: Any) -> Panel:
        r"""Read rows into a panel of the forecast's channels."""
        forecast, names = self.forecast, self.forecast.channels
        values = np.full((len(forecast.index), len(names)), np.nan)
        panel = Panel((Item(forecast.item_id, values, forecast.index),), names, forecast.frequency, single=True)
        if not isinstance(series, str | Path | Dataset | Panel):
            series = as_pandas(series)
        if isinstance(series, pd.Series):
            series = series.to_frame(names[0] if series.name is None and len(names) == 1 else series.name)
        if not has_names(series):
            read = Panel.of(series)
            if read.num_channels != len(names):
                raise ValueError(
                    f"expected rows of the {len(names)} channels of the forecast ({few(names)}), shape (H, "
                    f"{len(names)}), got {read.num_channels} columns: transpose the array, or select columns"
                )
            return Schema(panel).in_steps(replace(read, channels=names), given=True)
        columns: dict[str, Any] = {"item_column": self.item_column, "timestamp_column": self.timestamp_column}
        dated = isinstance(series, pd.DataFrame) and self._has_dates(series)
        if dated and forecast.frequency is not None:
            require_one_value(panel, list(names), series, len(forecast.index), steps=forecast.index, **columns)
        return Schema(panel).read(series, frequency=None, regularise=dated, **columns).panel

    def _has_dates(self, frame: pd.DataFrame) -> bool:
        r"""Return whether a frame has dates, by which its rows can be matched even if some are missing."""
        names, frequency = list(self.forecast.channels), self.forecast.frequency
        reader = Reader(Panel, names, self.item_column, self.timestamp_column, frequency, True)
        flat, item_column, timestamp_column = reader.flat(frame)
        return (
            replace(reader, item_column=item_column, timestamp_column=timestamp_column).find_dates(flat)[0] is not None
        )

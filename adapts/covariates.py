r"""Covariates: which columns they are, their future rows, and what known ones explain of the targets."""

from __future__ import annotations

__all__ = [
    "KnownEffect", "assign", "calendar_columns", "choose", "extent", "followed", "foreseen", "generalised_slopes",
    "location_scale", "require_one_value", "require_tellable", "slopes", "within_items",
]  # fmt: skip

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .data.cards import read_table
from .data.columns import groups, listed
from .data.frames import as_pandas
from .data.frequency import step_days
from .data.from_memory import Reader
from .data.item import Item, columns_of
from .data.options import column_names
from .data.panel import Panel
from .data.times import Times
from .errors import shown, unknown
from .imputation.interpolation import short_gaps
from .persistence.tensors import require_names, taken
from .statistics.bootstrap import clock_of, student
from .statistics.ridge import RidgePath, cross_validated_error

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-5, 3, 17, dtype=torch.float64)
#: The most that errors of one lead are taken to pass on to the next: of those that pass on all no mean is left.
MOST_PERSISTENT = 0.98
#: The share of a covariate that the frozen model must miss at least, for what it misses of it to tell a slope.
UNFORESEEN = 0.01
#: The share of its squares that a covariate must keep about its mean to be none that never changes.
ROUNDING = 1e-12
#: How many windows at the mean over all items an item's own mean is drawn towards it by.
ITEM_WINDOWS = 5
#: What is added to a covariate that divides, as a share of its mean.
FLOOR = 0.2
#: How likely a target without any effect may be given one.
DOUBT = 0.05
#: The most known covariates and products of these with static columns.
MOST_PRODUCTS = 256
#: The cycles of the calendar: their name, their harmonics, and how many days a step must be shorter than for them.
CYCLES = (("day", 2, 0.6), ("week", 3, 6.9), ("year", 2, 190.0))

_TENSORS = ("location", "scale", "weights", "divisor")

# ---------------------------------------------------------------------- which columns


def assign(
    panel: Panel,
    *,
    target: str | Sequence[str] | None,
    past_covariates: str | Sequence[str],
    known_covariates: str | Sequence[str],
    calendar: bool,
) -> Panel:
    r"""Gives the columns of a panel their roles.

    Arguments:
        panel: The panel. Its static columns stay what they are.
        target: The columns to forecast; all that are no covariates if None.
        past_covariates: The columns that are known up to now only.
        known_covariates: The columns whose future values will be given.
        calendar: Whether to make known covariates of the dates: sines and cosines of the day, the week and the year,
            as far as the steps are shorter.

    Returns:
        The panel of these columns alone: targets, past covariates, known ones, static ones, the calendar.

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
    held = panel.static
    panel = replace(panel, past_covariates=(), known_covariates=(), calendar=()).select([*targets, *past, *known])
    panel = replace(panel, past_covariates=tuple(past), known_covariates=tuple(known), static=held)
    return _with_calendar(panel) if calendar else panel


def require_tellable(panel: Panel) -> None:
    r"""Checks that the static columns of a panel, if it has any, can tell how items react to what is known.

    Arguments:
        panel: The panel.

    Raises:
        ValueError: If there is one item, nothing known that changes, a column that is the same in all items, or more
            products than are tried.
    """
    if not panel.static:
        return
    said, columns = listed(panel.static), panel.static_columns
    moving = len(panel.known_covariates) - len(columns)
    if len(panel) == 1:
        raise ValueError(f"static columns ({said}) tell items apart, and there is one: leave static= out")
    if not moving:
        raise ValueError(
            f"static columns ({said}) tell how items react to known covariates, and there are none: name "
            "known_covariates=, or pass calendar=True"
        )
    values = panel.select(columns)
    for name, categories in panel.static.items():
        rows = np.stack([item.values[0] for item in values.select(columns_of({name: categories})).items])
        if len(np.unique(rows[~np.isnan(rows).any(1)], axis=0)) < 2:
            raise ValueError(f"static column {shown(name)} is the same in all {len(panel)} items: leave it out")
    if moving * (1 + len(columns)) > MOST_PRODUCTS:
        raise ValueError(
            f"static columns ({said}) make {len(columns)} numbers and categories; with {moving} known covariates "
            f"that are {moving * (1 + len(columns))} products, {MOST_PRODUCTS} at most are tried: join rare categories"
        )


def _with_calendar(panel: Panel) -> Panel:
    if panel.frequency is None:
        raise ValueError(
            "calendar=True makes covariates of the dates, and these series have none: pass a frame with a "
            "DatetimeIndex, or name the column with timestamp_column="
        )
    cycles, names = _cycles(panel.frequency), calendar_columns(panel.frequency)
    taken = [name for name in names if name in panel.channels]
    if taken:
        raise ValueError(f"calendar=True makes a column {shown(taken[0])}, and there is one already: rename that one")
    items = tuple(
        replace(item, values=np.hstack([item.values, _calendar_values(item.index, cycles)])) for item in panel.items
    )
    known = (*panel.known_covariates, *names)
    return replace(panel, items=items, channels=(*panel.channels, *names), known_covariates=known, calendar=names)


def calendar_columns(frequency: str) -> tuple[str, ...]:
    r"""Names the columns that `calendar=True` makes.

    Arguments:
        frequency: The frequency of the dates.

    Returns:
        The names, in order.

    Raises:
        ValueError: If the steps are so long that the calendar tells nothing of them.
    """
    waves = [(cycle, n) for cycle, most in _cycles(frequency) for n in range(1, most + 1)]
    return tuple(f"{cycle} {wave} {n}" for cycle, n in waves for wave in ("sin", "cos"))


def _cycles(frequency: str | None) -> list[tuple[str, int]]:
    r"""The cycles that are longer than the steps of a frequency, with the number of their harmonics."""
    assert frequency is not None
    cycles = [(cycle, most) for cycle, most, longest in CYCLES if step_days(frequency) < longest]
    if not cycles:
        raise ValueError(f"calendar=True has nothing to tell of steps of {frequency!r}: leave it out")
    return cycles


def _calendar_values(index: pd.Index[Any], cycles: list[tuple[str, int]]) -> np.ndarray:
    r"""Sines and cosines of the local time's place in each cycle, with shape (T, C)."""
    assert isinstance(index, pd.DatetimeIndex)
    day = np.asarray((index.hour * 3600 + index.minute * 60 + index.second) / 86400, dtype=np.float64)
    place = {
        "day": day,
        "week": (np.asarray(index.dayofweek) + day) / 7,
        "year": (np.asarray(index.dayofyear) - 1 + day) / np.where(index.is_leap_year, 366, 365),
    }
    angles = [2 * np.pi * n * place[cycle] for cycle, most in cycles for n in range(1, most + 1)]
    return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)


# ---------------------------------------------------------------------- the steps ahead


def followed(panel: Panel, future: Panel | None, prediction_length: int) -> Panel:
    r"""Appends the steps ahead to each item of a panel, in which the known covariates alone have values.

    Arguments:
        panel: The panel.
        future: The given known covariates of the steps ahead; of a dated panel at these dates (others are left aside),
            of an undated one in order. Not looked at where the calendar is all that is known.
        prediction_length: The number of steps :math:`H`.

    Returns:
        The longer panel.

    Raises:
        ValueError: If a value is missing.
    """
    given = panel.given
    columns = [panel.channels.index(name) for name in given]
    static = [panel.channels.index(name) for name in panel.static_columns]
    items = []
    for item in panel.items:
        index = panel.future_index(item, prediction_length)
        rows = np.full((prediction_length, panel.num_channels), np.nan)
        if given:
            assert future is not None  # for `predict` requires one where there are known covariates
            rows[:, columns] = _values_ahead(panel, item, index, future.select(given))
        rows[:, static] = item.values[-1, static]
        if panel.calendar:
            rows[:, -len(panel.calendar) :] = _calendar_values(index, _cycles(panel.frequency))
        items.append(Item(item.item_id, np.concatenate([item.values, rows]), item.index.append(index)))
    return replace(panel, items=tuple(items))


def require_one_value(
    panel: Panel,
    given: Sequence[str],
    future: Any,
    prediction_length: int,
    *,
    item_column: str | Sequence[str] | None,
    timestamp_column: str | None,
) -> None:
    r"""Checks that no date ahead has two values of a known covariate, of which one would be as good as the other.

    Arguments:
        panel: The dated panel that is to be forecast.
        given: The known covariates.
        future: What they are read from: a frame, a list of frames or a file; nothing else is looked at.
        prediction_length: The number of steps :math:`H`.
        item_column: The column of the items; recognised if None.
        timestamp_column: The column of the dates; recognised if None.

    Raises:
        ValueError: If rows of one item and date differ in a value. Rows that are the same may be repeated, and a row
            may have what another lacks.
    """
    columns: dict[str, Any] = {"item_column": item_column, "timestamp_column": timestamp_column}
    if isinstance(future, list | tuple):
        for item, rows in zip(panel.items, future, strict=False):
            require_one_value(replace(panel, items=(item,)), given, rows, prediction_length, **columns)
        return
    if isinstance(future, str | Path) and os.path.isfile(future):
        future = read_table(Path(future), item_column).series
    future = as_pandas(future)
    if not isinstance(future, pd.DataFrame):
        return
    reader = Reader(Panel, list(given), item_column, timestamp_column, panel.frequency, True)
    frame, item_column, timestamp_column = reader.flat(future)
    reader = replace(reader, item_column=item_column, timestamp_column=timestamp_column)
    dates, timestamp = reader.find_dates(frame)
    if dates is None or not set(given) <= set(frame.columns):
        return
    item_column = reader.find_items(frame, dates, timestamp)
    known = pd.DataFrame(reader.numbers(frame, given, dates), columns=list(given))
    whose_when = pd.DataFrame({"date": dates} | ({} if item_column is None else {"item": frame[item_column].array}))
    if not whose_when.duplicated().any():
        return
    rows_of = {} if item_column is None else groups(frame[item_column])
    for item in panel.items:
        steps = panel.future_index(item, prediction_length)
        assert isinstance(steps, pd.DatetimeIndex)
        rows = rows_of.get(item.item_id, np.arange(len(frame) if len(rows_of) < 2 else 0))
        if (steps.tz is None) != (dates.tz is None) or not len(rows):  # which reading them refuses
            continue
        mine = (dates if steps.tz is None else dates.tz_convert(steps.tz))[rows]
        ahead = mine.isin(steps)
        values, when = known.iloc[rows[ahead]], mine[ahead]
        for name in given:
            counts = values[name].groupby(when).nunique()
            if (counts > 1).any():
                date = counts.index[int((counts > 1).to_numpy().argmax())]
                one, other = values[name][when == date].dropna().unique()[:2]
                whose = "" if len(panel) == 1 else f" of item {shown(item.item_id)}"
                raise ValueError(
                    f"{shown(name)}{whose} is both {one} and {other} at {date}: one value a step is needed"
                )


def _values_ahead(panel: Panel, item: Item, expected: pd.Index[Any], future: Panel) -> np.ndarray:
    r"""The values of an item's known covariates at the steps ahead, with shape (H, C)."""
    held = {other.item_id: other for other in future.items}
    if panel.single and future.single:
        held = {item.item_id: future.items[0]}
    whose = "" if len(panel) == 1 else f" of item {shown(item.item_id)}"
    if item.item_id not in held:
        raise ValueError(
            f"future holds no rows of item {shown(item.item_id)}, only of {listed(held)}: it needs the steps ahead "
            "of each"
        )
    other = held[item.item_id]
    if panel.frequency is None:
        place = np.arange(len(expected))
        place[place >= len(other)] = -1
    elif future.frequency is None:
        raise ValueError(f"future has no dates, and the series have: it needs rows of {_span(expected)}")
    else:
        assert isinstance(other.index, pd.DatetimeIndex) and isinstance(expected, pd.DatetimeIndex)
        dates = other.index if expected.tz is None else other.index.tz_convert(expected.tz)
        place = dates.as_unit("ns").get_indexer(expected.as_unit("ns"))
    absent = expected[place < 0]
    if len(absent):
        has = f"{len(other)} rows" if panel.frequency is None else f"rows of {_span(other.index)}"
        raise ValueError(
            f"future lacks {len(absent)} of the {len(expected)} steps ahead{whose}, {_span(absent)}; it has {has}: "
            f"give a value of {listed(future.channels)} for each"
        )
    values = other.values[place]
    empty = np.isnan(values)
    if empty.any():
        column = int(empty.any(axis=0).argmax())
        raise ValueError(
            f"future lacks values of {shown(future.channels[column])}{whose} at "
            f"{_span(expected[empty[:, column]])}: known "
            "covariates need a value at each step ahead"
        )
    return values


def _span(index: pd.Index[Any]) -> str:
    r"""Steps as a message names them."""
    return str(index[0]) if len(index) == 1 else f"{index[0]} to {index[-1]} ({len(index)} steps)"


# ---------------------------------------------------------------------- what known covariates explain


@dataclass(frozen=True)
class KnownEffect:
    r"""What known covariates explain of the targets: it is taken out before all else and put back after.

    .. math:: r_t = \frac{y_t - B^\top c_t}{m_t}, \qquad F_y(u) = F_r \Bigl( \frac{u - B^\top c}{m} \Bigr), \qquad
        m_t = \frac{c_{jt} + \delta}{\bar c_j + \delta}

    A target has either slopes or a divisor, the :math:`j`-th covariate, whose floor :math:`\delta` is a fifth of its
    mean: what is divided by next to nothing would be noise. Where a covariate that a target reads is missing in a short
    gap, :math:`r` is missing; in longer ones the covariate counts as its mean. Static columns let the slopes differ by
    item: their products with the covariates stand in :math:`c_t` too.

    Arguments:
        names: The :math:`C` known covariates that change, the calendar last.
        static: The :math:`S` static columns.
        location: The means of both, with shape :math:`(C + S,)`: over the train rows, of static numbers over the items,
            and 0 of indicators.
        scale: Their standard deviations over the same, 1 where constant and of indicators, with shape :math:`(C + S,)`.
        weights: The matrix :math:`B` between standardised covariates and standardised targets, with shape
            :math:`(C, D)`, or :math:`(C (1 + S), D)` where static columns are used.
        divisor: The number of the covariate that divides each target, -1 for none, with shape :math:`(D,)`.
    """

    names: tuple[str, ...]
    static: tuple[str, ...]
    location: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    divisor: np.ndarray

    @staticmethod
    def none(panel: Panel, rows: Callable[[Panel], np.ndarray]) -> KnownEffect:
        r"""Makes the effect that explains nothing.

        Arguments:
            panel: The panel of the fit.
            rows: Gives the train rows of a panel, with shape :math:`(n, C)`.

        Returns:
            The effect.
        """
        static = panel.static_columns
        names = tuple(name for name in panel.known_covariates if name not in static)
        location, scale = location_scale(rows(panel.select(names)))
        each = np.stack([item.values[0] for item in panel.select(static).items])  # an item once, however long
        middle, width = location_scale(each)
        numbers = np.array([name in panel.static for name in static], dtype=bool)
        location = np.concatenate([location, np.where(numbers, middle, 0.0)])
        scale = np.concatenate([scale, np.where(numbers, width, 1.0)])
        targets = len(panel.targets)
        return KnownEffect(names, static, location, scale, np.zeros((len(names), targets)), np.full(targets, -1))

    def with_slopes(self, weights: np.ndarray, divisor: np.ndarray) -> KnownEffect:
        r"""The effect with other slopes and divisors; without static columns where the slopes are without products.

        Arguments:
            weights: As for the class.
            divisor: As for the class.

        Returns:
            The effect.
        """
        effect = replace(self, weights=weights, divisor=divisor)
        if effect.tells_apart:
            return effect
        count = len(self.names)
        return replace(effect, static=(), location=self.location[:count], scale=self.scale[:count])

    @property
    def divides(self) -> bool:
        r"""Whether any target is divided."""
        return bool((self.divisor >= 0).any())

    @property
    def tells_apart(self) -> bool:
        r"""Whether static columns are used."""
        return len(self.weights) > len(self.names)

    @property
    def used(self) -> bool:
        r"""Whether anything is explained."""
        return self.divides or bool(self.weights.any())

    @property
    def reads(self) -> np.ndarray:
        r"""Which covariates each target reads, with shape :math:`(C, D)`."""
        reads = np.asarray(self.weights.reshape(-1, len(self.names), self.weights.shape[1]).any(0))
        divided = self.divisor >= 0
        reads[self.divisor[divided], divided] = True
        return reads

    def standardised(self, panel: Panel) -> Panel:
        r"""The known covariates of a panel in units of the train rows, 0 where they are missing.

        Arguments:
            panel: A panel with all columns.

        Returns:
            The panel of these columns, those that change and behind them the static ones.
        """
        known = panel.select((*self.names, *self.static)).standardised(self.location, self.scale)
        return replace(known, items=tuple(replace(i, values=np.nan_to_num(i.values, nan=0.0)) for i in known.items))

    def crossed(self, known: Tensor) -> Tensor:
        r"""The products of covariates with static columns behind the covariates themselves.

        Arguments:
            known: Standardised covariates and static columns, with shape :math:`(*, C + S)`.

        Returns:
            The covariates and, static column by static column, the products, with shape :math:`(*, C (1 + S))`.
        """
        if not self.static:
            return known
        moving, kind = known.split([len(self.names), len(self.static)], -1)
        return torch.cat([moving, (kind.unsqueeze(-1) * moving.unsqueeze(-2)).flatten(-2)], -1)

    def ratio(self, known: Tensor) -> Tensor:
        r"""The divisors :math:`m` that covariates would be.

        Arguments:
            known: Standardised covariates, with shape :math:`(*, C)`; static columns behind them are not looked at.

        Returns:
            The divisors, with shape :math:`(*, C)`; 1 at the mean.
        """
        count = len(self.names)
        known = known[..., :count]
        location, scale = (torch.from_numpy(unit[:count]).to(known) for unit in (self.location, self.scale))
        floor = FLOOR * location
        return ((location + scale * known).clamp(min=0) + floor) / (location + floor)

    def maps(self, panel: Panel, targets: tuple[str, ...], offset: np.ndarray) -> tuple[Panel, Panel]:
        r"""What is taken off each row, and what the rest is divided by, in units of the train rows.

        Arguments:
            panel: A panel with all columns.
            targets: The names of the targets.
            offset: The targets' means in units of their standard deviations, with shape :math:`(D,)`: division is by
                the distance from zero, not from the mean.

        Returns:
            Two panels of the targets' columns.
        """
        shifts, factors = [], []
        for item in self.standardised(panel).items:
            factor = np.ones((len(item), len(targets)))
            if self.divides:
                divided = self.divisor >= 0
                factor[:, divided] = self.ratio(torch.from_numpy(item.values)).numpy()[:, self.divisor[divided]]
            known = self.crossed(torch.from_numpy(item.values)).numpy()
            # Column by column: a product of matrices rounds by where they lie in memory.
            effect = (known[:, :, None] * self.weights).sum(1)
            shifts.append(replace(item, values=effect + (factor - 1) * offset))
            factors.append(replace(item, values=factor))
        return tuple(  # type: ignore[return-value]
            Panel(tuple(items), targets, panel.frequency, panel.single, panel.item_column)
            for items in (shifts, factors)
        )

    def unknown(self, panel: Panel) -> list[np.ndarray]:
        r"""Tells of which cells the effect is unknown: a covariate that the target reads is missing for a short while.

        Arguments:
            panel: A panel with all columns.

        Returns:
            For each item which of its rows and targets these are, with shape :math:`(T, D)`; gaps as of
            `adapts.imputation.interpolation.short_gaps` count.
        """
        reads, found = self.reads, []
        for item in panel.select(self.names).items:
            short = short_gaps(torch.from_numpy(item.values.T))  # (C, T)
            found.append(short.numpy().T.astype(float) @ reads > 0)
        return found

    def state(self) -> dict[str, Tensor]:
        r"""What the effect is made of, beside the names.

        Returns:
            Tensors only.
        """
        return {name: torch.from_numpy(getattr(self, name)) for name in _TENSORS}

    @staticmethod
    def from_state(panel: Panel, state: Mapping[str, Tensor]) -> KnownEffect:
        r"""Makes an effect again from its `state()`.

        Arguments:
            panel: The panel of the fit.
            state: The tensors.

        Returns:
            The effect.

        Raises:
            ValueError: If a tensor does not fit the panel's known covariates.
        """
        require_names("the effect of known covariates", state, _TENSORS)
        names = tuple(name for name in panel.known_covariates if name not in panel.static_columns)
        whole, targets = len(names) + len(panel.static_columns), len(panel.targets)
        # Static columns are left aside where the slopes are without products.
        count = whole if len(state["location"].shape) == 1 and len(state["location"]) == whole else len(names)
        location, scale = (taken(state, name, torch.float64, (count,)) for name in ("location", "scale"))
        if not names or bool((scale <= 0).any()):
            raise ValueError("the tensor 'scale' is expected to hold a positive number for each known covariate")
        weights = taken(state, "weights", torch.float64, (None, targets))
        divisor = taken(state, "divisor", torch.int64, (targets,), low=-1, high=len(names) - 1)
        used = bool(weights.any()) or bool((divisor >= 0).any())
        if len(weights) != len(names) * (1 + count - len(names)) and (used or len(weights) != len(names)):
            raise ValueError(f"the tensor 'weights' does not fit {count} known covariates, got {len(weights)} rows")
        if bool((location[divisor[divisor >= 0]] <= 0).any()):
            raise ValueError("the tensor 'divisor' is expected to name covariates whose means are positive")
        static = panel.static_columns[: count - len(names)]
        return KnownEffect(names, static, *(x.numpy() for x in (location, scale, weights, divisor)))


def location_scale(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Finds the units of columns.

    Arguments:
        rows: The rows, with shape :math:`(n, C)`. NaN marks a missing value.

    Returns:
        Means and population standard deviations, the latter at least 1e-9 of the former; of a constant column the
        constant, exactly, and its size; 0 and 1 where nothing, or nothing but zero, was seen.

    Example:
        >>> location_scale(np.array([[1e-150, 0.1, 0.0], [3e-150, 0.1, 0.0]]))
        (array([2.e-150, 1.e-001, 0.e+000]), array([1.e-150, 1.e-001, 1.e+000]))
    """
    seen = ~np.isnan(rows)
    count = np.maximum(seen.sum(0), 1)
    location = np.where(seen, rows, 0.0).sum(0) / count
    deviation = np.where(seen, rows - location, 0.0)
    exponent = np.frexp(np.abs(deviation).max(0, initial=0.0))[1]  # squares neither vanish nor overflow, digits stay
    scale = np.ldexp(np.sqrt((np.ldexp(deviation, -exponent) ** 2).sum(0) / count), exponent)
    low, high = extent(rows)
    location = np.where(low == high, low, location)
    scale = np.where(low == high, np.abs(location), np.maximum(scale, 1e-9 * np.abs(location)))
    return location, np.where(scale > 0, scale, 1.0)


def extent(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Finds the smallest and the largest value of columns.

    Arguments:
        rows: The rows, with shape :math:`(n, C)`. NaN marks a missing value.

    Returns:
        Both, with shape :math:`(C,)`; infinity and minus infinity where nothing was seen.
    """
    seen = ~np.isnan(rows)
    low = np.where(seen, rows, np.inf).min(0, initial=np.inf)
    return low, np.where(seen, rows, -np.inf).max(0, initial=-np.inf)


def within_items(values: Tensor, item: Tensor) -> Tensor:
    r"""Takes off each item's mean, so that levels of items are not taken for what covariates do.

    Arguments:
        values: The values of windows, with shape :math:`(n, H, C)`. NaN marks a missing step.
        item: The item of each window, with shape :math:`(n,)`.

    Returns:
        The values less the means of their items. These are drawn to the mean over all, as far as `ITEM_WINDOWS` windows
        at that mean draw them: a few windows hardly tell a level.
    """
    seen = ~values.isnan()
    number = item.unique(return_inverse=True)[1]
    shape = (int(number.max()) + 1 if len(number) else 0, values.shape[-1])
    count = torch.zeros(shape, dtype=torch.float64).index_add(0, number, seen.sum(1).double())
    total = torch.zeros(shape, dtype=torch.float64).index_add(0, number, values.nan_to_num(0.0).sum(1).double())
    mean = total.sum(0) / count.sum(0).clamp(min=1)
    weight = ITEM_WINDOWS * values.shape[1]
    return values - ((total + weight * mean) / (count + weight))[number].unsqueeze(1).to(values)


def foreseen(above: Tensor, missed: Tensor) -> Tensor:
    r"""Tells which covariates the frozen model foresees, so that its errors tell of itself and not of them.

    Arguments:
        above: The covariates as distances from the context's mean, with shape :math:`(n, H, C)`.
        missed: The same as distances from what the frozen model foresees, with shape :math:`(m, H, C)`.

    Returns:
        Whether the squares of the latter are less than `UNFORESEEN` of those of the former, with shape :math:`(C,)`.
    """
    whole, rest = (values.double().square().mean((0, 1)) for values in (above, missed))
    return rest <= UNFORESEEN * whole


def slopes(x: Tensor, y: Tensor, fold: Tensor, folds: int) -> Tensor:
    r"""Ridge coefficients of each target on covariates, with each fold left out and with all of them.

    The regression has an intercept, which is neither shrunk nor returned: the covariates need not be centred, nor the
    targets. A target's strength has the least error left out; where no strength beats zero, its coefficients are zero.

    Arguments:
        x: The covariates, with shape :math:`(n, H, C)`.
        y: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        fold: Each window's block of time, with shape :math:`(n,)`; -1 marks those that are in none.
        folds: The number of blocks :math:`F`.

    Returns:
        The coefficients, with shape :math:`(F + 1, C, D)`: first those without each of the :math:`F` folds.
    """
    return _solved(x, y, fold, folds, 1)


def generalised_slopes(x: Tensor, y: Tensor, fold: Tensor, folds: int) -> Tensor:
    r"""Ridge coefficients as `slopes` has them, of errors that hang together from lead to lead.

    These are taken for an autoregression of first order, whose coefficient the errors of `slopes` tell (feasible
    generalised least squares). What a target that wanders misses at one lead it misses at the next: such errors count
    once, which makes the coefficients far surer.

    References:
        | Trend Estimators and Serial Correlation (Prais & Winsten, 1954)

    Arguments:
        x: The covariates, with shape :math:`(n, H, C)`.
        y: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        fold: Each window's block of time, with shape :math:`(n,)`; -1 marks those that are in none.
        folds: The number of blocks :math:`F`.

    Returns:
        The coefficients, with shape :math:`(F + 1, C, D)`: first those without each of the :math:`F` folds.
    """
    return _solved(x, y, fold, folds, 2)


def _solved(x: Tensor, y: Tensor, fold: Tensor, folds: int, passes: int) -> Tensor:
    used = [(fold == one).nonzero().flatten() for one in range(folds)]
    found = torch.zeros(folds + 1, x.shape[-1], y.shape[-1], dtype=torch.float64)
    regressors = [torch.cat([torch.ones_like(x[rows, :, :1]), x[rows]], -1).double() for rows in used]  # and a constant

    def moments(left: list[Tensor], right: list[Tensor], seen: list[Tensor]) -> Tensor:
        return torch.stack([_moments(*each) for each in zip(left, right, seen, strict=True)])  # (F, 4, p, q)

    whole = moments(regressors, regressors, [torch.ones_like(each[..., 0], dtype=torch.bool) for each in regressors])
    for target in range(y.shape[-1]):
        outcomes = [y[rows, :, target, None].double() for rows in used]
        seen = [~each[..., 0].isnan() for each in outcomes]
        complete = all(bool(each.all()) for each in seen)
        gram = whole if complete else moments(regressors, regressors, seen)
        cross, square = moments(regressors, outcomes, seen), moments(outcomes, outcomes, seen)
        joint = torch.cat([torch.cat([gram, cross], -1), torch.cat([cross.mT, square], -1)], -2)
        for left_out in range(folds + 1):  # strength and autoregression, too, are chosen without the fold
            found[left_out, :, target] = _ridge(joint[[one for one in range(folds) if one != left_out]], passes)
    return found


def _moments(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
    r"""Sums of products of steps, neighbours both ways, steps before others and steps that follow none: (4, p, q)."""
    follows, precedes = torch.zeros_like(seen), torch.zeros_like(seen)
    follows[:, 1:] = precedes[:, :-1] = seen[:, 1:] & seen[:, :-1]
    first = seen & ~follows
    neighbours = x[follows].mT @ y[precedes] + x[precedes].mT @ y[follows]
    rest = (x[which].mT @ y[which] for which in (precedes, first))
    return torch.stack([x[seen].mT @ y[seen], neighbours, *rest])


def _ridge(moments: Tensor, passes: int) -> Tensor:
    r"""The ridge coefficients (C,) at the strength of the least error left out of folds; 0 where none beats zero."""
    # The moments (F, 4, C + 2, C + 2) are of the constant, the covariates and the target.
    persistence = torch.zeros((), dtype=torch.float64)
    unit = torch.eye(moments.shape[-1], dtype=moments.dtype)
    for _ in range(passes):  # the errors of the first solution tell how the second weighs the steps
        steps, neighbours, before, first = moments.unbind(1)
        white = steps - persistence * neighbours + persistence.square() * (before - first)
        mean = white.sum(0)[0] / white.sum(0)[0, 0].clamp(min=1e-12)
        centring = unit - torch.outer(mean, unit[0])  # takes the means off the rest; nothing is left of the constant
        centred = centring @ white @ centring.mT
        varies = (
            centred.sum(0).diagonal() > ROUNDING * white.sum(0).diagonal()
        )  # of others nothing but rounding is left
        white = (centred * torch.outer(varies, varies))[:, 1:, 1:]
        gram, cross, square = white[:, :-1, :-1], white[:, :-1, -1:], white[:, -1, -1:]
        typical = gram.sum(0).diagonal().mean().clamp(min=1e-12)
        errors = cross_validated_error(gram, cross, square, STRENGTHS * typical)[:, 0]
        least = int(errors.argmin())
        found = RidgePath(gram.sum(0), cross.sum(0)).solve(STRENGTHS[least] * typical)[:, 0]
        found = torch.where(varies[1:-1] & (errors[least] < square.sum()), found, 0.0)
        error = centring.mT @ torch.cat([found.new_zeros(1), -found, found.new_ones(1)])  # what is made of the columns
        products, earlier = (error @ of.sum(0) @ error for of in (neighbours, before))
        persistence = (products / 2 / earlier.clamp(min=1e-12)).clamp(0, MOST_PERSISTENT)
    return found


def choose(losses: Tensor, prediction_length: int, time: Times) -> tuple[Tensor, Tensor]:
    r"""Chooses the candidate of each target where it surely lowers the loss.

    Sure is what the 95 % lower bound of the gain, by slow waves (see `Clock`), has above zero, though the candidate is
    the best of several: as many as these are worth, for those that gain and lose together count once. Targets stand
    alone: one that is driven says nothing of the others.

    References:
        | A Reality Check for Data Snooping (White, 2000), https://doi.org/10.1111/1468-0262.00152

    Arguments:
        losses: The losses of each candidate on windows that it did not see, with shape :math:`(1 + k, n, D)`, first
            those without any. NaN marks a window without targets.
        prediction_length: The number of leads :math:`H`.
        time: When the windows begin (`Windows.time`).

    Returns:
        The number of each target's candidate, 0 for none, and the gains of the best ones as shares of the loss, both
        with shape :math:`(D,)`.
    """
    unit = losses[0].nanmean(0)
    gains = (losses[0] - losses[1:]) / torch.where(unit > 0, unit, 1.0)  # (k, n, D)
    means = gains.nanmean(1).nan_to_num(0.0)
    best = means.argmax(0)  # (D,)
    mean = means.gather(0, best.unsqueeze(0))[0]
    clock = clock_of(time, prediction_length)
    if clock is None:
        return torch.zeros_like(best), mean
    errors = clock.errors(gains.transpose(0, 1).flatten(1), scaled=False).unflatten(1, gains.shape[::2])  # (J, k, D)
    spread = errors.square().mean(0).sqrt()
    # The bound rises as that of the best of all by chance does over one's own, at most as if all were strangers.
    white = torch.randn(1000, len(errors), generator=torch.Generator().manual_seed(0), dtype=errors.dtype)
    chance = torch.einsum("rj,jkd->rkd", white, errors / spread / len(errors) ** 0.5).nan_to_num(0.0, 0.0, 0.0)
    highest, own = (each.quantile(1 - DOUBT, dim=0) for each in (chance.amax(1), chance))
    rise = highest / own.gather(0, best.unsqueeze(0))[0].clamp(min=1e-9)
    one, strangers = (student(1 - DOUBT / number, clock.freedom) for number in (1, len(gains)))
    least = (one * rise).clamp(one, strangers) * spread.gather(0, best.unsqueeze(0))[0]
    return torch.where(mean - least > 0, best + 1, 0), mean

r"""Parts of a panel in time, and the context and target windows inside them."""

from __future__ import annotations

__all__ = [
    "Part",
    "Times",
    "Windows",
    "last_windows",
    "least_history",
    "part_windows",
    "require_times",
    "split_parts",
    "window_loader",
]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .dates import phase_of, phases, step_days, steps_since
from .errors import shown
from .gaps import Told
from .kriging import Kriging
from .panel import Panel

PARTS = ("train", "validation", "calibration", "confirmation")


@dataclass(frozen=True)
class Part:
    r"""One chronological part of a panel.

    Arguments:
        name: The name of the part.
        ranges: For each item the rows `[start, stop)` that may be targets. Contexts may look back before `start`.
    """

    name: str
    ranges: tuple[tuple[int, int], ...]


def split_parts(
    panel: Panel,
    *,
    borders: tuple[int, int] | None = None,
    fractions: Sequence[float] = (0.7, 0.1, 0.1, 0.1),
) -> dict[str, Part]:
    r"""Cuts a panel into train, validation, calibration and confirmation, in this order in time.

    The items of a dated panel are cut at the same calendar dates: rows are counted where any of them has one, and an
    item that ends before a cut, or begins after it, has an empty range on the other side. The items of an undated
    panel have no common clock, and each is cut at its own rows.

    Arguments:
        panel: The panel to cut.
        borders: The rows where the train rows and the validation rows end, as a data card states them. The validation
            rows are then shared out in thirds, and the rows behind them belong to no part.
        fractions: The shares of the four parts where there are no borders. They sum to one.

    Returns:
        The four parts by name.

    Raises:
        ValueError: If the borders are not in order, or the fractions do not add up to 1.
    """
    if borders is not None and not 0 < borders[0] <= borders[1]:
        raise ValueError(
            f"expected borders (train end, validation end), 0 < train end <= validation end, got {borders}"
        )
    if len(fractions) != len(PARTS) or not abs(sum(fractions) - 1) < 1e-9:
        raise ValueError(f"expected {len(PARTS)} fractions that add up to 1, got {shown(fractions)}")

    def cuts(rows: int) -> list[int]:
        if borders is None:
            return [0, *(round(rows * share) for share in np.cumsum(fractions))]
        train, stop = (min(border, rows) for border in borders)
        third = (stop - train) / 3
        return [0, train, train + round(third), train + round(2 * third), stop]

    if panel.frequency is None:
        item_cuts = [cuts(length) for length in panel.lengths]
    else:
        steps = np.append(panel.steps, panel.steps[-1] + 1)
        at = steps[cuts(len(panel.steps))]
        item_cuts = [
            np.clip(at - begin, 0, length).tolist() for begin, length in zip(panel.begins, panel.lengths, strict=True)
        ]
    return {
        name: Part(name, tuple((cut[number], cut[number + 1]) for cut in item_cuts))
        for number, name in enumerate(PARTS)
    }


@dataclass(frozen=True, eq=False, init=False)
class Times:
    r"""When windows begin: steps of a calendar that all of their items, or several panels, have in common.

    What asks which windows are simultaneous, or how far apart they lie, asks for these, and not for rows: a row's
    number within its item tells no time where items begin at different dates. Hence they are made of panels only. The
    items of an undated panel are taken to end together, and a row's number, counted from there, is its time.

    Arguments:
        panel: The panel of the items.
        item: The number of each window's item in the panel, with shape :math:`(n,)`.
        row: The row of its item at which each window begins, with shape :math:`(n,)`.

    Attributes:
        step: The steps, with shape :math:`(n,)`.
        item: The items, with shape :math:`(n,)`.
        calendar: The frequency of the steps, and what they are counted from.
    """

    step: np.ndarray
    item: np.ndarray
    calendar: tuple[str | None, int]

    def __init__(self, panel: Panel, item: np.ndarray, row: np.ndarray) -> None:
        item, row = np.asarray(item), np.asarray(row)
        if panel.frequency is None:
            since = -max(panel.lengths)
        else:
            since = min(int(one.clock()[0]) for one in panel.items if len(one))
        self._set(panel.begins[item] + row, item, (panel.frequency, since))

    def _set(self, step: np.ndarray, item: np.ndarray, calendar: tuple[str | None, int]) -> None:
        for name, value in (("step", step), ("item", item), ("calendar", calendar)):
            object.__setattr__(self, name, value)

    @classmethod
    def _made(cls, step: np.ndarray, item: np.ndarray, calendar: tuple[str | None, int]) -> Times:
        made = cls.__new__(cls)
        made._set(step, item, calendar)
        return made

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, which: slice | Sequence[int] | np.ndarray) -> Times:
        return self._made(self.step[which], self.item[which], self.calendar)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.step, dtype=dtype)

    @classmethod
    def joined(cls, parts: Sequence[Times]) -> Times:
        r"""Joins the times of windows of one panel.

        Arguments:
            parts: The times, one at least.

        Returns:
            All of them, in this order.

        Raises:
            ValueError: If their calendars differ.
        """
        if len({part.calendar for part in parts}) != 1:
            raise ValueError(
                f"expected times of one calendar, got {shown([part.calendar for part in parts])}: Times.of_panels "
                "brings windows of several panels onto one"
            )
        step, item = (np.concatenate([getattr(part, name) for part in parts]) for name in ("step", "item"))
        return cls._made(step, item, parts[0].calendar)

    @classmethod
    def of_panels(cls, windows: Sequence[Windows]) -> Times:
        r"""Brings windows of several panels onto one calendar.

        Arguments:
            windows: The windows of each panel, whose origins are rows of their items. Panels are all dated or none is.

        Returns:
            The times of all windows, in this order; the items of each panel are others than those before. Steps are
            those of the panel with the longest ones. Undated panels are taken to end together.

        Raises:
            ValueError: If some panels are dated and others are not.
        """
        shift = np.cumsum([0, *(len(each.panel) for each in windows)])
        item = np.concatenate([each.item + first for each, first in zip(windows, shift, strict=False)])
        named = {each.panel.frequency for each in windows}
        frequencies = [name for name in named if name is not None]
        if not frequencies:
            since = -max(max(each.panel.lengths) for each in windows)
            return cls._made(np.concatenate([each.time.step + each.time.calendar[1] - since for each in windows]), item,
                             (None, since))  # fmt: skip
        if len(frequencies) < len(named):
            raise ValueError(
                "expected panels that all have dates, or none, got some of both: one calendar cannot hold them"
            )
        firsts = [pd.Timestamp(one.index[0]) for each in windows for one in each.panel.items if len(one)]
        start, longest = min(firsts), max(frequencies, key=step_days)
        dates = [
            each.panel.items[i].clock()[row] for each in windows for i, row in zip(each.item, each.origin, strict=True)
        ]
        return cls._made(steps_since(start, np.array(dates), longest), item, (longest, start.as_unit("ns").value))


def require_times(time: Times) -> Times:
    r"""Checks that windows are told apart by time, not by rows.

    Arguments:
        time: When windows begin.

    Returns:
        The same.

    Raises:
        TypeError: If these are no `Times`.
    """
    if not isinstance(time, Times):
        raise TypeError(
            f"expected the times of windows on their calendar, got {type(time).__name__}: pass windows.time (not "
            "windows.origin, whose rows tell no time where items begin at different dates), or Times(panel, item, row)"
        )
    return time


@dataclass(frozen=True, eq=False)
class Windows:
    r"""Context and target windows of one panel: which they are, not their numbers.

    Tensors are built only for the windows that are asked for, so `windows[:64].past()` costs 64 windows.

    Arguments:
        panel: The panel that the windows look at, usually standardised.
        item: The number of each window's item in the panel, with shape :math:`(n,)`.
        origin: The row of each window's first target, with shape :math:`(n,)`.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        shifts: What was taken off the targets, row by row, for known covariates; nothing if None.
        factors: What the rest was then divided by, positive; nothing if None.
        told: What the channels tell of each other where cells are missing; these stay as they are if None.
        kriging: What a few values tell of those to come; they are left to the frozen model if None.
    """

    panel: Panel
    item: np.ndarray
    origin: np.ndarray
    context_length: int
    prediction_length: int
    shifts: Panel | None = None
    factors: Panel | None = None
    told: Told | None = None
    kriging: Kriging | None = None

    def __len__(self) -> int:
        return len(self.origin)

    def __getitem__(self, which: slice | Sequence[int] | np.ndarray) -> Windows:
        return replace(self, item=self.item[which], origin=self.origin[which])

    def past(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers the context rows, those before the origin.

        Arguments:
            dtype: The precision. Raw rows need float64, for their location may be far larger than their scale.

        Returns:
            The contexts, with shape :math:`(n, L, D)`, gaps filled where the other channels tell more of them than the
            channel itself. Where an item is shorter they begin with NaN.
        """
        return self._filled(dtype)[0]

    def doubt(self) -> Tensor | None:
        r"""Says what the forecasts of filled contexts do not know, a variance to be added to them.

        Returns:
            The variances, with shape :math:`(n, H, D)`; None where nothing was filled.
        """
        doubt = self._filled(torch.float32)[1]
        return doubt if doubt is not None and bool(doubt.any()) else None

    def future(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers the target rows, those from the origin on.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The targets, with shape :math:`(n, H, D)`. NaN where missing or past the item's end.
        """
        return self._gather(self.panel, np.arange(self.prediction_length), dtype)

    def shift(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers what was taken off the target rows, to be added to their law.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The shifts, with shape :math:`(n, H, D)`; 0 past the item's end.
        """
        assert self.shifts is not None
        return self._gather(self.shifts, np.arange(self.prediction_length), dtype).nan_to_num(0.0)

    def factor(self, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Gathers what the target rows were divided by, to multiply their law with.

        Arguments:
            dtype: The precision, as for `past`.

        Returns:
            The factors, with shape :math:`(n, H, D)`, 1 past the item's end; one 1 where nothing was divided.
        """
        if self.factors is None:
            return torch.ones(1, 1, 1, dtype=dtype)
        return self._gather(self.factors, np.arange(self.prediction_length), dtype).nan_to_num(1.0)

    def _filled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        r"""The contexts, and the variances that `doubt` tells."""
        steps = np.arange(-self.context_length, 0)
        if self.told is None:
            return self._gather(self.panel, steps, dtype), None
        panels = self.panel, self.told.mean, self.told.variance
        past, mean, variance = (self._gather(panel, steps, torch.float64) for panel in panels)
        filled, doubt = self.told.fill(past, mean, variance, self.prediction_length)
        return filled.to(dtype), doubt.to(dtype)

    @property
    def time(self) -> Times:
        r"""When windows begin, on one calendar for all items."""
        return Times(self.panel, self.item, self.origin)

    @property
    def phases(self) -> int:
        r"""How many phases of the season steps are told apart by: hours, weekdays or months (see `dates.phases`)."""
        return phases(self.panel.frequency)

    def phase(self) -> Tensor:
        r"""The phase of the season of the target steps.

        Returns:
            The phases, with shape :math:`(n, H)`; 0 for undated panels.
        """
        found = np.zeros((len(self), self.prediction_length), dtype=np.int64)
        if self.phases == 1 or not len(self):
            return torch.from_numpy(found)
        order = np.argsort(self.item, kind="stable")
        for mine in np.split(order, np.flatnonzero(np.diff(self.item[order])) + 1):
            item, origin = self.panel.items[self.item[mine[0]]], self.origin[mine]
            first, stop = int(origin.min()), int(origin.max()) + self.prediction_length
            index = item.index[first:stop]
            if stop > len(item):
                index = index.append(self.panel.future_index(item, stop - len(item)))
            steps = origin[:, None] - first + np.arange(self.prediction_length)
            found[mine] = phase_of(index, self.panel.frequency)[steps]
        return torch.from_numpy(found)

    def _gather(self, panel: Panel, steps: np.ndarray, dtype: torch.dtype) -> Tensor:
        rows, starts = panel.concatenated  # (sum T, D), (N + 1,)
        first, stop = starts[self.item, None], starts[self.item + 1, None]  # (n, 1)
        at = first + self.origin[:, None] + steps  # (n, steps)
        values = rows[np.clip(at, 0, len(rows) - 1)]  # (n, steps, D)
        values[(at < first) | (at >= stop)] = np.nan
        return torch.from_numpy(values).to(dtype)


def least_history(context_length: int, prediction_length: int, stop: int) -> int:
    r"""Tells how many rows a window has before it at least.

    Arguments:
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        stop: The row of the item before which targets end.

    Returns:
        The number, :math:`\min(L, \max(H, \lfloor stop / 4 \rfloor))`.
    """
    return min(context_length, max(prediction_length, stop // 4))


def part_windows(
    panel: Panel,
    part: Part,
    *,
    context_length: int,
    prediction_length: int,
    max_windows: int,
    stride: int = 1,
) -> Windows:
    r"""Lays windows over a part so that all of their targets lie inside it.

    Contexts look back across the part's border freely. A window needs some history (`least_history`), which binds
    in the train part only, unless an item begins late. Windows
    whose target is wholly missing are left out.

    Arguments:
        panel: The panel, usually standardised.
        part: The part that the targets lie in.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        max_windows: The most windows to return. If there are more, they are thinned out evenly over all items.
        stride: The number of rows from one origin to the next, before thinning.

    Returns:
        The windows, item by item, each in order of time.

    Raises:
        ValueError: If the part is of another panel, or a number is not positive.
    """
    if len(part.ranges) != len(panel) or max_windows < 1 or stride < 1:
        raise ValueError(
            f"expected one range an item ({len(panel)}) and positive max_windows and stride, got {len(part.ranges)} "
            f"ranges, max_windows={shown(max_windows)} and stride={shown(stride)}"
        )
    items, origins = [], []
    for number, (item, (start, stop)) in enumerate(zip(panel.items, part.ranges, strict=True)):
        history = least_history(context_length, prediction_length, stop)
        candidates = np.arange(max(start, history), stop - prediction_length + 1, stride)
        seen = np.concatenate([[0], np.cumsum(~np.isnan(item.values).all(axis=1))])
        candidates = candidates[seen[candidates + prediction_length] > seen[candidates]]
        items.append(np.full(len(candidates), number))
        origins.append(candidates)
    windows = Windows(panel, np.concatenate(items), np.concatenate(origins), context_length, prediction_length)
    if len(windows) <= max_windows:
        return windows
    # A fractional step spreads the windows better than every k-th one, which may lock in with the season.
    return windows[np.arange(max_windows) * len(windows) // max_windows]


def last_windows(panel: Panel, *, context_length: int, prediction_length: int) -> Windows:
    r"""Makes the windows that forecast what comes after each item's end.

    Arguments:
        panel: The panel, usually standardised.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        One window an item, in the panel's order. Its future is all NaN.
    """
    return Windows(panel, np.arange(len(panel)), np.asarray(panel.lengths), context_length, prediction_length)


class _Batches(Dataset[tuple[Tensor, Tensor, dict[str, Tensor]]]):
    r"""Windows as a dataset whose index is a whole batch, so that a batch is one gather."""

    def __init__(self, windows: Windows, known: Mapping[str, Tensor]) -> None:
        self.windows, self.known = windows, known

    def __getitem__(self, which: Sequence[int]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        batch = self.windows[which]
        return batch.past(), batch.future(), {name: tensor[which] for name, tensor in self.known.items()}


class _BatchSampler(Sampler[list[int]]):
    r"""Batches of window numbers, in an order that seed and epoch alone decide: a resumed run sees the same ones.

    Where several processes train together, each takes its share of every batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.size)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if together else (0, 1)
        for start in range(0, self.size, self.batch_size):
            batch = order[start : start + self.batch_size].tolist()
            yield batch[rank::ranks] or batch[:1]  # a process without a window would leave the others waiting


def window_loader(
    windows: Windows, batch_size: int, seed: int | None, known: Mapping[str, Tensor] | None = None
) -> DataLoader[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    r"""Loads windows batch by batch, for Lightning.

    Arguments:
        windows: The windows.
        batch_size: The number of windows in a batch, over all processes.
        seed: The seed of the shuffling, anew each epoch: the order depends on it and on the epoch's number only. In
            their own order if None.
        known: What else is known of each window, by name, each with shape :math:`(n, *)`.

    Returns:
        The loader. Its batches hold the past :math:`(B, L, D)`, the future :math:`(B, H, D)`, and what else is known
        of these windows.
    """
    sampler = _BatchSampler(len(windows), batch_size, seed)
    return DataLoader(_Batches(windows, known or {}), batch_size=None, sampler=sampler)

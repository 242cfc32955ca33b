r"""Calendar covariates: sines and cosines of the time of day, week and year."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .frequency import step_days
from .item import Item
from .panel import Panel

#: The cycles of the calendar: name, number of harmonics, and the length in days below which steps have the cycle.
CYCLES = (("day", 2, 0.6), ("week", 3, 6.9), ("year", 2, 190.0))

#: The cycles that families may read unasked, with their lengths in days. The year is none of them: validation windows
#: seldom span one, and then cannot tell its effect from a change of level.
UNSEEN = {"day": 1.0, "week": 7.0}
#: The least number of times that a series repeats such a cycle.
REPEATS = 4


def cycles_of(frequency: str | None) -> list[tuple[str, int]]:
    r"""Return the cycles longer than the steps of a frequency, with their numbers of harmonics."""
    assert frequency is not None
    cycles = [(cycle, most) for cycle, most, longest in CYCLES if step_days(frequency) < longest]
    if not cycles:
        raise ValueError(f"calendar=True has no cycle that is longer than steps of {frequency!r}: leave it out")
    return cycles


def unseen_cycles(panel: Panel, context_length: int) -> tuple[str, ...]:
    r"""Return the cycles of the day and the week that are longer than a context: the frozen model cannot see them.

    Arguments:
        panel: A panel.
        context_length: The number of context steps :math:`L`.

    Returns:
        The names of the cycles that the longest item repeats at least four times; none for an undated panel, or one
        with a calendar among its covariates.
    """
    if panel.frequency is None or panel.calendar:
        return ()
    step, most = step_days(panel.frequency), max(panel.lengths)
    return tuple(
        name for name, _, longest in CYCLES
        if name in UNSEEN and step < longest and context_length < UNSEEN[name] / step <= most / REPEATS
    )  # fmt: skip


def count_waves(cycles: Collection[str]) -> int:
    r"""Return the number of sines and cosines of cycles, two a harmonic."""
    return sum(2 * harmonics for name, harmonics, _ in CYCLES if name in cycles)


def phases(panel: Panel, cycles: Collection[str]) -> Panel:
    r"""Return the phases of cycles at each row of a dated panel, and at the step after each item's end.

    Arguments:
        panel: The panel.
        cycles: The names of the cycles.

    Returns:
        The panel of sines and cosines, of variance 1 over a whole cycle.
    """
    waves = [(name, harmonics) for name, harmonics, _ in CYCLES if name in cycles]
    channels = tuple(f"{name} {number}" for name, harmonics in waves for number in range(2 * harmonics))
    items = []
    for item in panel.items:
        index = item.index.append(panel.future_index(item, 1))
        items.append(Item(item.item_id, math.sqrt(2) * calendar_values(index, waves), index))
    return Panel(tuple(items), channels, panel.frequency, panel.single)


def calendar_values(index: pd.Index[Any], cycles: Sequence[tuple[str, int]]) -> np.ndarray:
    r"""Return sines and cosines of the local time's phase in each cycle, with shape (T, C)."""
    assert isinstance(index, pd.DatetimeIndex)
    day = np.asarray((index.hour * 3600 + index.minute * 60 + index.second) / 86400, dtype=np.float64)
    phase = {
        "day": day,
        "week": (np.asarray(index.dayofweek) + day) / 7,
        "year": (np.asarray(index.dayofyear) - 1 + day) / np.where(index.is_leap_year, 366, 365),
    }
    angles = [2 * np.pi * n * phase[cycle] for cycle, most in cycles for n in range(1, most + 1)]
    return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)

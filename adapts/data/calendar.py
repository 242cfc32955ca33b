r"""Calendar covariates: sines and cosines of the time of day, week and year."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .frequency import step_days

#: The cycles of the calendar: name, number of harmonics, and the length in days below which steps have the cycle.
CYCLES = (("day", 2, 0.6), ("week", 3, 6.9), ("year", 2, 190.0))


def cycles_of(frequency: str | None) -> list[tuple[str, int]]:
    r"""Return the cycles longer than the steps of a frequency, with their numbers of harmonics."""
    assert frequency is not None
    cycles = [(cycle, most) for cycle, most, longest in CYCLES if step_days(frequency) < longest]
    if not cycles:
        raise ValueError(f"calendar=True has no cycle that is longer than steps of {frequency!r}: leave it out")
    return cycles


def calendar_values(index: pd.Index[Any], cycles: list[tuple[str, int]]) -> np.ndarray:
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

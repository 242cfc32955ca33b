r"""Point forecasts and quantiles of the naive methods that fev's board compares with: normal errors, in closed form.

| Forecasting: Principles and Practice (Hyndman and Athanasopoulos, 2021), 5.2 and 5.5
| https://otexts.com/fpp3/prediction-intervals.html
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

LONGEST = 1000  # rows of the context, as many as fev's own wrapper of these methods uses


def filled(values: np.ndarray) -> np.ndarray:
    r"""The last rows of a series (T,), each gap with the value before it; zero before the first value."""
    seen = ~np.isnan(values)
    last = np.maximum.accumulate(np.where(seen, np.arange(len(values)), -1))
    return np.where(last >= 0, np.where(seen, values, 0.0)[last], 0.0)[-LONGEST:]


def naive(values: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The last value, and deviations that grow with the root of the lead."""
    return seasonal_naive(values, horizon, 1)


def seasonal_naive(values: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The last season, and deviations that grow with the root of the number of seasons ahead.

    Arguments:
        values: The rows, with shape (T,), without gaps; the last value is repeated if they hold no more than a season.
        horizon: The number of steps.
        season: The number of rows in a season.

    Returns:
        The points and the standard deviations, each with shape (H,).
    """
    season = season if season < len(values) else 1
    steps = np.arange(horizon)
    deviation = np.sqrt(np.mean(np.square(values[season:] - values[:-season]))) if len(values) > 1 else 0.0
    return values[len(values) - season + steps % season], deviation * np.sqrt(steps // season + 1.0)


def drift(values: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The line through the first and the last value, with the deviations of its steps and of its slope."""
    steps, rows = np.arange(1.0, horizon + 1), len(values)
    if rows < 3:
        return naive(values, horizon, season)
    errors = np.diff(values) - (slope := (values[-1] - values[0]) / (rows - 1))
    deviation = np.sqrt(np.square(errors).sum() / (rows - 2))  # one parameter, and no error of the first row
    return values[-1] + slope * steps, deviation * np.sqrt(steps * (1 + steps / (rows - 1)))


METHODS = {"naive": naive, "seasonal_naive": seasonal_naive, "drift": drift}


def quantiles(point: np.ndarray, deviation: np.ndarray, levels: list[float]) -> np.ndarray:
    r"""Quantiles of normal distributions, with shape (H, Q)."""
    return point[:, None] + deviation[:, None] * ndtri(np.asarray(levels, dtype=float))

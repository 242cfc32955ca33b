r"""Conformal methods of the package conformalforecast around deciles of a frozen model.

    pip install --no-deps --target FOLDER conformalforecast==0.1.0 quantile-forest==1.4.2    # and FOLDER on PYTHONPATH

Each method gets the frozen model's forecasts of calibration windows and their outcomes, and returns the central
intervals of 20, 40, 60 and 80 %. Their ends are taken as deciles, and the frozen model's median as the fifth: conformal
methods leave it as it is. Where the ends of an interval have crossed, it is empty, and both are the median. An
interval that is the whole line (ACI's, after many misses) ends 5 standard deviations beyond the range of the
calibration outcomes, AgACI's own rule. Deciles are sorted, as intervals of different levels may cross.

Online methods learn from each test window once its last step is observed, before the next window that begins later;
offline methods ("split", "cqr") do not. Each channel has a method of its own, which learns from the windows whose
outcomes are all observed in this channel: the package counts a missing outcome as covered (ACI), or returns NaN from
then on (AgACI).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVELS = (0.8, 0.6, 0.4, 0.2)  # from the outermost pair of deciles to the innermost
METHODS = ("split", "cqr", "aci", "agaci", "spci")
ONLINE = ("aci", "agaci", "spci")
#: The residuals that SPCI regresses on, and the most forests, one for each channel and lead, that are fitted.
LAGS, MOST_FORESTS = 20, 300
#: The end of an interval beyond which it is the whole line: the package has a finite number for infinity.
ENDLESS = 1e100


@dataclass(frozen=True)
class Forecasts:
    r"""Forecasts of the frozen model, with their outcomes.

    Arguments:
        deciles: The deciles, with shape (n, H, D, 9).
        future: The observed values, with shape (n, H, D). NaN is missing.
        origin: The row of each window's first target, in ascending order, with shape (n,).
    """

    deciles: np.ndarray
    future: np.ndarray
    origin: np.ndarray

    @property
    def median(self) -> np.ndarray:
        return self.deciles[..., 4]

    def channel(self, number: int) -> "Forecasts":
        r"""The forecasts of one channel."""
        one = slice(number, number + 1)
        return Forecasts(self.deciles[:, :, one], self.future[:, :, one], self.origin)


def of_package(x: np.ndarray) -> np.ndarray:
    r"""An array (n, H, D, ...) as the package orders it: (D, n, H, ...)."""
    return np.moveaxis(x, 2, 0)


def points(forecasts: Forecasts, level: float) -> np.ndarray:
    r"""The medians of windows, with shape (D, n, H)."""
    return of_package(forecasts.median)


def ends(forecasts: Forecasts, level: float) -> np.ndarray:
    r"""The central interval of windows as the frozen model states it, with shape (D, n, H, 2)."""
    outer = LEVELS.index(level)
    return of_package(forecasts.deciles[..., [outer, 8 - outer]])


def method(name: str, level: float, seed: int = 0) -> tuple[Any, Callable[[Forecasts, float], np.ndarray]]:
    r"""A method of the package for central intervals, and what it reads of forecasts.

    Raises:
        ValueError: If the method is unknown.
    """
    import conformalforecast as package

    alpha = 1 - level
    if name == "split":
        tails = {"symmetric": False, "alpha_lo": alpha / 2, "alpha_hi": 1 - alpha / 2}
        return package.SplitConformal(alpha=alpha, **tails), points
    if name == "cqr":
        return package.ConformalizedQuantileRegression(alpha=alpha), ends
    if name == "aci":
        return package.AdaptiveConformalInference(alpha=alpha), points
    if name == "agaci":
        return package.AggregatedAdaptiveConformalInference(alpha=alpha), points
    if name == "spci":
        # Forests are not grown again: only the residuals that they are asked about go on.
        forests = {"window_size": LAGS, "refit_every": 10**9, "seed": seed}
        return package.SequentialPredictiveConformalInference(alpha=alpha, **forests), points
    raise ValueError(f"expected a conformal method among {', '.join(METHODS)}, got {name!r}")


def feedback(origins: np.ndarray, horizon: int) -> list[list[int]]:
    r"""For each window those before it whose last step is observed by then, each of them named once.

    Arguments:
        origins: The row of each window's first target, in ascending order.
        horizon: The number of steps of a window.
    """
    known, lists = 0, []
    for origin in origins:
        new = []
        while known < len(origins) and origins[known] + horizon <= origin:
            new.append(known)
            known += 1
        lists.append(new)
    return lists


def intervals(name: str, past: Forecasts, test: Forecasts, fitted: list[tuple[Any, Any]]) -> np.ndarray:
    r"""The intervals of test windows at each level, with shape (4, n, H, D, 2).

    Arguments:
        name: The method.
        past: The calibration windows.
        test: The test windows.
        fitted: Of each level the fitted method, and what it reads.
    """
    forecasts = [read(test, level) for (_, read), level in zip(fitted, LEVELS, strict=True)]
    if name not in ONLINE:
        each = [one.interval(x) for (one, _), x in zip(fitted, forecasts, strict=True)]
        return np.stack([np.moveaxis(x, 0, 2) for x in each])
    truth, found = of_package(test.future), np.empty((len(LEVELS), *test.future.shape, 2))
    for number, new in enumerate(feedback(test.origin, test.future.shape[1])):
        for place, ((one, _), x) in enumerate(zip(fitted, forecasts, strict=True)):
            for seen in new:
                if not np.isnan(truth[:, seen]).any():
                    one.update(x[:, [seen]], truth[:, [seen]])
            found[place, number] = np.moveaxis(one.interval(x[:, [number]])[:, 0], 0, 1)
    return found


def fit(name: str, past: Forecasts) -> list[tuple[Any, Any]]:
    r"""Of each level the method fitted on calibration windows, and what it reads. All levels share SPCI's forests."""
    found: list[tuple[Any, Any]] = []
    for level in LEVELS:
        unfitted, read = method(name, level)
        if name == "spci" and found:
            one = found[0][0].model_copy()
            one.method_ = unfitted
        else:
            one = unfitted.fit(read(past, level), of_package(past.future))
        found.append((one, read))
    return found


def bounded(pairs: np.ndarray, past: Forecasts, median: np.ndarray) -> np.ndarray:
    r"""Intervals with finite ends in order.

    Arguments:
        pairs: The intervals, with shape (4, n, H, D, 2).
        past: The calibration windows, whose outcomes bound the ends, channel by channel.
        median: The frozen model's medians, with shape (n, H, D).
    """
    y = past.future
    slack = 5 * np.nanstd(y, axis=(0, 1))[:, None]  # (D, 1)
    low, high = np.nanmin(y, axis=(0, 1))[:, None] - slack, np.nanmax(y, axis=(0, 1))[:, None] + slack
    empty = pairs[..., :1] > pairs[..., 1:]
    ends = np.where(np.abs(pairs) > ENDLESS, np.clip(pairs, low, high), pairs)
    return np.where(empty, median[..., None], ends)


def calibrated(
    name: str, past: Forecasts, test: Forecasts, support: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    r"""The deciles of test windows by a conformal method, with shape (n, H, D, 9).

    Arguments:
        name: The method, one of `METHODS`.
        past: The calibration windows, all observed before the first test window.
        test: The test windows.
        support: The lowest and highest possible value of each channel, which cut the deciles.
    """
    parts = [of_channel(name, past.channel(number), test.channel(number)) for number in range(test.future.shape[2])]
    deciles = np.concatenate(parts, axis=2)
    if support is not None:
        deciles = np.clip(deciles, support[0][:, None], support[1][:, None])
    assert not np.isnan(deciles).any()
    return np.sort(deciles, axis=-1)


def of_channel(name: str, past: Forecasts, test: Forecasts) -> np.ndarray:
    r"""The deciles of one channel, with shape (n, H, 1, 9)."""
    pairs = bounded(intervals(name, past, test, fit(name, past)), past, test.median)
    lower, upper = np.moveaxis(pairs[..., 0], 0, -1), np.moveaxis(pairs[::-1, ..., 1], 0, -1)
    return np.concatenate([lower, test.median[..., None], upper], axis=-1)

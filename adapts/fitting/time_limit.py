r"""A limit on the time that a fit takes, and what it leaves out to keep it."""

from __future__ import annotations

__all__ = ["LEAST_WINDOWS", "TimeLimit"]

import copy
import math
import time
from collections.abc import Mapping
from statistics import median

import torch

from .. import checks
from ..foundation import FoundationModel

#: The fraction of the time left that zero-shot forecasts of all windows may take: of a family that is trained by
#: gradient, and of others.
FORECASTS = {True: 0.3, False: 0.6}
#: The fraction of the limit after which no training begins or goes on: gate and calibration need the rest.
TRAINING = 0.6
#: The minimum number of train windows to which a limit reduces a fit; half as many in each other split.
LEAST_WINDOWS = 20
#: The number of series in a timed forecast, and of timed forecasts, whose median counts.
SERIES, REPEATS = 32, 5
#: The fraction of the limit after which no further forecast is timed.
MEASURED = 0.02


class TimeLimit:
    r"""Time that a fit may take, from now on.

    Arguments:
        seconds: The limit in seconds; none if None.

    Raises:
        ValueError: If it is not a positive number.

    Example:
        >>> TimeLimit(60).spent(0.5), TimeLimit(None).left
        (False, inf)
    """

    def __init__(self, seconds: float | None = None) -> None:
        checks.time_limit(seconds)
        self.seconds = math.inf if seconds is None else checks.real(seconds)
        self.stated = self.seconds  # by the user, for all fits that share a limit
        self.end = time.monotonic() + self.seconds
        self.training = TRAINING
        self.per_series = 0.0  # the seconds that the frozen model takes for a series, once they are measured

    @property
    def limited(self) -> bool:
        r"""Whether there is a limit."""
        return math.isfinite(self.seconds)

    @property
    def left(self) -> float:
        r"""The seconds that are left, negative after the end; infinite without a limit."""
        return self.end - time.monotonic()

    @classmethod
    def of(cls, seconds: float | TimeLimit | None) -> TimeLimit:
        r"""Return a time limit as it is, or that of a number of seconds from now on.

        Arguments:
            seconds: The limit.
        """
        return seconds if isinstance(seconds, TimeLimit) else cls(seconds)

    def part(self, number: int) -> TimeLimit:
        r"""Return the limit of the next of several fits, from now on: an equal part of the time left.

        Arguments:
            number: The number of fits that are not made yet.
        """
        part = TimeLimit(max(self.left, 1e-9) / number if self.limited else None)
        part.stated = self.stated
        return part

    def allows(self, seconds: float) -> bool:
        r"""Return whether work that takes so many seconds ends in time.

        Arguments:
            seconds: The expected time.
        """
        return seconds < self.left

    def spent(self, fraction: float) -> bool:
        r"""Return whether a fraction of the limit is spent.

        Arguments:
            fraction: The fraction, within (0, 1].
        """
        return self.limited and self.left <= (1 - fraction) * self.seconds

    @property
    def training_ended(self) -> bool:
        r"""Whether no training may begin or go on."""
        return self.spent(self.training)

    def of_first_trial(self) -> TimeLimit:
        r"""Return the limit of the first of two trials, whose training ends after half of the time for training."""
        limit = copy.copy(self)
        limit.training = self.training / 2
        return limit

    def allows_series(self, number: float, fraction: float) -> bool:
        r"""Return whether zero-shot forecasts of so many series take at most a fraction of the time left.

        Arguments:
            number: The number of series.
            fraction: The fraction, within (0, 1].
        """
        return not self.limited or number * self.per_series <= fraction * self.left

    def most_windows(
        self, model: FoundationModel, counts: Mapping[str, int], channels: int, given: int, steps: tuple[int, int],
        *, trained: bool,
    ) -> int:  # fmt: skip
        r"""Return the maximum number of train windows whose forecasts, with those of the other splits, end in time.

        This measures how long the frozen model takes for a series.

        Arguments:
            model: The frozen model.
            counts: The number of windows of each split without the limit.
            channels: The number of channels that the frozen model forecasts.
            given: The maximum number without the limit.
            steps: The numbers of context and target steps, :math:`L` and :math:`H`.
            trained: Whether the family is trained by gradient, which needs time as well.

        Returns:
            The number: `given` if all windows end in time, otherwise at least `LEAST_WINDOWS`.
        """
        self.per_series = _seconds_per_series(model, *steps, most=MEASURED * self.seconds)
        allowed = FORECASTS[trained] * max(0.0, self.left) / (channels * self.per_series)  # in windows
        if sum(counts.values()) <= allowed:
            return given
        others = sum(count > 0 for name, count in counts.items() if name != "train")
        return min(given, max(LEAST_WINDOWS, int(allowed / (1 + 0.5 * others))))

    def __str__(self) -> str:
        return f"the time limit of {self.stated:g} s"


def _seconds_per_series(model: FoundationModel, context_length: int, prediction_length: int, *, most: float) -> float:
    r"""Measure how long the frozen model takes to forecast a series, in batches, until `most` seconds are spent."""
    series = min(SERIES, model.chunk_rows(context_length, prediction_length))
    context = torch.arange(context_length, dtype=torch.float32).sin().expand(series, -1).contiguous().to(model.device)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= REPEATS and sum(seconds) < most):
        began = time.monotonic()
        with torch.no_grad():
            model(context, prediction_length).cpu()  # not `predict`, which would fill the cache of the fit
        seconds.append(time.monotonic() - began)
    return max(median(seconds[1:]), 1e-9) / series  # the first one is slower

r"""Held-out windows of one series, on which forecasts of any kind are scored alike."""

from __future__ import annotations

__all__ = ["METRICS", "HeldOut", "Jobs", "baseline_forecast", "not_scored"]

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts.data.panel import Panel
from adapts.data.splits import Split
from adapts.data.windows import Windows, split_windows
from adapts.distribution.joint import JointDistribution
from adapts.evaluation.baselines import BASELINES
from adapts.evaluation.rolling import rolling_windows, varying
from adapts.evaluation.tables import joined, slices, summarise, window_scores
from benchmarks.coupled.run import coverage_interval

#: The metrics that are kept, means over channels and horizon steps.
METRICS = ("mse", "mae", "crps", "wql", "coverage_80", "pit_ece", "pit_ece_floor")
SAMPLES = 100

Forecast = Callable[[Windows], JointDistribution]


@dataclass(frozen=True)
class HeldOut:
    r"""Windows whose targets no fit has seen, and the units of their scores.

    Arguments:
        windows: The windows.
        location: The means of the channels over the train rows, with shape (D,).
        scale: Their population standard deviations over these rows, 1 where constant, with shape (D,).
    """

    windows: Windows
    location: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, panel: Panel, train: int, first: int, stride: int, steps: tuple[int, int]) -> HeldOut:
        r"""Windows from a row on, every `stride` rows, in units of the rows before the train border.

        Arguments:
            panel: The rows up to the last target.
            train: The number of train rows.
            first: The row of the first target.
            stride: The number of rows from one origin to the next.
            steps: The numbers of context and target steps.
        """
        rows = panel.items[0].values[:train]
        scale = np.nanstd(rows, axis=0)
        windows = rolling_windows(panel, first, None, stride, *steps)
        return cls(windows, np.nanmean(rows, axis=0), np.where(scale > 0, scale, 1.0))

    def cells(self, forecast: Forecast) -> dict[str, Tensor]:
        r"""The scores of a forecast before any mean is taken, as `adapts.evaluation.tables.window_scores` returns them.

        Arguments:
            forecast: What returns the joint distribution of windows, in the channels' units.
        """
        windows, generator, parts = self.windows, torch.Generator().manual_seed(0), []
        for batch in slices(len(windows)):
            parts.append(window_scores(
                forecast(windows[batch]), windows[batch].future(torch.float64), location=self.location,
                scale=self.scale, varies=varying(windows.panel), num_samples=SAMPLES, generator=generator,
            ))  # fmt: skip
        return joined(parts)

    def scores(self, model: str, forecast: Forecast, against: Tensor | None = None) -> pd.DataFrame:
        r"""The scores of a forecast, and 90 % intervals over windows.

        Arguments:
            model: The name of the model.
            forecast: As for `cells`.
            against: The CRPS of each cell of another forecast, with shape (n, H, D).

        Returns:
            A tidy frame: model, metric, value. The intervals are those of "crps" and "coverage_80" and, with `against`,
            of "crps_difference", the CRPS less that of the other forecast.
        """
        windows, found = self.windows, self.cells(forecast)
        frame = summarise(model, found, windows.time, windows.panel.channels)
        frame = frame.query("channel == 'all' and lead_block == 'all'").drop(columns=["channel", "lead_block"])
        frame = frame[frame["metric"].isin(METRICS)]
        more = {}
        if against is not None:
            found["crps_difference"] = found["crps"] - against
            more["crps_difference"] = float(found["crps_difference"].nanmean((0, 1)).nanmean())
        for metric in ("crps", "coverage_80", *more):
            low, high = coverage_interval(found[metric], windows)
            more |= {f"{metric}_low": low, f"{metric}_high": high}
        rows = [{"model": model, "metric": metric, "value": value} for metric, value in more.items()]
        return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)


def not_scored(model: str, reason: str) -> pd.DataFrame:
    r"""The frame of a model that cannot be fitted: no CRPS, and the reason."""
    return pd.DataFrame([{"model": model, "metric": "crps", "value": np.nan, "note": " ".join(reason.split())[:200]}])


def baseline_forecast(
    name: str, panel: Panel, season: int, steps: tuple[int, int], max_windows: int
) -> Forecast:  # fmt: skip
    r"""Fits a baseline of `adapts.evaluation.baselines` on all rows of a panel.

    Arguments:
        name: Its name there.
        panel: The rows of the fit.
        season: The number of steps of a season.
        steps: The numbers of context and target steps; the seasonal naive looks back two seasons or more.
        max_windows: The largest number of windows, evenly spaced.

    Returns:
        What forecasts windows.
    """
    context, horizon = steps
    past = max(context, 2 * season) if name == "seasonal naive" else context
    split = Split("fit", ((0, panel.lengths[0]),))
    windows = split_windows(panel, split, context_length=past, prediction_length=horizon, max_windows=max_windows)
    fitted = BASELINES[name](season).fit(windows)
    return lambda held: fitted.joint_distribution(replace(held, context_length=past))


@dataclass
class Jobs:
    r"""Jobs one after the other, none begun after some minutes.

    Arguments:
        jobs: The arguments of each job by name.
        minutes: The minutes after which no further job begins.
    """

    jobs: list[dict[str, Any]]
    minutes: float

    def __post_init__(self) -> None:
        self.end = time.monotonic() + 60 * self.minutes

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, job in enumerate(self.jobs):
            if time.monotonic() > self.end:
                print(f"{len(self.jobs) - number} jobs are left for the next call", flush=True)
                return
            yield job

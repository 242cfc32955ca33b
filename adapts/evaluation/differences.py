r"""Whether one model is better than another: differences of scores on the same windows, with intervals."""

from __future__ import annotations

__all__ = ["METRICS", "difference_table"]

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import checks
from ..distribution.blocks import block_bootstrap, resampling_clock
from ..errors import shown
from ..windows import Windows
from .scores import bootstrap_inflation

MOST_RESAMPLES = 1_000_000  # far more than an interval needs
_BLOCKS = 10  # at most so many: long ones, for differences that persist

#: Scores that are means over cells, and those of whole windows: what differences can be taken of.
METRICS = ("mse", "mae", "crps", "wql", "coverage_80", "coverage_80_calm", "coverage_80_volatile", "width_80",
           "interval_score_80", "energy_score", "variogram_channels", "variogram_time", "crps_sum")  # fmt: skip


def difference_table(
    scores: Mapping[str, Mapping[str, Tensor]],
    windows: Windows,
    *,
    against: str,
    metrics: Sequence[str] | None = None,
    level: float = 0.9,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Takes the differences of models' mean scores to those of one model, with intervals by a paired bootstrap.

    Both models were scored on the same cells, so that their difference is taken cell by cell. Blocks of origins that
    span :math:`H` rows, or a tenth of all time if that is more, are drawn around the circle of origins; an origin's
    items, leads and channels stay together, and one draw serves all models and metrics (`block_bootstrap`). Where time
    is too short for four blocks but there are eight items or more, items are drawn instead, each with all of its
    windows; where there are neither, the interval is NaN.

    The interval is the difference plus and minus the bootstrap's standard deviation, scaled up by what the bootstrap
    loses (`bootstrap_inflation`), times Student's point for the number of blocks. On simulated
    autoregressive differences that persist for none or for a few horizons, windows overlapping or not, intervals of
    90 % covered the truth in 87 to 92 % of the cases.

    References:
        | A circular block-resampling procedure for stationary data (Politis and Romano, 1992)
        | Comparing predictive accuracy (Diebold and Mariano, 1995)

    Arguments:
        scores: Of each model the window scores by metric, of shape :math:`(n, H, D)` or :math:`(n,)`.
        windows: The windows scored.
        against: The model that the others are compared to.
        metrics: The metrics, among `METRICS`; all of them if None. Calibration errors are no means over windows, and
            have no difference here.
        level: The probability that an interval covers.
        resamples: The number of resamples.
        seed: The seed of the resampling.

    Returns:
        A tidy frame: model, against, channel, metric, difference, low, high; below zero, the model scores lower.
        Channel "all" is the mean over channels.

    Raises:
        ValueError: If a model or metric is unknown, or the level lies outside (0, 1).
    """
    checks.choice("model of the backtest", against, scores)
    if metrics is not None and (isinstance(metrics, str) or not isinstance(metrics, Sequence)):
        raise ValueError(f"expected metrics to be a sequence of names, such as ['crps'], got {shown(metrics)}")
    for metric in () if metrics is None else metrics:
        checks.choice("metric of differences", metric, METRICS)
    if not 0 < checks.real(level) < 1:
        raise ValueError(f"expected the level of an interval within (0, 1), got {shown(level)}")
    checks.integer("differences expect resamples", resamples, least=2, most=MOST_RESAMPLES)
    checks.seed(seed)
    channels = windows.panel.channels
    clock = resampling_clock(windows.time, windows.prediction_length)
    block_length, stretch = 1, math.nan
    if clock is not None:
        starts = np.unique(clock.time)
        span = int(np.ptp(starts)) + clock.reach
        block_length = max(clock.block_length, span // _BLOCKS)
        origins = max(1, round(len(starts) * block_length / (int(np.ptp(starts)) + 1)))
        stretch = _student(span / block_length - 1, level) * bootstrap_inflation(starts, clock.reach, origins)
    rows = []
    for model in scores:
        if model == against:
            continue
        for metric in METRICS if metrics is None else metrics:
            cells = scores[model][metric] - scores[against][metric]  # (n, H, D) or (n,)
            names = channels if cells.ndim == 3 else ()
            table = cells.flatten(0, 1) if cells.ndim == 3 else cells[:, None]  # (n*H, D): origins stay together
            means = table.nanmean(0)  # (D,)
            spread = torch.zeros(len(means) + 1, dtype=torch.float64)
            if clock is not None:
                at = clock.time.repeat(len(table) // len(cells))
                generator = torch.Generator().manual_seed(seed)  # the same blocks for all
                resampled = block_bootstrap(table, at, block_length, resamples, generator)  # (R, D)
                draws = torch.cat([resampled.nanmean(1, keepdim=True), resampled], 1)  # NaN: nothing seen was drawn
                spread = (draws - draws.nanmean(0)).square().nanmean(0).sqrt()
            values = torch.cat([means.nanmean(0, keepdim=True), means])
            for name, value, width in zip(("all", *names), values.tolist(), (stretch * spread).tolist(), strict=False):
                rows.append((model, against, name, metric, value, value - width, value + width))
    return pd.DataFrame(rows, columns=["model", "against", "channel", "metric", "difference", "low", "high"])


def _student(freedom: float, level: float) -> float:
    r"""The point that Student's distribution exceeds on either side with probability `1 - level`, by its expansion."""
    x = float(torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)))
    first, second = (x**3 + x) / 4, (5 * x**5 + 16 * x**3 + 3 * x) / 96
    third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    return x + first / freedom + second / freedom**2 + third / freedom**3

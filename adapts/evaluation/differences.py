r"""Whether one model is better than another: differences of scores on the same windows, with intervals."""

from __future__ import annotations

__all__ = ["METRICS", "difference_table"]

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from .. import checks
from ..data.windows import Windows
from ..errors import shown
from ..statistics.bootstrap import block_scheme, student

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
) -> pd.DataFrame:
    r"""Takes the differences of models' mean scores to those of one model, with intervals.

    Both models were scored on the same cells, so that their difference is taken cell by cell. The items, leads and
    channels of windows that begin together count as one outcome, and so do those of windows within one horizon.

    The interval is the difference plus and minus its standard deviation times Student's point. Both come from slow
    waves over the windows' time (see `BlockScheme`, which says how often intervals cover), whose number grows with the
    horizons that the windows span: 2 where they span 4, 4 at 12, 10 at 50. With 12 windows or fewer intervals are
    wide, and cover differences that persist for several horizons less often than they say. Where time is shorter
    than four horizons but there are eight items or more, items stand in for time, each with all of its windows; where
    there are neither, the interval is NaN.

    References:
        | Comparing predictive accuracy (Diebold and Mariano, 1995)
        | HAR inference: recommendations for practice (Lazarus, Lewis, Stock and Watson, 2018)

    Arguments:
        scores: Of each model the window scores by metric, of shape :math:`(n, H, D)` or :math:`(n,)`.
        windows: The windows scored.
        against: The model that the others are compared to.
        metrics: The metrics, among `METRICS`; all of them if None. Calibration errors are no means over windows, and
            have no difference here.
        level: The probability that an interval covers.

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
    channels = windows.panel.channels
    clock = block_scheme(windows.time, windows.prediction_length)
    stretch = math.nan if clock is None else student((1 + level) / 2, clock.freedom)
    rows = []
    for model in scores:
        if model == against:
            continue
        for metric in METRICS if metrics is None else metrics:
            cells = scores[model][metric] - scores[against][metric]  # (n, H, D) or (n,)
            names = channels if cells.ndim == 3 else ()
            table = cells if cells.ndim == 3 else cells[:, None, None]  # (n, H, D)
            seen = (~table.isnan()).sum(1)  # (n, D)
            total = table.double().nansum(1)
            means = total.sum(0) / seen.sum(0)  # (D,)
            spread = torch.zeros(len(means) + 1, dtype=torch.float64)
            if clock is not None:
                spread = clock.waves(total, seen, together=True).square().mean(0).sqrt()
            values = torch.cat([means.nanmean(0, keepdim=True), means])
            for name, value, width in zip(("all", *names), values.tolist(), (stretch * spread).tolist(), strict=False):
                rows.append((model, against, name, metric, value, value - width, value + width))
    return pd.DataFrame(rows, columns=["model", "against", "channel", "metric", "difference", "low", "high"])

r"""Differences of models' scores on the same windows, with confidence intervals."""

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
from ..statistics.bootstrap import block_scheme, student_t_quantile
from .tables import CELL_SCORES, JOINT_SCORES, REGIMES, cell_weights

#: The metrics of which differences can be taken: means or ratios of sums over cells, and scores of whole windows.
METRICS = (*CELL_SCORES, *REGIMES, *JOINT_SCORES)


def difference_table(
    scores: Mapping[str, Mapping[str, Tensor]],
    windows: Windows,
    *,
    against: str,
    metrics: Sequence[str] | None = None,
    level: float = 0.9,
) -> pd.DataFrame:
    r"""Return the differences of models' mean scores to those of one model, with confidence intervals.

    Both models are scored on the same cells, so that differences are taken cell by cell. All items, horizon steps and
    channels of windows that begin together, or within one horizon, count as one observation.

    The interval is the difference plus and minus its standard error times a quantile of Student's t-distribution. Both
    follow from low-frequency projections over the windows' time; `BlockScheme` reports the coverage of such intervals.
    The number of projections grows with the horizons that the windows span: 2 where they span 4, 4 at 12, 10 at 50.
    With 12 windows or fewer, intervals are wide; they cover less often than `level` where differences persist for
    several horizons. If the windows span less than four horizons but there are eight items or more, items replace time
    as blocks, each with all of its windows. With neither, the interval is NaN.

    References:
        | Comparing predictive accuracy (Diebold and Mariano, 1995)
        | HAR inference: recommendations for practice (Lazarus, Lewis, Stock and Watson, 2018)

    Arguments:
        scores: For each model the window scores by metric, with shape :math:`(n, H, D)` or :math:`(n,)`.
        windows: The scored windows.
        against: The model that the others are compared to.
        metrics: The metrics, among `METRICS`; all of them if None. Calibration errors are no means over windows, and
            have no differences here.
        level: The nominal coverage of the intervals.

    Returns:
        A tidy frame: model, against, channel, metric, difference, low, high. A negative difference means that the model
        scores lower. Channel "all" is the mean over channels.

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
    scheme = block_scheme(windows.time, windows.prediction_length)
    quantile = math.nan if scheme is None else student_t_quantile((1 + level) / 2, scheme.degrees_of_freedom)
    rows = []
    for model in scores:
        if model == against:
            continue
        for metric in METRICS if metrics is None else metrics:
            cells = scores[model][metric] - scores[against][metric]  # (n, H, D) or (n,)
            names = channels if cells.ndim == 3 else ()
            table = cells if cells.ndim == 3 else cells[:, None, None]  # (n, H, D)
            count = _weights(scores[model], scores[against], metric).sum(1)  # (n, D)
            total = table.double().nansum(1).masked_fill(count.sum(0) == 0, 0.0)  # without weights the ratio is NaN
            means = total.sum(0) / count.sum(0)  # (D,)
            error = torch.zeros(len(means) + 1, dtype=torch.float64)
            if scheme is not None:
                error = scheme.projections(total, count, together=True).square().mean(0).sqrt()
            values = torch.cat([means.nanmean(0, keepdim=True), means])
            half_widths = (quantile * error).tolist()
            for name, value, half_width in zip(("all", *names), values.tolist(), half_widths, strict=False):
                rows.append((model, against, name, metric, value, value - half_width, value + half_width))
    return pd.DataFrame(rows, columns=["model", "against", "channel", "metric", "difference", "low", "high"])


def _weights(scores: Mapping[str, Tensor], others: Mapping[str, Tensor], metric: str) -> Tensor:
    r"""Return the weights of cells or windows that two models both have a score of, with shape (n, H, D)."""
    missing = others[metric].isnan()
    if missing.ndim == 1:
        return (~(missing | scores[metric].isnan())).double()[:, None, None]
    return cell_weights(scores, metric).masked_fill(missing, 0.0)

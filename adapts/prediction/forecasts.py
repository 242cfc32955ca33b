r"""From joint distributions to the forecasts of a panel's items."""

from __future__ import annotations

__all__ = ["made_forecasts"]

from collections.abc import Sequence

import pandas as pd

from ..data.panel import Panel
from ..distribution.joint import JointDistribution
from ..fitting.fitted import Fitted
from ..forecast.forecast import Forecast


def made_forecasts(
    fitted: Fitted,
    panel: Panel,
    distributions: Sequence[JointDistribution],
    num_samples: int,
    quantile_levels: Sequence[float],
    seed: int,
) -> list[Forecast]:
    r"""Return the forecast of each item, given its distribution.

    Arguments:
        fitted: The fit.
        panel: The panel that ends before the forecast steps.
        distributions: The joint distribution of each item's :math:`H` steps.
        num_samples: The number of joint samples per forecast.
        quantile_levels: The quantile levels in its table.
        seed: The seed of the samples.

    Returns:
        The forecasts, in the panel's order, with the last four horizons of history.
    """
    panel, horizon, forecasts = panel.select(panel.targets), fitted.copula.prediction_length, []
    for item, distribution in zip(panel.items, distributions, strict=True):
        tail = slice(max(0, len(item) - 4 * horizon), None)
        forecasts.append(
            Forecast(
                item_id=item.item_id,
                index=panel.future_index(item, horizon),
                channels=panel.channels,
                frequency=panel.frequency,
                joint_distribution=distribution,
                num_samples=num_samples,
                seed=seed,
                quantile_levels=tuple(quantile_levels),
                history=pd.DataFrame(item.values[tail].copy(), index=item.index[tail], columns=list(panel.channels)),
                bands=fitted.joint_bands,
                notices=fitted.notices,
            )
        )
    return forecasts

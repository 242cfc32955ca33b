r"""Statistical models of statsforecast, fitted anew to each context."""

from __future__ import annotations

__all__ = ["StatsForecast", "from_directory", "from_live", "from_name"]

import copy
import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._logging import without_warnings
from ..errors import reading
from .base import FoundationModel
from .cures import carried_forward

#: The class of each model that has a name here.
NAMED = {"auto-ets": "AutoETS", "theta": "Theta"}
#: The central intervals whose ends are the deciles, and the keys of the deciles in order.
INTERVALS = (20, 40, 60, 80)
DECILES = ("lo-80", "lo-60", "lo-40", "lo-20", "mean", "hi-20", "hi-40", "hi-60", "hi-80")
#: The number of steps that the models read at most, need at least, and forecast at once.
CONTEXT_LENGTH, LEAST, PREDICTION_LENGTH = 512, 8, 256


class StatsForecast(FoundationModel):
    r"""A statistical model of statsforecast (Nixtla), such as Theta or AutoETS, fitted to each context by itself.

    Nothing is pretrained, so there are no weights. Without gradients: no encoder can be trained before it. The deciles
    are the ends of the intervals of 20, 40, 60 and 80 %; the median is the point forecast. Missing steps are filled
    with the last observation; leading ones are cut off. A context of fewer than 8 steps is preceded by its first value.
    At most the last 512 steps are read. Every context is a fit, which takes milliseconds for Theta and up to some
    tenths of a second for AutoETS with a season.

    The season is that of the data, which `Adapter.fit` tells it, unless the model was made with one.

    Code Apache-2.0.

    References:
        | The theta model: a decomposition approach to forecasting (Assimakopoulos and Nikolopoulos, 2000)
        | https://doi.org/10.1016/S0169-2070(00)00066-2
        | A state space framework for automatic forecasting using exponential smoothing methods (Hyndman et al., 2002)
        | https://doi.org/10.1016/S0169-2070(01)00110-8

    Arguments:
        model: A model of `statsforecast.models` with intervals. It is copied.
        name: The model's name.
        version: The version of statsforecast.

    Raises:
        ValueError: If the model gives no intervals.
    """

    reads_missing: ClassVar[bool] = False

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        super().__init__(
            name=name, version=version, quantile_levels=[step / 10 for step in range(1, 10)],
            context_length=CONTEXT_LENGTH, prediction_length=PREDICTION_LENGTH, differentiable=False,
        )  # fmt: skip
        self.model = copy.deepcopy(model)
        with reading(f"{name} gives no intervals", "use a model that does, such as statsforecast.models.AutoETS"):
            self._deciles(np.arange(2.0 * LEAST))
        self.freeze()

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        if getattr(self.model, "season_length", None) != 1 or season_length <= 1:
            return self
        copied = copy.copy(self)
        copied.model = copy.deepcopy(self.model)
        copied.model.season_length = season_length
        return copied

    def _forecast(self, context: Tensor) -> Tensor:
        observed = ~context.isnan()
        first = torch.where(observed.any(1), observed.int().argmax(1), context.shape[1] - 1).tolist()
        series = carried_forward(context).double().cpu().numpy()
        deciles = []
        for row, start in zip(series, first, strict=True):
            values = row[start:]
            padding = max(0, LEAST - len(values))
            with reading(f"{self.name} cannot be fitted to a series", "use another model for it"):
                deciles.append(self._deciles(np.pad(values, (padding, 0), mode="edge")))
        return torch.from_numpy(np.stack(deciles)).to(context)  # (N, Q, P)

    def _deciles(self, series: NDArray[np.float64]) -> NDArray[np.float64]:
        with without_warnings():  # of short and constant series
            forecast = self.model.forecast(y=series, h=self.prediction_length, level=list(INTERVALS))
        return np.stack([np.asarray(forecast[key], np.float64) for key in DECILES])


def from_name(name: str) -> StatsForecast:
    r"""Return a model by its name, without a season.

    Arguments:
        name: "theta" or "auto-ets".

    Returns:
        The model.
    """
    import statsforecast.models

    model = getattr(statsforecast.models, NAMED[name])(season_length=1)
    return StatsForecast(model, name=name, version=statsforecast.__version__)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> NoReturn:
    r"""Refuse a directory: these models have no checkpoints.

    Arguments:
        path: The directory.
        name: Ignored.
        version: Ignored.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"statistical models have no checkpoints, got '{path}': name one of {', '.join(NAMED)}")


def from_live(model: object) -> StatsForecast | None:
    r"""Wrap a copy of a model of statsforecast.

    Arguments:
        model: A model of `statsforecast.models` with intervals.

    Returns:
        The model; None if it is not one of statsforecast's.

    Raises:
        ValueError: If the model gives no intervals.
    """
    package: Any = sys.modules.get("statsforecast")
    if package is None or not type(model).__module__.startswith("statsforecast.") or not hasattr(model, "forecast"):
        return None
    return StatsForecast(model, name=type(model).__name__, version=package.__version__)

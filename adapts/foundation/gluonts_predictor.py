r"""Predictors of gluonts as frozen models."""

from __future__ import annotations

__all__ = ["GluontsPredictor", "from_directory", "from_live"]

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn

from .._logging import quiet
from .._random import seeded
from ..errors import reading
from .base import FoundationModel
from .cures import carried_forward

#: The number of steps that a predictor is given at most, and the frequency of series of unknown frequency.
CONTEXT_LENGTH, FREQUENCY = 1024, "D"
DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
REMEDY = "pass a predictor of one series without features or lead time"


class GluontsPredictor(FoundationModel):
    r"""A predictor of gluonts for one series: a trained network, or a statistical method.

    Without gradients: no encoder can be trained before it. Its samples or quantiles become deciles. Samples are drawn
    with the same seed for every series, each series by itself, so that a forecast depends on its context alone. Missing
    steps are filled with the last observation; leading ones are cut off. At most the last 1024 steps are passed on.

    A predictor that reads calendar features reads those of a series that starts on 1 January 2000: dates are unknown
    here. The frequency is that of the data, which `Adapter.fit` tells it.

    References:
        | GluonTS: Probabilistic and Neural Time Series Modeling in Python (Alexandrov et al., 2020)
        | https://www.jmlr.org/papers/v21/19-820.html

    Arguments:
        predictor: The predictor. It is copied.
        name: The model's name.
        version: The model's version.

    Raises:
        ValueError: If the predictor has a lead time, or cannot forecast one series without features.
    """

    kind: ClassVar[Literal["quantiles", "samples", "point"]] = "samples"
    reads_missing: ClassVar[bool] = False

    def __init__(self, predictor: Any, *, name: str, version: str = "unknown") -> None:
        if predictor.lead_time:
            raise ValueError(f"{name} has lead_time={predictor.lead_time}, expected 0: {REMEDY}")
        super().__init__(
            name=name, version=version, quantile_levels=DECILES, context_length=CONTEXT_LENGTH,
            prediction_length=predictor.prediction_length, differentiable=False,
        )  # fmt: skip
        self.predictor = copy.deepcopy(predictor)
        network = getattr(self.predictor, "prediction_net", None)
        self.network = network if isinstance(network, nn.Module) else None
        self.frequency = FREQUENCY
        self.freeze()
        with reading(f"{name} cannot forecast a series", REMEDY):
            probe = self._forecast(torch.arange(2.0 * self.prediction_length).unsqueeze(0))
        if probe.shape != (1, len(DECILES), self.prediction_length):
            raise ValueError(f"{name} forecasts several channels at once, expected one: {REMEDY}")

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        copied = copy.copy(self)
        copied.frequency = frequency or FREQUENCY
        return copied

    def _forecast(self, context: Tensor) -> Tensor:
        import pandas as pd

        observed = ~context.isnan()
        first = torch.where(observed.any(1), observed.int().argmax(1), context.shape[1] - 1).tolist()
        series = carried_forward(context).cpu().numpy()
        if self.network is not None:
            self.predictor.to(self.device)
        begin, deciles = pd.Period("2000-01-01", self.frequency), []
        for row, start in zip(series, first, strict=True):  # one by one: draws must not depend on the batch
            with _same_draws(), quiet():
                (forecast,) = self.predictor.predict([{"start": begin, "target": row[start:], "item_id": "0"}])
            deciles.append(np.stack([np.asarray(forecast.quantile(level), np.float64) for level in DECILES]))
        return torch.from_numpy(np.stack(deciles)).to(context)  # (N, Q, P)


@contextmanager
def _same_draws() -> Iterator[None]:
    r"""Seed the global generators of PyTorch and NumPy within the context, and restore them after it."""
    with seeded(0):
        state = np.random.get_state()
        np.random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(state)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> NoReturn:
    r"""Refuse a directory: a saved predictor names classes to import, which no checkpoint may.

    Arguments:
        path: The directory.
        name: Ignored.
        version: Ignored.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"'{path}' is no checkpoint: load it with gluonts' Predictor.deserialize, and pass the predictor")


def from_live(model: object) -> GluontsPredictor | None:
    r"""Wrap a copy of a predictor of gluonts.

    Arguments:
        model: A `gluonts.model.predictor.Predictor` of one series.

    Returns:
        The frozen model; None if `model` is no predictor of gluonts.

    Raises:
        ValueError: If the predictor has a lead time, or cannot forecast one series without features.
    """
    package: Any = sys.modules.get("gluonts.model.predictor")
    if package is None or not isinstance(model, package.Predictor):
        return None
    return GluontsPredictor(model, name=type(model).__name__)

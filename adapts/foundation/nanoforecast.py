r"""NanoForecast: a small model of fixed context that is told the frequency, differentiable with respect to it."""

from __future__ import annotations

__all__ = ["NanoForecast", "from_directory", "from_live"]

import copy
import re
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from .base import FoundationModel
from .cures import by_leading_gap, carried_forward
from .folders import identity
from .packages import built, is_live, schema_of

#: The levels of its head, which its config does not change.
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
#: The package's index of a frequency by pandas alias; it has none for coarser ones.
FREQUENCIES = {"min": 0, "T": 0, "h": 1, "H": 1, "D": 2, "B": 2, "W": 3, "M": 4, "ME": 4, "MS": 4}
#: The package's index if no frequency is given: that of hours.
DEFAULT = 1


class NanoForecast(FoundationModel):
    r"""Frozen NanoForecast (eulogik, 2026): mixing blocks on patches of a context of fixed length, five quantiles.

    Differentiable, as it comes; any horizon. The model reads no missing steps, so they are carried forward. It takes a
    context of one length only, so the first value is repeated before shorter ones. Scale carries over only
    approximately: interquartile ranges below 0.1 count as 0.1, so series should vary by about 1. It reads the frequency
    of the series, which `with_frequency` sets; without it, or for another one, hours, as the package does.

    Code: Apache-2.0. Weights (`eulogik/nanoforecast-500k`): the package names no separate licence.

    References:
        | https://huggingface.co/eulogik/nanoforecast-500k

    Arguments:
        model: A `NanoForecast` of the package nanoforecast. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
    """

    reads_missing = False

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        config = model.config
        super().__init__(
            name=name, version=version, quantile_levels=LEVELS, context_length=config.context_length,
            prediction_length=config.prediction_length,
            step_bytes=-(-4 * 16 * config.d_model * config.expansion_factor // config.patch_size),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self._frequency = DEFAULT
        self.freeze()

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        found = re.fullmatch(r"\d*([A-Za-z]+)(-\w+)?", frequency or "")
        index = FREQUENCIES.get(found[1], DEFAULT) if found else DEFAULT
        if index == self._frequency:
            return self
        copied = copy.copy(self)
        copied._frequency = index
        return copied

    @by_leading_gap
    def _forecast(self, context: Tensor) -> Tensor:
        config, series = self.model.config, len(context)
        padding = config.context_length - context.shape[1]
        # Unlike the values, NaN would not be repeated: the first steps are filled in before.
        values = nn.functional.pad(carried_forward(context).unsqueeze(1), (padding, 0), mode="replicate")  # (N, 1, L)
        index = torch.full((series,), self._frequency, dtype=torch.long, device=context.device)
        covariates = None
        if config.covariate_dim > 0:
            covariates = values.new_zeros(series, config.covariate_dim, config.context_length)
        quantiles: Tensor = self.model(values, index, covariates)["quantiles"]
        return quantiles.squeeze(1)  # (N, Q, P)


def _numbers(config: Any) -> float:
    patches = config.context_length / config.patch_size
    return float(patches * config.d_model * (6 * config.prediction_length + config.context_length))


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> NanoForecast:
    r"""Load a NanoForecast checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete NanoForecast checkpoint.
    """
    from nanoforecast.config import NanoForecastConfig
    from nanoforecast.model import NanoForecast as Model

    model = built(path, schema_of(NanoForecastConfig), lambda x: Model(NanoForecastConfig(**x)), _numbers)
    return NanoForecast(model, **identity(path, name, version))


def from_live(model: object) -> NanoForecast | None:
    r"""Wrap a copy of a NanoForecast model in memory.

    Arguments:
        model: A `NanoForecast` of the package nanoforecast.

    Returns:
        The frozen model; None if `model` is not one.
    """
    return NanoForecast(model, name="nanoforecast") if is_live(model, "nanoforecast.model", "NanoForecast") else None

r"""t0: a patch decoder with attention over time and groups, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["T0", "from_directory", "from_live"]

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._random import seeded
from .base import FoundationModel
from .cures import guarded_sqrt, zeros_where_missing
from .folders import identity
from .packages import built, is_live, schema_of


class T0(FoundationModel):
    r"""Frozen t0 (The Forecasting Company, 2026): a decoder on patches, with attention over time and over groups.

    Differentiable; any horizon; the model itself handles missing steps. Scale carries over only approximately: the
    model adds a constant to the variance, or bounds the deviation by one, so series should vary by about 1. Steps
    before the first observation are passed as padding. Code: Apache-2.0. Weights
    (`theforecastingcompany/t0-alpha`, `-beta`, `-gamma`): the package tags them Apache-2.0.

    Cured without a change of the numbers: the running deviation takes the root of zero at the first step, which makes
    gradients of every row NaN. The scaler of this instance computes the same statistics with a guarded root.

    References:
        | https://github.com/theforecastingcompany/tfc-t0

    Arguments:
        model: A `T0Forecaster` of the package t0. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
        context_length: The maximum number of context steps; the config of a checkpoint does not say one.
        prediction_length: The number of steps that one pass forecasts.

    Raises:
        ValueError: If one pass of the model forecasts fewer steps.
    """

    joint_mode = True

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        version: str = "unknown",
        context_length: int = 2048,
        prediction_length: int = 128,
    ) -> None:
        config = model.config
        if prediction_length > model.max_horizon:
            raise ValueError(
                f"one pass of {name} forecasts at most {model.max_horizon} steps, got "
                f"prediction_length={prediction_length}: pass a smaller one"
            )
        super().__init__(
            name=name, version=version, quantile_levels=config.quantile_levels, context_length=context_length,
            prediction_length=prediction_length,
            step_bytes=-(-4 * (8 * config.embed_dim + 3 * config.mlp_hidden_dim) // model.patch_size),
        )  # fmt: skip
        with seeded(0):
            self.model = type(model).from_config(config).float()  # copy.deepcopy fails on the function replaced below
        self.model.load_state_dict(model.state_dict())
        rotary = self.model.transformer.rotary_emb
        for key, value in vars(rotary).items():
            if isinstance(value, staticmethod):  # cannot be copied; an attribute of an instance needs no wrapper
                setattr(rotary, key, value.__func__)
        self.model.scaler.scale_input = partial(_scaled, config=config)
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        return self._forecast_jointly(context.unsqueeze(1)).squeeze(1)

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        from t0.data import MaskType, TimeSeries
        from t0.rollout import prepare_rollout_buffer

        values, observed = zeros_where_missing(context)
        gap = torch.where(observed.cumsum(-1) == 0, MaskType.PAD, MaskType.MISSING)
        mask = torch.where(observed, MaskType.VALID, gap).to(torch.int8)
        series = TimeSeries.from_array(values, mask=mask)
        patch, length = self.model.patch_size, context.shape[-1]
        window = prepare_rollout_buffer(series, self.prediction_length, length, patch)
        steps = -(-self.prediction_length // patch) * patch
        quantiles = self.model._predict_step(window, steps)[:, : self.prediction_length]  # (B * D, P, Q)
        grouped: Tensor = quantiles.mT.unflatten(0, context.shape[:2])  # (B, D, Q, P)
        return grouped


def _scaled(series: Any, *, config: Any) -> tuple[Any, Any]:
    r"""Standardise target rows by their running mean and deviation, as the package's own scaler does.

    Arguments:
        series: A `TimeSeries` without known future covariates.
        config: The `T0Config`.

    Returns:
        The standardised series, and its `LocScale`.
    """
    from t0.data import MaskType
    from t0.scaler import LocScale

    observed = series.mask == MaskType.VALID
    values = torch.where(observed, series.variates, 0.0)
    count = observed.cumsum(1).clamp(min=1)
    mean = values.cumsum(1) / count
    before = nn.functional.pad(mean[:, :-1], (1, 0))
    squares = ((values - before) * (values - mean) * observed).cumsum(1).clamp(min=0)  # Welford (1962)
    variance = squares / (count - 1).clamp(min=1)
    offset = config.scaler_eps_mode == "variance_offset"
    scale = (variance + config.scaler_eps).sqrt() if offset else guarded_sqrt(variance, config.scaler_eps)
    inside = series.group_ids >= 0  # not padding to whole patches
    mean, scale = torch.where(inside, mean, 0.0), torch.where(inside, scale, 1.0)
    standard = (values - mean) / scale
    if config.scaler_use_arcsinh:
        standard = standard.arcsinh()
    if config.scaler_zero_no_value:
        standard = torch.where(observed, standard, 0.0)
    return dataclasses.replace(series, variates=standard), LocScale(loc=mean, scale=scale)


def _numbers(config: Any) -> float:
    return float(config.num_layers * config.embed_dim * (4 * config.embed_dim + 3 * config.mlp_hidden_dim))


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> T0:
    r"""Load a t0 checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete t0 checkpoint.
    """
    from t0.config import T0Config
    from t0.torch import T0Forecaster

    model = built(path, schema_of(T0Config), lambda x: T0Forecaster.from_config(T0Config.from_dict(x)), _numbers)
    return T0(model, **identity(path, name, version))


def from_live(model: object) -> T0 | None:
    r"""Wrap a copy of a t0 model in memory.

    Arguments:
        model: A `T0Forecaster` of the package t0.

    Returns:
        The frozen model; None if `model` is not one.
    """
    return T0(model, name="t0") if is_live(model, "t0.torch", "T0Forecaster") else None

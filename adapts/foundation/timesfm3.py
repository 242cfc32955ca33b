r"""TimesFM 3: a patch decoder with attention over time and variates, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["TimesFM3", "from_directory", "from_live"]

import copy
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .base import FoundationModel
from .cures import guarded_sqrt, replaced, zeros_where_missing
from .folders import identity
from .packages import built, is_live, schema_of


class TimesFM3(FoundationModel):
    r"""Frozen TimesFM 3 (Google Research, 2026): a patch decoder with attention over time and over variates.

    Differentiable; any horizon; the model itself handles missing steps. Series with a clear linear trend are detrended
    first, so a forecast jumps where that decision changes. The config of the package names 32 variates as the most of
    one group, which it does not enforce. Scale carries over only approximately: deviations below 1e-6 count as 1.

    Code: Apache-2.0. **Weights (`google/timesfm-3.0-pytorch`): non-commercial and not for production**
    (timesfm-non-commercial-license-v1.0).

    Cured: its running deviation takes the root of zero, which makes gradients NaN for rows that begin with missing
    steps, are constant, or are short. Where a gradient is required, the same statistics with a guarded root replace it.

    References:
        | A decoder-only foundation model for time-series forecasting (Das et al., 2024), on the first TimesFM
        | https://arxiv.org/abs/2310.10688

    Arguments:
        model: A `TimesFM3Torch` of the package timesfm3. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
        context_length: The maximum number of context steps; the package takes up to 15 360.
        prediction_length: The number of steps that one pass forecasts; any.
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
        sizes = model.transformer_config.transformer
        super().__init__(
            name=name, version=version, quantile_levels=model.quantiles, context_length=context_length,
            prediction_length=prediction_length,
            step_bytes=-(-4 * (8 * sizes.model_dims + 3 * sizes.hidden_dims) // model.input_patch_len),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        return self._forecast_jointly(context.unsqueeze(1)).squeeze(1)

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        values, observed = zeros_where_missing(context)
        guard = replaced(import_module("timesfm3.torch.util"), update_running_stats=_running_statistics)
        with guard if context.requires_grad else nullcontext():
            quantiles: Tensor = type(self.model).decode.__wrapped__(
                self.model, values, horizon=self.prediction_length, target_mask=~observed
            )
        return quantiles.mT  # (B, D, Q, P)


def _running_statistics(
    count: Tensor, mean: Tensor, deviation: Tensor, values: Tensor, missing: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return count, mean and deviation of earlier values and those of a further patch (Chan et al., 1979)."""
    observed = (~missing).to(values.dtype)
    more = observed.sum(-1)
    values = torch.where(missing, 0.0, values)
    patch_mean = values.sum(-1) / more.clamp(min=1)
    patch_squares = torch.where(missing, 0.0, values - patch_mean.unsqueeze(-1)).square().sum(-1)
    total = count + more
    divisor = total.clamp(min=1)
    both = (count * mean + more * patch_mean) / divisor
    between = count * (mean - both).square() + more * (patch_mean - both).square()
    variance = (count * deviation.square() + patch_squares + between) / divisor
    return total, both, guarded_sqrt(variance)


def _numbers(config: Any) -> float:
    stack = config.transformer_config
    width = stack.transformer.model_dims if stack else 1280  # the package's own without this key
    return float(4 * (stack.num_layers if stack else 20) * width**2 + width * config.output_patch_len)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> TimesFM3:
    r"""Load a TimesFM 3 checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete TimesFM 3 checkpoint.
    """
    import timesfm3

    model = built(path, schema_of(timesfm3.TimesFM3Torch), lambda x: timesfm3.TimesFM3Torch(**x), _numbers)
    return TimesFM3(model, **identity(path, name, version))


def from_live(model: object) -> TimesFM3 | None:
    r"""Wrap a copy of a TimesFM 3 model in memory.

    Arguments:
        model: A `TimesFM3Torch` of the package timesfm3.

    Returns:
        The frozen model; None if `model` is not one.
    """
    return TimesFM3(model, name="timesfm-3") if is_live(model, "timesfm3.torch", "TimesFM3Torch") else None

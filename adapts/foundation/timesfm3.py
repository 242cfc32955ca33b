r"""TimesFM 3: a patch decoder with attention over time and variates, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["TimesFM3", "from_directory", "from_live"]

import copy
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from .._random import seeded
from ..errors import reading
from .base import FoundationModel
from .cures import guarded_sqrt, replaced, zeros_where_missing
from .folders import REMEDY, Checkpoint, Layers, Level, Rate, Size, checked, named, read_config
from .weights import fill


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


class Block(Checkpoint):
    r"""Embedding of patches."""

    hidden_dims: Size
    output_dims: Size
    use_bias: bool
    activation: Literal["relu", "swish", "none"]
    dropout: Rate = 0.0
    identity_skip: bool = False
    prenorm: Literal["rms", "none"] = "none"


class Layer(Checkpoint):
    r"""Layer of the transformer."""

    model_dims: Size
    hidden_dims: Size
    num_heads: Size
    attention_norm: Literal["rms"]
    feedforward_norm: Literal["rms"]
    qk_norm: Literal["rms", "none"]
    use_bias: bool
    use_rope_seq: bool
    use_rope_var: bool
    ff_activation: Literal["relu", "swish", "none"]
    deterministic: bool
    v_norm: Literal["rms", "none"] = "none"
    causal_attention: bool = True
    use_memory_efficient_attention: bool = True
    paired_token_skip_second: bool = False
    max_variates: Size = 32
    use_sdpa: bool = True


class Transformer(Checkpoint):
    r"""Stack of layers."""

    num_layers: Layers
    transformer: Layer


class TimesFM3Config(Checkpoint):
    r"""Config of a TimesFM 3 checkpoint."""

    input_patch_len: Size
    output_patch_len: Size
    residual_block_config: Block
    transformer_config: Transformer
    quantiles: Annotated[list[Level], Field(min_length=1, max_length=1000)]
    use_variate_attention: bool = True
    value_clip: Annotated[float, Field(gt=0, le=1e30)] = 1e20
    use_stitching: bool = True
    use_linear_detrending: bool = True
    linear_detrending_threshold: Annotated[float, Field(ge=0, le=1e6)] = 0.5
    use_iterative_cpm_revin: bool = True
    use_frozen_running_stats: bool = False
    input_transform: Literal["identity"] = "identity"

    def numbers(self) -> int:
        layers, sizes = self.transformer_config.num_layers, self.transformer_config.transformer
        head = self.output_patch_len * len(self.quantiles) * sizes.model_dims
        return layers * sizes.model_dims * (4 * sizes.model_dims + 2 * sizes.hidden_dims) + head


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

    options = checked(TimesFM3Config, read_config(path), path)
    with reading(f"the checkpoint in '{path}' cannot be read", REMEDY), seeded(0):
        model = timesfm3.TimesFM3Torch(**options)
    fill(model, path, exact=True)
    card = named(path)
    return TimesFM3(model, name=name or card[0], version=version or card[1])


def from_live(model: object) -> TimesFM3 | None:
    r"""Wrap a copy of a TimesFM 3 model in memory.

    Arguments:
        model: A `TimesFM3Torch` of the package timesfm3.

    Returns:
        The frozen model; None if `model` is not one.
    """
    package = sys.modules.get("timesfm3.torch")
    is_one = package is not None and isinstance(model, package.TimesFM3Torch)
    return TimesFM3(model, name="timesfm-3") if is_one else None

r"""fracast: a small convolutional model whose package ships its weights."""

from __future__ import annotations

__all__ = ["Fracast", "from_directory", "from_live", "packaged_checkpoint"]

import copy
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from .._random import seeded
from ..errors import reading
from .base import FoundationModel
from .cures import zeros_where_missing
from .folders import REMEDY, WEIGHTS, Checkpoint, Layers, Level, Size, checked, identity, read_config, require_sound

#: The smallest span of a series, as in the package.
LEAST = 1e-5


class Fracast(FoundationModel):
    r"""Frozen fracast (2026): one causal convolution over dilations of 1 to 512, and a head with quantiles.

    Differentiable; any horizon; equivariant to scale and shift of a series; the model itself handles NaN. A series is
    mapped to [0, 1] by its minimum and maximum, as in the package, whose interface in numpy blocks the gradient. Each
    context is padded to the longest, 2048 steps in fracast-0, so a short one costs as much. One pass of it forecasts 48
    steps. Its periods are found by a periodogram, in steps: the gradient is that between the steps.

    fracast-0 has 85,001 parameters; `pip install 'adapts[fracast]'` installs it with its weights. Code and weights
    Apache-2.0. Its README names fev and GIFT-Eval series as training data, hence very likely the common benchmark sets.

    References:
        | fracast 0.1, https://github.com/ztxtech/fracast-0 (no paper)

    Arguments:
        core: The encoder, `FracastModel.core`. It is copied.
        head: The head, `FracastModel.head`. It is copied.
        quantile_levels: The levels that the head forecasts.
        name: The checkpoint's name.
        version: The checkpoint's version.
    """

    def __init__(
        self,
        core: nn.Module,
        head: nn.Module,
        *,
        quantile_levels: Sequence[float],
        name: str,
        version: str = "unknown",
    ) -> None:
        encoder: Any = core
        decoder: Any = head
        super().__init__(
            name=name, version=version, quantile_levels=quantile_levels, context_length=encoder.W,
            prediction_length=decoder.horizon, step_bytes=4 * 16 * encoder.d,
        )  # fmt: skip
        self.model = nn.ModuleDict({"core": copy.deepcopy(core).float(), "head": copy.deepcopy(head).float()})
        self.freeze()

    def chunk_rows(self, length: int, prediction_length: int) -> int:
        return super().chunk_rows(self.context_length, prediction_length)  # shorter contexts are padded

    def _forecast(self, context: Tensor) -> Tensor:
        observed = ~context.isnan()
        low = torch.where(observed, context, torch.inf).amin(1, keepdim=True)
        high = torch.where(observed, context, -torch.inf).amax(1, keepdim=True)
        some = observed.any(1, keepdim=True)
        low, high = torch.where(some, low, 0.0), torch.where(some, high, 1.0)
        span = (high - low).clamp(min=LEAST)
        values = torch.where(observed, (torch.where(observed, context, low) - low) / span, torch.nan)
        values, observed = zeros_where_missing(values, length=self.context_length)
        coverage = observed.unsqueeze(1)
        hidden = self.model["core"](values.unsqueeze(1), coverage, coverage.to(values.dtype))  # (N, L, d)
        head: Any = self.model["head"]
        quantiles = head.forward_horizon(hidden, last_obs=values[:, -1:], ctx=values, ctx_mask=observed).mT  # (N, Q, P)
        forecast: Tensor = low.unsqueeze(1) + span.unsqueeze(1) * quantiles
        return forecast


class Sizes(Checkpoint):
    r"""Sizes of encoder and head within the config."""

    d_model: Size
    W: Size
    quantiles: Annotated[list[Level], Field(min_length=1, max_length=1000)]
    horizon: Size
    future_queries: Size
    future_patch: Size
    level_widths: Annotated[list[Size], Field(min_length=1, max_length=1)]
    n_stages: Annotated[int, Field(ge=1, le=20)] = 10
    dilation_base: Annotated[int, Field(ge=1, le=16)] = 2
    kernel_size: Annotated[int, Field(ge=1, le=1000)] = 3
    ffn_mult: Annotated[float, Field(gt=0, le=100)] = 1.5
    causal: bool = True
    separable_conv: bool = True
    share_stages: bool = True
    scale_cond: Literal["film", "none"] = "film"
    scale_cond_dim: Size = 8
    recency_encoding: bool = True
    periodic_phase: bool = True
    periodic_topk: Annotated[int, Field(ge=1, le=1000)] = 4
    periodic_harmonics: Annotated[int, Field(ge=1, le=100)] = 1
    periodic_alpha: Annotated[float, Field(gt=0, le=1)] = 0.05
    periodic_min_period: Annotated[int, Field(ge=2, le=2**16)] = 2
    head_kind: Literal["gather"] = "gather"
    head_d_ff: Size
    head_layers: Layers = 1
    head_fc_layers: Annotated[int, Field(ge=0, le=16)] = 2
    head_fc_kernel: Annotated[int, Field(ge=1, le=1000)] = 3
    head_output_mode: Literal["direct", "last_obs"] = "direct"
    head_future_conv: bool = False
    head_future_conv_layers: Annotated[int, Field(ge=1, le=16)] = 6
    head_future_conv_seed: Size = 128
    head_phase_bins: Annotated[int, Field(ge=1, le=2**12)] = 16
    head_seasonal_fill_mode: Literal["phase_mean", "last_period"] = "phase_mean"

    @model_validator(mode="after")
    def _agrees(self) -> Sizes:
        if self.level_widths != [self.W]:
            raise ValueError("should have level_widths with the one entry W")
        if self.dilation_base**self.n_stages > 2**20:
            raise ValueError("should have dilations of at most 2**20 steps")
        return self


class Pyramid(Checkpoint):
    r"""Coarser levels within the config: none."""

    ratios: Annotated[list[int], Field(max_length=0)] = []


class Config(Checkpoint):
    r"""Config of a fracast checkpoint."""

    model: Sizes
    pyramid: Pyramid

    def numbers(self) -> int:
        return self.model.d_model * (3 * self.model.head_d_ff + self.model.horizon + 2 * self.model.d_model)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> Fracast:
    r"""Load a fracast checkpoint, `config.json` and safetensors weights; quantised weights beside them are not read.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete fracast checkpoint.
    """
    from fracast._core.model import build_from_cfg
    from safetensors.torch import load_file

    options = checked(Config, read_config(path), path)
    with reading(f"the checkpoint in '{path}' cannot be read", REMEDY), seeded(0):
        core, head = build_from_cfg(options)
        model = nn.ModuleDict({"core": core, "head": head})
        own, weights = model.state_dict(), load_file(path / WEIGHTS)
    fitting = {key: tensor for key, tensor in weights.items() if key in own and tensor.shape == own[key].shape}
    require_sound(model, {"missing_keys": own.keys() - fitting.keys(), "mismatched_keys": []}, path)
    model.load_state_dict(fitting)
    require_sound(model, {"missing_keys": [], "mismatched_keys": []}, path)  # now also that they are finite
    levels = options["model"]["quantiles"]
    return Fracast(core, head, quantile_levels=levels, **identity(path, name, version))


def from_live(model: object) -> Fracast | None:
    r"""Wrap a copy of a fracast in memory.

    Arguments:
        model: A `FracastModel`.

    Returns:
        The frozen model; None if `model` is no fracast.
    """
    if "fracast.inference" not in sys.modules:
        return None
    from fracast.inference import FracastModel

    if not isinstance(model, FracastModel):
        return None
    return Fracast(model.core, model.head, quantile_levels=model.quantiles, name=type(model).__name__)


def packaged_checkpoint() -> Path:
    r"""Return the folder of the weights within the package: fracast-0."""
    return Path(str(files("fracast.weights")))

r"""MOMENT of the Auton Lab: a T5 encoder whose forecasting head is trained on the series at hand."""

from __future__ import annotations

__all__ = ["Moment", "from_directory", "from_live"]

import copy
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from .._logging import quiet
from .._random import seeded
from ..errors import reading
from .base import FoundationModel
from .chronos import GuardedInstanceNorm
from .folders import MOST_HEAD, REMEDY, Checkpoint, Layers, Rate, Size, Small, checked, identity, read_config
from .heads import LEVELS, QuantileHead
from .weights import fill

#: The number of target steps of a pass if the model names none.
PREDICTION_LENGTH = 96
#: The encoder's table of tokens, which no series reads.
UNUSED = "encoder.embed_tokens.weight"


class T5Settings(Checkpoint):
    r"""Sizes of the T5 encoder within the config."""

    d_model: Size
    d_kv: Size = 64
    d_ff: Size = 2048
    num_layers: Layers = 6
    num_decoder_layers: Layers | None = None
    num_heads: Size = 8
    vocab_size: int = Field(default=32128, ge=1, le=2**17)
    relative_attention_num_buckets: int = Field(default=32, ge=4, le=2**16)
    relative_attention_max_distance: int = Field(default=128, ge=1, le=2**16)
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Small = 1e-6
    feed_forward_proj: Literal["relu", "gelu", "gelu_new", "silu", "gated-gelu", "gated-relu", "gated-silu"] = "relu"


class MomentConfig(Checkpoint):
    r"""Config of a MOMENT checkpoint."""

    model_name: Literal["MOMENT"]
    transformer_type: Literal["encoder_only"] = "encoder_only"
    transformer_backbone: str
    t5_config: T5Settings
    seq_len: Size = 512
    patch_len: Size = 8
    patch_stride_len: Size = 8
    d_model: Size | None = None
    revin_affine: Literal[False] = False
    add_positional_embedding: bool = True
    value_embedding_bias: bool = False

    @model_validator(mode="after")
    def _agrees(self) -> MomentConfig:
        if self.d_model not in (None, self.t5_config.d_model):
            raise ValueError("should have the d_model of its t5_config, or none")
        if self.seq_len < self.patch_len:
            raise ValueError("should have a seq_len of at least patch_len")
        if self.seq_len // self.patch_stride_len * self.t5_config.d_model * PREDICTION_LENGTH > MOST_HEAD:
            raise ValueError(f"should need a head of at most {MOST_HEAD} weights per level")
        return self

    def numbers(self) -> int:
        t5 = self.t5_config
        return t5.num_layers * t5.d_model * (4 * t5.num_heads * t5.d_kv + 2 * t5.d_ff)


class Moment(FoundationModel):
    r"""Frozen MOMENT encoder (Goswami et al., 2024) with an untrained linear quantile head.

    Differentiable; any horizon; equivariant to scale and shift of a series. MOMENT is pretrained by imputing patches
    and has no pretrained forecasting head. As in the package, the head maps the features of all patches to the target
    steps; it forecasts quantiles in units of the window's location and scale. `Adapter.fit` trains it first, as AdaPTS
    does. Missing steps are read as the window's location; patches with one are not attended to, as in the package.

    Cured: the package detaches location and scale of a window, so that its gradient is finite and wrong. Here the
    window is standardised before, with gradients.

    Code MIT (momentfm, which conflicts with this library's versions); the package does not state the licence of the
    weights `AutonLab/MOMENT-1-small`, `-base` and `-large` apart: see their cards.

    References:
        | MOMENT: A Family of Open Time-series Foundation Models (Goswami et al., 2024)
        | https://arxiv.org/abs/2402.03885

    Arguments:
        model: A `MOMENTPipeline` of any task. It is copied, without its head.
        prediction_length: The number of steps that one pass of the head forecasts.
        name: The checkpoint's name.
        version: The checkpoint's version.
    """

    reads_missing: ClassVar[bool] = True

    def __init__(self, model: Any, *, prediction_length: int, name: str, version: str = "unknown") -> None:
        config = model.config
        width = config.d_model
        super().__init__(
            name=name, version=version, quantile_levels=LEVELS, context_length=config.seq_len,
            prediction_length=prediction_length, step_bytes=-(-64 * width // config.patch_stride_len),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self.model.head, self.model.normalizer = nn.Identity(), _NoScaling()
        self.model.encoder.embed_tokens = None  # a large table, which no series reads
        self.norm = GuardedInstanceNorm()
        patches = (config.seq_len - config.patch_len) // config.patch_stride_len + 1
        self.head = QuantileHead(patches * width, prediction_length)
        self.freeze()

    def untrained_head(self) -> nn.Module:
        return self.head

    def _forecast(self, context: Tensor) -> Tensor:
        standard, (location, scale) = self.norm(context)
        observed = ~standard.isnan()
        padding = (self.context_length - context.shape[1], 0)
        values = nn.functional.pad(torch.where(observed, standard, 0.0), padding)
        mask = nn.functional.pad(observed.float(), padding)
        mask = torch.where(observed.any(1, keepdim=True), mask, 1.0)  # attention needs something to attend to
        features = self.model.forecast(x_enc=values.unsqueeze(1), input_mask=mask).forecast  # (N, 1, patches, d_model)
        forecast: Tensor = location.unsqueeze(1) + scale.unsqueeze(1) * self.head(features.flatten(1))  # (N, Q, P)
        return forecast


class _NoScaling(nn.Module):
    r"""Replaces the model's normalisation: the values are already standardised."""

    def forward(self, x: Tensor, mode: str = "norm", mask: Tensor | None = None) -> Tensor:
        r"""Return the values unchanged.

        Arguments:
            x: The values, of any shape.
            mode: Ignored.
            mask: Ignored.

        Returns:
            The values.
        """
        return x


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> Moment:
    r"""Load a MOMENT checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete MOMENT.
    """
    options = checked(MomentConfig, read_config(path), path)
    from momentfm import MOMENTPipeline

    sizes: Any = options["t5_config"]
    added = {"task_name": "reconstruction", "d_model": sizes["d_model"], "enable_gradient_checkpointing": False}
    with reading(f"the config of '{path}' describes no model", REMEDY), quiet(), seeded(0):
        model = MOMENTPipeline({**options, **added}, model_kwargs={})
    model.head = nn.Identity()  # the head of imputation, or an untrained one
    fill(model, path, unused=(UNUSED,))
    return Moment(model, prediction_length=PREDICTION_LENGTH, **identity(path, name, version))


def from_live(model: object) -> Moment | None:
    r"""Wrap a copy of a MOMENT in memory.

    Arguments:
        model: A `MOMENTPipeline`. One made for forecasting names the number of target steps, any other forecasts 96.

    Returns:
        The frozen model; None if `model` is not a MOMENT.
    """
    package: Any = sys.modules.get("momentfm")
    if package is None or not isinstance(model, package.MOMENTPipeline):
        return None
    config: Any = model.config
    horizon = int(config.getattr("forecast_horizon", PREDICTION_LENGTH))
    return Moment(model, prediction_length=horizon, name=str(config.model_name).lower())

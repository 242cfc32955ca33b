r"""PatchTSMixer of Transformers, which forecasts one point per step."""

from __future__ import annotations

__all__ = ["PatchTSMixer", "from_directory", "from_live"]

import copy
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor
from transformers import PatchTSMixerConfig, PatchTSMixerForPrediction

from .base import FoundationModel
from .chronos import GuardedInstanceNorm, name_of
from .cures import zeros_where_missing
from .folders import Checkpoint, Layers, Rate, Size, Small, checked, identity, pretrained, read_config


class PatchTSMixer(FoundationModel):
    r"""Frozen PatchTSMixer (Ekambaram et al., 2023): perceptrons that mix patches and features, with a point forecast.

    Differentiable; any horizon; equivariant to scale and shift of a series. The forecast is the mean, as trained by
    squared errors, and counts as the median; `Adapter.fit` gives it a distribution. A context shorter than the model's
    is padded on the left. The model adds a constant to the variance and reads missing steps as the value 0. Series are
    therefore standardised before, so that the constant is relative to their scale, and missing steps are read as their
    mean. The numbers are the stock model's for complete contexts of unit variance.

    Code Apache-2.0. There are no general weights; those of a checkpoint are for the series it was trained on.

    References:
        | TSMixer: Lightweight MLP-Mixer Model for Multivariate Time Series Forecasting (Ekambaram et al., 2023)
        | https://arxiv.org/abs/2306.09364

    Arguments:
        model: The model of Transformers, trained for points (`loss="mse"`), its weights shared by all channels
            (`mode="common_channel"`), with its standard scaling (`scaling="std"`). It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the model is of another kind.
    """

    kind: ClassVar[Literal["quantiles", "samples", "point"]] = "point"

    def __init__(self, model: PatchTSMixerForPrediction, *, name: str, version: str = "unknown") -> None:
        config: Any = model.config
        if config.loss != "mse" or config.mode != "common_channel" or config.scaling not in ("std", True):
            raise ValueError(
                f"{name} is a PatchTSMixer with loss={config.loss!r}, mode={config.mode!r}, "
                f"scaling={config.scaling!r}: expected a univariate one that forecasts points (loss='mse', "
                "mode='common_channel', scaling='std')"
            )
        width = config.d_model * (3 + 2 * config.expansion_factor)
        super().__init__(
            name=name, version=version, quantile_levels=(0.5,), context_length=config.context_length,
            prediction_length=config.prediction_length, step_bytes=-(-4 * width // config.patch_stride),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()  # type: ignore[no-untyped-call]
        self.model.prediction_channel_indices = self.model.head.prediction_channel_indices = None
        self.norm = GuardedInstanceNorm()
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        standard, (location, scale) = self.norm(context)
        values, observed = zeros_where_missing(standard, length=self.context_length)
        mask = observed.unsqueeze(-1).to(values.dtype)
        output = self.model(past_values=values.unsqueeze(-1), observed_mask=mask, return_loss=False)
        points: Tensor = output.prediction_outputs.mT  # (N, 1, P)
        forecast: Tensor = location.unsqueeze(1) + scale.unsqueeze(1) * points
        return forecast


class Config(Checkpoint):
    r"""Config of a PatchTSMixer checkpoint that forecasts points."""

    context_length: Size = 32
    patch_length: Size = 8
    num_input_channels: Size = 1
    patch_stride: Size = 8
    d_model: Size = 8
    expansion_factor: Annotated[int, Field(ge=1, le=100)] = 2
    num_layers: Layers = 3
    dropout: Rate = 0.2
    mode: Literal["common_channel"] = "common_channel"
    gated_attn: bool = True
    norm_mlp: Literal["LayerNorm", "BatchNorm"] = "LayerNorm"
    self_attn: bool = False
    self_attn_heads: Size = 1
    use_positional_encoding: bool = False
    positional_encoding_type: Literal["random", "sincos"] = "sincos"
    scaling: Literal["std", True] = "std"
    loss: Literal["mse"] = "mse"
    norm_eps: Small = 1e-5
    head_dropout: Rate = 0.2
    prediction_length: Size = 16

    @model_validator(mode="after")
    def _agrees(self) -> Config:
        if self.context_length <= self.patch_length:
            raise ValueError("should have a context_length larger than patch_length")
        return self

    def numbers(self) -> int:
        patches = (self.context_length - self.patch_length) // self.patch_stride + 1
        mixers = 2 * self.expansion_factor * (patches**2 + self.d_model**2)
        return self.num_layers * mixers + patches * self.d_model * self.prediction_length


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> PatchTSMixer:
    r"""Load a PatchTSMixer checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete PatchTSMixer that forecasts points.
    """
    options = checked(Config, read_config(path), path)
    model = pretrained(PatchTSMixerForPrediction, PatchTSMixerConfig, options, path, attention="eager")
    return PatchTSMixer(model, **identity(path, name, version))


def from_live(model: object) -> PatchTSMixer | None:
    r"""Wrap a copy of a PatchTSMixer of Transformers in memory.

    Arguments:
        model: A `PatchTSMixerForPrediction`.

    Returns:
        The frozen model; None if `model` is no such model.
    """
    return PatchTSMixer(model, name=name_of(model)) if isinstance(model, PatchTSMixerForPrediction) else None

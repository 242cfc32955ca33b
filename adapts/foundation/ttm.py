r"""TTM of IBM Granite: a small mixer that forecasts points."""

from __future__ import annotations

__all__ = ["TTM", "from_directory", "from_live"]

import copy
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import unknown
from ..persistence.schemas import validated
from .base import FoundationModel
from .chronos import GuardedInstanceNorm, name_of
from .folders import Checkpoint, Layers, Rate, Size, Small, Steps, checked, identity, pretrained, read_config

#: The frequencies that prefix tuning distinguishes, as pandas names them; 0 stands for any other.
FREQUENCIES = {"min": 1, "2min": 2, "5min": 3, "10min": 4, "15min": 5, "30min": 6, "h": 7, "D": 8, "W": 9}
UNIVARIATE = "use a univariate TTM that forecasts points: common_channel mode, no channel mixing, no quantile head"

Count = Annotated[int, Field(ge=0, le=1024)]


class TTMConfig(Checkpoint):
    r"""Config of a univariate TTM checkpoint with a point forecast."""

    context_length: Steps = 64
    patch_length: Size = 8
    patch_stride: Size = 8
    prediction_length: Size = 16
    prediction_filter_length: Size | None = None
    num_input_channels: Literal[1] = 1
    prediction_channel_indices: None = None
    exogenous_channel_indices: None = None
    categorical_vocab_size_list: None = None
    d_model: Size = 16
    expansion_factor: Size = 2
    num_layers: Layers = 3
    dropout: Rate = 0.2
    head_dropout: Rate = 0.2
    mode: Literal["common_channel"] = "common_channel"
    decoder_mode: Literal["common_channel"] = "common_channel"
    gated_attn: bool = True
    norm_mlp: Literal["LayerNorm", "BatchNorm"] = "LayerNorm"
    norm_eps: Small = 1e-5
    self_attn: bool = False
    self_attn_heads: Size = 1
    use_positional_encoding: bool = False
    positional_encoding_type: Literal["random", "sincos"] = "sincos"
    scaling: Literal["mean", "std"] | bool | None = "std"
    adaptive_patching_levels: Count = 0
    resolution_prefix_tuning: bool = False
    frequency_token_vocab_size: Size = 5
    use_decoder: bool = True
    decoder_num_layers: Layers = 8
    decoder_d_model: Size = 8
    decoder_adaptive_patching_levels: Count = 0
    decoder_raw_residual: bool = False
    enable_forecast_channel_mixing: Literal[False] = False
    multi_quantile_head: Literal[False] = False
    decompose: Literal[False] = False
    multi_scale: bool = False
    register_tokens: Count = 0
    fft_length: Count = 0
    use_fft_embedding: bool = True
    get_one_freq_emb: bool = False
    use_register_context_gating: bool = False
    gate_groups: Size = 8
    gate_mode: str = "softmax"
    enable_base_norm_always: bool = False
    loss: Literal["mse", "mae", "pinball", "huber"] | None = "mse"

    def numbers(self) -> int:
        head = self.decoder_d_model if self.use_decoder else self.d_model
        return self.context_length // self.patch_stride * head * self.prediction_length


class TTM(FoundationModel):
    r"""Frozen TTM (Ekambaram et al., 2024): an MLP mixer over patches of one series, which forecasts points.

    Differentiable; any horizon; equivariant to scale and shift of a series. One level, 0.5: `Adapter.fit` estimates the
    distribution from train windows. Missing steps are read as the window's location, as are steps before a short
    context. A checkpoint with a token for the frequency gets that of the data.

    Cured: the model adds 1e-5 to the variance of a window, and reads its missing steps as the value 0. Here the window
    is standardised before, so that scale and shift carry over. Standardised windows have the model's own forecasts, up
    to a factor of 1 + 5e-6 in the context.

    Code Apache-2.0 (granite-tsfm, which conflicts with this library's versions). Weights
    `ibm-granite/granite-timeseries-ttm-r1` and `-r2`: see their cards. Releases with a quantile head or a decomposition
    are refused.

    References:
        | Tiny Time Mixers (TTMs): Fast Pre-trained Models for Enhanced Zero/Few-Shot Forecasting of Multivariate Time
        | Series (Ekambaram et al., 2024), https://arxiv.org/abs/2401.03955

    Arguments:
        model: A `TinyTimeMixerForPrediction`. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the model mixes channels, or forecasts anything but points.
    """

    kind: ClassVar[Literal["quantiles", "samples", "point"]] = "point"
    reads_missing: ClassVar[bool] = False

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        config = model.config
        validated(TTMConfig, config.to_dict(), f"the config of {name}", UNIVARIATE, unknown=unknown)
        super().__init__(
            name=name, version=version, quantile_levels=(0.5,), context_length=config.context_length,
            prediction_length=config.prediction_filter_length or config.prediction_length,
            step_bytes=-(-32 * config.d_model * config.expansion_factor // config.patch_stride),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self.norm = GuardedInstanceNorm()
        self.frequency_token = 0 if config.resolution_prefix_tuning else None
        self.freeze()

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        token = FREQUENCIES.get((frequency or "").partition("-")[0], 0)
        if self.frequency_token is None or token >= self.model.config.frequency_token_vocab_size:
            return self
        copied = copy.copy(self)
        copied.frequency_token = token
        return copied

    def _forecast(self, context: Tensor) -> Tensor:
        standard, (location, scale) = self.norm(context)
        values = nn.functional.pad(torch.where(standard.isnan(), 0.0, standard), self._padding(context))
        observed = nn.functional.pad(~context.isnan(), self._padding(context))
        token = (
            None
            if self.frequency_token is None
            else observed.new_full((len(observed),), self.frequency_token, dtype=torch.long)
        )
        points = self.model(
            past_values=values.unsqueeze(-1), past_observed_mask=observed.unsqueeze(-1), freq_token=token,
            return_loss=False,
        ).prediction_outputs.mT  # (N, 1, P)  # fmt: skip
        forecast: Tensor = location.unsqueeze(1) + scale.unsqueeze(1) * points
        return forecast

    def _padding(self, context: Tensor) -> tuple[int, int]:
        return self.context_length - context.shape[1], 0


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> TTM:
    r"""Load a TTM checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete univariate TTM.
    """
    options = checked(TTMConfig, read_config(path), path)
    from tsfm_public.models.tinytimemixer import TinyTimeMixerConfig, TinyTimeMixerForPrediction

    model = pretrained(TinyTimeMixerForPrediction, TinyTimeMixerConfig, options, path, attention=None)
    return TTM(model, **identity(path, name, version))


def from_live(model: object) -> TTM | None:
    r"""Wrap a copy of a TTM in memory.

    Arguments:
        model: A `TinyTimeMixerForPrediction`.

    Returns:
        The frozen model; None if `model` is not a TTM.

    Raises:
        ValueError: If the model mixes channels, or forecasts anything but points.
    """
    package: Any = sys.modules.get("tsfm_public.models.tinytimemixer")
    if package is None or not isinstance(model, package.TinyTimeMixerForPrediction):
        return None
    return TTM(model, name=name_of(model))

r"""FlowState of IBM Granite: a state-space encoder and a decoder in continuous time."""

from __future__ import annotations

__all__ = ["FlowState", "from_directory", "from_live", "running_statistics"]

import copy
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from .base import FoundationModel
from .chronos import name_of
from .cures import by_leading_gap, guarded_sqrt
from .folders import Checkpoint, Layers, Level, Size, Steps, checked, identity, pretrained, read_config

#: The season in steps for which a scale factor of 1 is meant, and the least variance of the normalisation.
BASE_SEASON, LEAST_VARIANCE = 24, 1e-5
#: The most context steps at any scale factor, which the package does not exceed either.
LONGEST = 16 * 1024


class FlowStateConfig(Checkpoint):
    r"""Config of a FlowState checkpoint."""

    context_length: Steps = 2048
    scale_factor: Annotated[float, Field(gt=0, le=100)] = 1.0
    embedding_feature_dim: Size = 512
    encoder_num_layers: Layers = 6
    encoder_state_dim: Size = 512
    encoder_num_hippo_blocks: Size = 8
    mlp_type: Literal["gated", "transformer"] = "gated"
    with_missing: Literal[True] = True
    out_gating: bool = False
    decoder_patch_len: Size = 24
    decoder_dim: Size = 256
    decoder_type: Literal["legs", "hlegs", "four"] = "legs"
    quantiles: Annotated[list[Level], Field(min_length=1, max_length=1000)] = [
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
    ]

    @model_validator(mode="after")
    def _agrees(self) -> FlowStateConfig:
        if self.encoder_state_dim % self.encoder_num_hippo_blocks:
            raise ValueError("should have an encoder_state_dim divisible by encoder_num_hippo_blocks")
        return self

    def numbers(self) -> int:
        blocks = self.encoder_num_layers * 4 * self.embedding_feature_dim * self.encoder_state_dim
        return blocks + self.embedding_feature_dim * self.decoder_dim * len(self.quantiles)


class FlowState(FoundationModel):
    r"""Frozen FlowState (Graf et al., 2025): a state-space model of one series, whose forecast is a function of time.

    Differentiable; any horizon; the model itself reads missing steps. A season of 24 steps is what it expects: for data
    of another season, `Adapter.fit` divides the step size accordingly. A season of :math:`m` steps then multiplies
    context and target steps of one pass by :math:`m / 24`. On a CPU it is many times slower than models of its size.

    Cured: the package detaches the running location and scale of a series, so that its gradient is finite and wrong,
    and keeps them in the module, which threads would share. Here both are computed with gradients, by the same formula.
    Leading missing steps are cut off, as the model is not indifferent to them.

    The package's `quantile_outputs` are quantiles of the nine forecast values as of a sample, which moves the outermost
    level from 0.1 to 0.18. Here each level is the model's own output.

    Code Apache-2.0 (granite-tsfm, which conflicts with this library's versions). Weights
    `ibm-granite/granite-timeseries-flowstate-r1`: see their card.

    References:
        | FlowState: Sampling Rate Invariant Time Series Forecasting (Graf et al., 2025)
        | https://arxiv.org/abs/2508.05287

    Arguments:
        model: A `FlowStateForPrediction`. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the model lacks the level 0.5.
    """

    reads_missing: ClassVar[bool] = True

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        config = model.config
        super().__init__(
            name=name, version=version, quantile_levels=config.quantiles, context_length=config.context_length,
            prediction_length=config.decoder_patch_len,
            step_bytes=16 * (config.embedding_feature_dim + 2 * config.encoder_state_dim),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self.model.model.norm = RunningNorm()
        self.model.model.config.min_context = 0  # decode at the last step only
        self._set_scale_factor(config.scale_factor)
        self.freeze()

    def _set_scale_factor(self, factor: float) -> None:
        config = self.model.config
        self.scale_factor = factor
        self.context_length = max(2, min(LONGEST, int(config.context_length / factor)))
        self.prediction_length = max(1, int(config.decoder_patch_len / factor + 1e-6))

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        if season_length <= 1 or season_length == BASE_SEASON:
            return self
        copied = copy.copy(self)
        copied._set_scale_factor(self.model.config.scale_factor * BASE_SEASON / season_length)
        return copied

    @by_leading_gap
    def _forecast(self, context: Tensor) -> Tensor:
        context = nn.functional.pad(context, (max(0, 2 - context.shape[1]), 0), value=torch.nan)  # it needs two steps
        observed = ~context.isnan()
        location, scale = running_statistics(torch.where(observed, context, 0.0), observed)
        output = self.model.model(
            past_values=context.unsqueeze(-1), batch_first=True, scale_factor=self.scale_factor
        ).last_hidden_state  # (1, N, Q, P, 1)
        quantiles = output[0, ..., : self.prediction_length, 0]
        forecast: Tensor = location[:, -1:, None] + scale[:, -1:, None] * quantiles  # (N, Q, P)
        return forecast


def running_statistics(values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return location and scale of each series up to each step.

    The scale is the root mean square of the deviations of each step from the location at that step, as in training.

    Arguments:
        values: The series, 0 at missing steps, with shape :math:`(N, L)`.
        observed: Where they are observed, with shape :math:`(N, L)`.

    Returns:
        Location and scale, with shape :math:`(N, L)`; the scale is at least the root of `LEAST_VARIANCE`.
    """
    count = observed.cumsum(1).clamp(min=1)
    location = values.cumsum(1) / count
    variance = torch.where(observed, values - location, 0.0).square().cumsum(1) / count
    return location, guarded_sqrt(variance, LEAST_VARIANCE**0.5)


class RunningNorm(nn.Module):
    r"""Replaces the model's normalisation: with gradients, and without state."""

    def forward(self, x: Tensor, mode: str) -> Tensor:
        r"""Standardise series by their running statistics.

        Arguments:
            x: Values, 0 at missing steps, and an indicator of missing steps, with shape :math:`(N, L, 2)`, or
                forecasts.
            mode: "norm" standardises; "denorm" returns the forecasts unchanged, in units of the series.

        Returns:
            The standardised values, 0 at missing steps, and the indicator; or `x`.
        """
        if mode == "denorm":
            return x
        values, missing = x.unbind(-1)
        observed = missing == 0
        location, scale = running_statistics(values, observed)
        return torch.stack([torch.where(observed, (values - location) / scale, 0.0), missing], -1)  # (N, L, 2)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> FlowState:
    r"""Load a FlowState checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete FlowState.
    """
    options = checked(FlowStateConfig, read_config(path), path)
    from tsfm_public.models.flowstate import FlowStateConfig as PackageConfig
    from tsfm_public.models.flowstate import FlowStateForPrediction

    model = pretrained(FlowStateForPrediction, PackageConfig, options, path, attention=None)
    return FlowState(model, **identity(path, name, version))


def from_live(model: object) -> FlowState | None:
    r"""Wrap a copy of a FlowState in memory.

    Arguments:
        model: A `FlowStateForPrediction`.

    Returns:
        The frozen model; None if `model` is not a FlowState.
    """
    package: Any = sys.modules.get("tsfm_public.models.flowstate")
    if package is None or not isinstance(model, package.FlowStateForPrediction):
        return None
    return FlowState(model, name=name_of(model))

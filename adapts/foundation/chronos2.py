r"""Chronos-2, differentiable with respect to its context, one series alone or several in one group."""

from __future__ import annotations

__all__ = ["Chronos2", "from_directory", "from_live"]

import copy
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from chronos import Chronos2Model, Chronos2Pipeline
from chronos.chronos2.config import Chronos2CoreConfig
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..errors import shown
from ..persistence.schemas import Strict
from .base import FoundationModel
from .chronos import GuardedInstanceNorm, bytes_per_patch, name_of
from .folders import Checkpoint, Layers, Level, Rate, Size, Small, Steps, checked, identity, pretrained, read_config

#: The maximum number of series in one pass: every series is compared with every other of the pass.
MOST_ROWS = 128


class Chronos2(FoundationModel):
    r"""Frozen Chronos-2 (Ansari et al., 2025): an encoder over patches that attends across time and across a group.

    Differentiable; any horizon; equivariant to scale and shift of a series; the model itself handles NaN. `_forecast`
    makes each series a group of its own, `predict_jointly` all channels of a series one group. Future tokens read each
    other, so that the numbers depend on the length of a pass. `Adapter` takes the shortest pass that holds its horizon
    (`with_horizon`), and so has the numbers of `Chronos2Pipeline.predict`. The length is part of the fingerprint.
    `Chronos2Pipeline.predict` blocks the gradient, so this class calls a copy of the module inside the pipeline. Its
    normalisation has NaN gradients for constant rows and missing steps, and is replaced by one with equal values.

    Code Apache-2.0; the licence of the weights is that of their repository.

    References:
        | Chronos-2: From Univariate to Universal Forecasting (Ansari et al., 2025)
        | https://arxiv.org/abs/2510.15821

    Arguments:
        model: The module of a `Chronos2Pipeline`.
        name: The checkpoint's name.
        version: The checkpoint's version.
        prediction_length: The number of steps that one pass forecasts, rounded up to whole patches. A shorter pass is
            faster. If None, the model's maximum.

    Raises:
        ValueError: If `prediction_length` exceeds the model's maximum or is below 1.
    """

    joint_mode: ClassVar[bool] = True
    patches: Tensor

    def __init__(
        self, model: Chronos2Model, *, name: str, version: str = "unknown", prediction_length: int | None = None
    ) -> None:
        settings, patch = model.chronos_config, model.chronos_config.output_patch_size
        longest = patch * settings.max_output_patches
        steps = longest if prediction_length is None else prediction_length
        if not 1 <= steps <= longest:
            raise ValueError(
                f"{name} forecasts 1 to {longest} steps in one pass, got prediction_length={shown(prediction_length)}: "
                "longer horizons need no other model, they are unrolled"
            )
        patches = -(-steps // patch)
        super().__init__(
            name=name, version=version, quantile_levels=settings.quantiles, context_length=settings.context_length,
            prediction_length=patches * patch, step_bytes=bytes_per_patch(model.config) // settings.input_patch_stride,
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self.model.instance_norm = GuardedInstanceNorm(use_arcsinh=settings.use_arcsinh)
        for block in self.model.encoder.block:
            block.layer[1].layer_norm.register_forward_hook(_contiguous)
        self.register_buffer("patches", torch.tensor(patches))  # so that the fingerprint tells the lengths apart
        self.freeze()

    def with_horizon(self, prediction_length: int) -> Self:
        patch = self.model.chronos_config.output_patch_size
        patches = min(-(-prediction_length // patch), self.prediction_length // patch)
        if patches * patch == self.prediction_length:
            return self
        copied = copy.copy(self)
        copied._buffers = {**self._buffers, "patches": torch.tensor(patches)}  # the dictionary would be shared
        copied.prediction_length = patches * patch
        return copied

    def chunk_rows(self, length: int, prediction_length: int) -> int:
        # The steps of a pass have tokens like those of the context.
        return super().chunk_rows(length + self.prediction_length, prediction_length)

    def _forecast(self, context: Tensor) -> Tensor:
        return self._forecast_jointly(context.unsqueeze(1)).squeeze(1)  # (N, Q, P)

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        size = max(1, MOST_ROWS // context.shape[1])
        return torch.cat([self._pass(part) for part in context.split(size)])  # (B, D, Q, P)

    def _pass(self, context: Tensor) -> Tensor:
        groups = torch.arange(len(context), device=context.device).repeat_interleave(context.shape[1])  # (B * D,)
        patches = self.prediction_length // self.model.chronos_config.output_patch_size
        output = self.model(context=context.flatten(0, 1), group_ids=groups, num_output_patches=patches)
        quantiles: Tensor = output.quantile_preds.unflatten(0, context.shape[:2])  # (B, D, Q, P)
        return quantiles


def _contiguous(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
    # The group attention swaps series and time. With frozen weights, PyTorch multiplies such a tensor matrix by matrix,
    # which takes a third more time for the whole model; its copy it multiplies at once, as with trainable weights.
    return output.contiguous()


class Settings(Strict):
    r"""Chronos settings within the config."""

    context_length: Steps
    input_patch_size: Size
    input_patch_stride: Size
    output_patch_size: Size
    max_output_patches: Size = 1
    quantiles: Annotated[list[Level], Field(min_length=1, max_length=1000)]
    use_reg_token: Literal[True]  # the module's own output has a place for it in any case
    use_arcsinh: bool = False
    time_encoding_scale: Steps | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Settings:
        if not self.input_patch_size == self.input_patch_stride == self.output_patch_size:
            raise ValueError("should have patches of one size, without overlap")
        return self


class Config(Checkpoint):
    r"""Config of a Chronos-2 checkpoint."""

    chronos_config: Settings
    chronos_pipeline_class: Literal["Chronos2Pipeline"]
    d_model: Size = 512
    d_kv: Annotated[int, Field(ge=2, le=2**16, multiple_of=2)] = 64
    d_ff: Size = 2048
    num_layers: Layers = 6
    num_heads: Size = 8
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Small = 1e-6
    initializer_factor: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    feed_forward_proj: Literal["relu", "gelu", "silu"] = "relu"
    vocab_size: Size = 2
    rope_theta: Annotated[float, Field(gt=1, le=1e9)] = 1e4

    def numbers(self) -> int:
        settings, inner = self.chronos_config, self.num_heads * self.d_kv
        blocks = self.num_layers * self.d_model * (8 * inner + 2 * self.d_ff)
        ends = (3 + len(settings.quantiles)) * settings.input_patch_size
        return blocks + ends * (self.d_ff + self.d_model)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> Chronos2:
    r"""Load a Chronos-2 checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU, with the longest pass.

    Raises:
        ValueError: If the directory does not hold a complete Chronos-2 checkpoint.
    """
    options = checked(Config, read_config(path), path)
    model = pretrained(Chronos2Model, Chronos2CoreConfig, options, path)
    return Chronos2(model, **identity(path, name, version))


def from_live(model: object) -> Chronos2 | None:
    r"""Wrap a copy of a Chronos-2 pipeline or module in memory.

    Arguments:
        model: The pipeline or the module.

    Returns:
        The frozen model; None if `model` is no Chronos-2.
    """
    if isinstance(model, Chronos2Pipeline):
        model = model.model
    return Chronos2(model, name=name_of(model)) if isinstance(model, Chronos2Model) else None

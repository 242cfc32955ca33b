r"""TimesFM 2.0 and 2.5 of Transformers, differentiable with respect to their context."""

from __future__ import annotations

__all__ = ["TimesFM", "from_directory", "from_live"]

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import TimesFm2_5Config, TimesFm2_5ModelForPrediction, TimesFmConfig, TimesFmModelForPrediction

from ..errors import shown
from ..persistence.schemas import Strict
from .base import FoundationModel
from .chronos import name_of
from .cures import by_leading_gap, carried_forward, guarded_sqrt
from .folders import Checkpoint, Layers, Level, Rate, Size, Small, Steps, checked, identity, pretrained, read_config

#: Steps shorter than so many days, and shorter than so many, have the frequency numbers 0 and 1; longer ones have 2.
DAYS = (7, 80)
#: A patch of TimesFM 2.0 with so many observed steps sets location and scale.
LEAST = 3


class TimesFM(FoundationModel):
    r"""Frozen TimesFM 2.0 or 2.5 (Das et al., 2024): a decoder over patches, with a mean and quantiles for each.

    Differentiable; any horizon; equivariant to scale and shift of a series. The model reads no missing steps: the last
    observation is carried forward, and steps before the first one are cut off. Negative forecasts of a series without
    negative values are kept; the stock model cuts them at zero if no series of the batch has one. Their location and
    scale have NaN gradients where a series is constant; functions with equal values and finite gradients replace them
    on the copy that this class makes.

    TimesFM 2.5 takes up to 16384 steps, 2.0 as many as its config says (2048 in the public checkpoint). One pass
    forecasts 128 steps. TimesFM 2.0 scales a series by its first patch of 32 steps, and forecasts one that is constant
    there as nearly constant; it also reads a class of frequency, which `with_frequency` sets.

    Code and weights Apache-2.0.

    References:
        | A decoder-only foundation model for time-series forecasting (Das et al., 2024)
        | https://arxiv.org/abs/2310.10688

    Arguments:
        model: The model of Transformers. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
    """

    reads_missing: ClassVar[bool] = False
    #: The class of frequency that TimesFM 2.0 reads.
    frequency_class = 0

    def __init__(
        self,
        model: TimesFm2_5ModelForPrediction | TimesFmModelForPrediction,
        *,
        name: str,
        version: str = "unknown",
    ) -> None:
        config: Any = model.config
        width = 2 * config.intermediate_size + 6 * config.hidden_size
        super().__init__(
            name=name, version=version, quantile_levels=config.quantiles, context_length=config.context_length,
            prediction_length=config.horizon_length, step_bytes=-(-4 * width // config.patch_length),
        )  # fmt: skip
        copied: Any = copy.deepcopy(model).float()  # type: ignore[no-untyped-call]
        self.model = copied
        if isinstance(copied, TimesFmModelForPrediction):
            _replace(copied.decoder, "_timesfm_masked_mean_std", _statistics_of_first_patch)
        else:
            _replace(copied.model, "_update_running_stats", _running_statistics)
        self.freeze()

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        if frequency is None or not isinstance(self.model, TimesFmModelForPrediction):
            return self
        copied = copy.copy(self)
        copied.frequency_class = _frequency_class(frequency)
        return copied

    @by_leading_gap
    def _forecast(self, context: Tensor) -> Tensor:
        values = carried_forward(context)
        if isinstance(self.model, TimesFmModelForPrediction):
            output = self.model(past_values=list(values), freq=[self.frequency_class] * len(values))
        else:
            patch = self.model.config.patch_length
            length = -(-values.shape[1] // patch) * patch  # by default it pads each series to the longest context
            output = self.model(past_values=values, forecast_context_len=length, truncate_negative=False)
        quantiles: Tensor = output.full_predictions[..., 1:].mT  # (N, Q, P), without the mean
        return quantiles


def _replace(module: nn.Module, name: str, function: Callable[..., Any]) -> None:
    assert hasattr(module, name), f"transformers has renamed {name} of {type(module).__name__}"
    setattr(module, name, function)


def _running_statistics(
    count: Tensor, mean: Tensor, deviation: Tensor, values: Tensor, masked: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Update count, mean and standard deviation (N,) by values (N, p), pooling the variances of both parts."""
    observed = (~masked).to(values.dtype)
    added = observed.sum(-1)
    added_mean = (values * observed).sum(-1) / added.clamp(min=1)
    squares = ((values - added_mean.unsqueeze(-1)) * observed).square().sum(-1)
    total = count + added
    pooled = (count * mean + added * added_mean) / total.clamp(min=1)
    between = count * (mean - pooled).square() + added * (added_mean - pooled).square()
    variance = (count * deviation.square() + squares + between) / total.clamp(min=1)
    return total, pooled, guarded_sqrt(variance)


def _statistics_of_first_patch(values: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return mean and standard deviation (N,) of the first patch (N, n, p) with enough observed steps, or the last."""
    enough = (1 - padding).sum(-1) >= LEAST  # (N, n)
    patch = torch.where(enough.any(1), enough.int().argmax(1), values.shape[1] - 1)
    rows = torch.arange(len(values), device=values.device)
    observed, values = 1 - padding[rows, patch], values[rows, patch]  # (N, p)
    count = observed.sum(1).clamp(min=1)
    mean = (values * observed).sum(1) / count
    squares = ((values - mean.unsqueeze(1)) * observed).square().sum(1)
    return mean, guarded_sqrt(squares / count)


def _frequency_class(frequency: str) -> int:
    r"""Return 0 for steps up to days, 1 for weeks and months, 2 for quarters and years."""
    import pandas as pd
    from pandas.tseries.frequencies import to_offset

    offset = to_offset(frequency)
    first = pd.Timestamp(2001, 1, 1) + offset  # on the offset's anchor, such as a Sunday
    days = (first + offset - first).total_seconds() / 86400
    return sum(days >= most for most in DAYS)


class _Common(Checkpoint):
    r"""What the configs of both versions hold."""

    patch_length: Size = 32
    horizon_length: Size = 128
    hidden_size: Size = 1280
    intermediate_size: Size = 1280
    num_attention_heads: Size = 16
    rms_norm_eps: Small = 1e-6
    attention_dropout: Rate = 0.0
    quantiles: Annotated[list[Level], Field(min_length=1, max_length=1000)] = [
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
    ]  # fmt: skip
    num_hidden_layers: Layers
    head_dim: Annotated[int, Field(ge=2, le=2**16, multiple_of=2)] = 80

    def numbers(self) -> int:
        inner = self.num_attention_heads * self.head_dim
        layers = self.num_hidden_layers * 2 * self.hidden_size * (inner + self.intermediate_size)
        return layers + self.hidden_size * self.horizon_length * (1 + len(self.quantiles))


class Config20(_Common):
    r"""Config of a TimesFM 2.0 checkpoint."""

    context_length: Steps = 512
    num_hidden_layers: Layers = 50
    freq_size: Annotated[int, Field(ge=3, le=1000)] = 3
    tolerance: Small = 1e-6
    pad_val: Annotated[float, Field(ge=1e6, le=1e30)] = 1123581321.0
    use_positional_embedding: bool = False
    min_timescale: Annotated[int, Field(ge=1, le=2**31)] = 1
    max_timescale: Annotated[int, Field(ge=2, le=2**31)] = 10_000


class Rope(Strict):
    r"""Rotary positions within the config."""

    rope_theta: Annotated[float, Field(gt=1, le=1e9)] = 1e4
    rope_type: Literal["default"] = "default"


class Config25(_Common):
    r"""Config of a TimesFM 2.5 checkpoint."""

    context_length: Steps = 16384
    num_hidden_layers: Layers = 20
    num_key_value_heads: Size = 16
    attention_bias: bool = False
    output_quantile_len: Size = 1024
    decode_index: Annotated[int, Field(ge=0, le=1000)] = 5
    use_bias: bool = False
    activation: Literal["swish", "silu", "relu", "gelu"] = "swish"
    use_continuous_quantile_head: bool = True
    force_flip_invariance: bool = True
    infer_is_positive: bool = True
    max_position_embeddings: Steps = 16384
    rope_parameters: Rope | None = None


#: Schema, config and class of each version, by the `model_type` of its checkpoints.
_VERSIONS: dict[str, tuple[type[_Common], Any, Any]] = {
    "timesfm": (Config20, TimesFmConfig, TimesFmModelForPrediction),
    "timesfm2_5": (Config25, TimesFm2_5Config, TimesFm2_5ModelForPrediction),
}


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> TimesFM:
    r"""Load a TimesFM checkpoint of Transformers, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete TimesFM checkpoint of Transformers.
    """
    content = read_config(path)
    kind = content.get("model_type")
    if kind not in _VERSIONS:
        raise ValueError(
            f"'{path}' holds a model of type {shown(kind)}: expected a TimesFM of Transformers "
            f"({', '.join(_VERSIONS)}), such as google/timesfm-2.5-200m-transformers"
        )
    schema, config, model = _VERSIONS[kind]
    options = checked(schema, content, path)
    return TimesFM(pretrained(model, config, options, path), **identity(path, name, version))


def from_live(model: object) -> TimesFM | None:
    r"""Wrap a copy of a TimesFM of Transformers in memory.

    Arguments:
        model: A `TimesFm2_5ModelForPrediction` or a `TimesFmModelForPrediction`.

    Returns:
        The frozen model; None if `model` is no TimesFM.
    """
    if not isinstance(model, TimesFm2_5ModelForPrediction | TimesFmModelForPrediction):
        return None
    return TimesFM(model, name=name_of(model))

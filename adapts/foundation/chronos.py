r"""Chronos-Bolt, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["ChronosBolt", "from_directory", "from_live"]

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from chronos import BaseChronosPipeline, Chronos2Model, Chronos2Pipeline, ChronosBoltPipeline, ChronosModel
from chronos.chronos_bolt import ChronosBoltModelForForecasting, InstanceNorm
from torch import Tensor
from transformers import T5Config

from .._logging import quiet
from ..errors import reading, shown
from .base import FoundationModel
from .folders import ATTENTION, REMEDY, BoltConfig, checked, named, read_config, require_sound

_REFUSED = {
    "Chronos-2": "it is not supported yet",
    "the original Chronos (T5)": "it reads tokens, which cut the gradient to its context, so an encoder before it "
    "would be trained on a wrong one",
}


class ChronosBolt(FoundationModel):
    r"""Frozen Chronos-Bolt (Ansari et al., 2024): T5 on patches of the context, with direct quantile forecasts.

    Differentiable; any horizon; equivariant to scale and shift of a series; the model itself handles NaN.
    `ChronosBoltPipeline.predict` blocks the gradient, so this class calls the module inside the pipeline. It uses a
    copy: the caller's module is unchanged.

    References:
        | Chronos: Learning the Language of Time Series (Ansari et al., 2024)
        | https://arxiv.org/abs/2403.07815

    Arguments:
        model: The module of a `ChronosBoltPipeline`.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Example:
        >>> model = adapts.load_foundation_model("bolt-nano")
        >>> model(torch.randn(14, 200), prediction_length=24).shape
        torch.Size([14, 9, 24])
    """

    def __init__(self, model: ChronosBoltModelForForecasting, *, name: str, version: str = "unknown") -> None:
        config = model.chronos_config
        super().__init__(
            name=name,
            version=version,
            quantile_levels=config.quantiles,
            context_length=config.context_length,
            prediction_length=config.prediction_length,
            step_bytes=_bytes_per_patch(model.config) // config.input_patch_stride,
        )
        # The copy also detaches the weights from the checkpoint file, which safetensors maps into memory.
        self.model = copy.deepcopy(model).float()
        self.model.instance_norm = GuardedInstanceNorm()
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        quantiles: Tensor = self.model(context=context).quantile_preds  # (N, Q, P)
        return quantiles


class GuardedInstanceNorm(InstanceNorm):  # type: ignore[misc]  # chronos has no types
    r"""Bolt's own normalisation with identical values, and finite gradients for every row.

    In the original, the backward pass multiplies an infinite or NaN slope by zero where a row is constant or a step is
    missing: the gradient of the whole row becomes NaN. Here every operation has finite inputs, away from the pole of
    the square root's derivative, and `where` selects afterwards.
    """

    def forward(
        self, x: Tensor, loc_scale: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        r"""Standardise each row over its observed steps.

        Arguments:
            x: The series, with shape :math:`(N, L)`. NaN marks a missing step.
            loc_scale: The location and scale to use, with shape :math:`(N, 1)`; the rows' own if None.

        Returns:
            The standardised series, NaN where `x` is, and location and scale: 0 and 1 for a row without observations,
            the value and `eps` for a constant row.
        """
        observed = ~x.isnan()
        values = torch.where(observed, x.float(), 0.0)
        location, scale = self._statistics(values, observed) if loc_scale is None else loc_scale
        standardised = torch.where(observed, (values - location) / scale, torch.nan)
        return standardised.to(x.dtype), (location, scale)

    def _statistics(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        count = observed.sum(-1, keepdim=True)
        location = values.sum(-1, keepdim=True) / count.clamp(min=1)
        squares = torch.where(observed, values - location, 0.0).square()
        variance = squares.sum(-1, keepdim=True) / count.clamp(min=1)
        varies = variance > 0
        scale = torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), self.eps)
        return location, torch.where(count > 0, scale, 1.0)


class _Whole(ChronosBoltModelForForecasting):  # type: ignore[misc]  # chronos has no types
    # Chronos would ignore missing weights of the patch embeddings, and initialise them at random without a warning.
    _keys_to_ignore_on_load_missing = None


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> ChronosBolt:
    r"""Load a Chronos-Bolt checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU; half-precision weights become float32.

    Raises:
        ValueError: If the directory does not hold a complete Chronos-Bolt checkpoint.
    """
    content = read_config(path)
    _require_bolt(path, content)
    options = checked(BoltConfig, content, path)
    with reading(f"the checkpoint in '{path}' cannot be read", REMEDY), quiet():
        model, info = _Whole.from_pretrained(
            path, config=T5Config(**options), dtype=torch.float32, use_safetensors=True, local_files_only=True,
            attn_implementation=ATTENTION, output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip  # mismatches are reported below, by name
    require_sound(model, info, path)
    card = named(path)
    return ChronosBolt(model, name=name or card[0], version=version or card[1])


def from_live(model: object) -> ChronosBolt | None:
    r"""Wrap a copy of a Chronos-Bolt pipeline or module in memory.

    Arguments:
        model: The pipeline or the module.

    Returns:
        The frozen model; None if `model` is not a Chronos model.

    Raises:
        ValueError: If it is another model of the Chronos family.
    """
    if isinstance(model, ChronosBoltPipeline):
        model = model.model
    if isinstance(model, ChronosBoltModelForForecasting):
        name = str(getattr(model, "name_or_path", "")) or type(model).__name__
        return ChronosBolt(model, name=Path(name).name if Path(name).is_dir() else name)
    if isinstance(model, Chronos2Pipeline | Chronos2Model):
        raise ValueError(_refusal(type(model).__name__, "Chronos-2"))
    if isinstance(model, BaseChronosPipeline | ChronosModel):
        raise ValueError(_refusal(type(model).__name__, "the original Chronos (T5)"))
    return None


def _require_bolt(path: Path, config: Mapping[str, Any]) -> None:
    r"""Raise an error for checkpoints of other models, with the reason."""
    if "chronos_config" not in config:
        kinds = config.get("architectures")
        kind = kinds[0] if isinstance(kinds, list) and kinds else config.get("model_type", "unknown")
        kind = kind if isinstance(kind, str) and len(kind) < 100 else shown(kind)
        raise ValueError(f"'{path}' holds a model of type {kind}: expected a Chronos-Bolt checkpoint")
    pipeline = config.get("chronos_pipeline_class", "ChronosPipeline")
    if pipeline == "Chronos2Pipeline":
        raise ValueError(_refusal(f"the checkpoint in '{path}'", "Chronos-2"))
    if pipeline != "ChronosBoltPipeline":
        raise ValueError(_refusal(f"the checkpoint in '{path}'", "the original Chronos (T5)"))


def _refusal(what: str, family: str) -> str:
    return f"{what} is {family}, which is rejected: {_REFUSED[family]}. Use a Chronos-Bolt checkpoint"


def _bytes_per_patch(config: Any) -> int:
    r"""Return the peak memory of one patch in bytes, for a pass without gradients."""
    return 4 * int(2 * config.d_ff + 3 * config.num_heads * config.d_kv + 6 * config.d_model)

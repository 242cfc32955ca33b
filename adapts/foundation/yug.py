r"""Yug: a causal patch decoder that is told the frequency, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["Yug", "from_directory", "from_live"]

import copy
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from .base import FoundationModel
from .cures import guarded_sqrt, zeros_where_missing
from .folders import identity
from .packages import built, is_live, schema_of

#: The package's index of an unknown frequency, and its multiple.
UNKNOWN = (8, 1)


class Yug(FoundationModel):
    r"""Frozen Yug (Birla AI Labs, 2026): a causal patch decoder with direct quantile forecasts.

    Differentiable; any horizon; equivariant to scale and shift of a series; the model itself handles missing steps. It
    reads the frequency of the series, which `with_frequency` sets; without it, as an unknown one. Its covariates are
    not used. Beyond one pass the package draws 100 paths; here paths are unrolled as for every model.

    Code: Apache-2.0. **Weights (`birlaailabs/yug`): non-commercial.**

    Its running deviation has a constant under the root, so gradients are finite as they come, and series that vary by
    less than 0.001 are flattened. The package rescales such series. Here each series is standardised first, which
    changes others by less than 1e-6 of their size. Its rotation tables are not buffers and remain on the device of the
    first call; in this instance they are computed at each call.

    References:
        | https://huggingface.co/birlaailabs/yug

    Arguments:
        model: A `Yug_Model` of the package yug. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
        context_length: The maximum number of context steps; the package's own by default.
    """

    def __init__(self, model: Any, *, name: str, version: str = "unknown", context_length: int = 2048) -> None:
        config = model.config
        super().__init__(
            name=name, version=version, quantile_levels=config["quantiles"], context_length=context_length,
            prediction_length=config["output_dim"], step_bytes=-(-4 * 16 * config["d_model"] // config["patch_len"]),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        for module in self.model.modules():
            if hasattr(module, "_update_cache"):
                module._update_cache = partial(_rotation, module)
        self._frequency = UNKNOWN
        self.freeze()

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        from yug import freq_id, normalize_freq

        if frequency is None:
            return self
        copied = copy.copy(self)
        copied._frequency = tuple(freq_id(normalize_freq(frequency)))
        return copied

    def _forecast(self, context: Tensor) -> Tensor:
        patch, levels = self.model.config["patch_len"], len(self.quantile_levels)
        standard, location, scale = _standardised(context)
        values, observed = zeros_where_missing(standard, patch)
        index, multiple = (torch.full((len(context),), number, device=context.device) for number in self._frequency)
        quantiles, _, _ = self.model(
            values.unflatten(1, (-1, patch)), attn_mask_target=observed.unflatten(1, (-1, patch)).to(values.dtype),
            freq_id=index, scale=multiple,
        )  # fmt: skip
        last: Tensor = quantiles[:, -1].unflatten(1, (-1, levels, patch)).transpose(1, 2).flatten(2)  # (N, Q, P)
        return location.unsqueeze(2) + scale.unsqueeze(2) * last


def _standardised(context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the series standardised over their observed steps, NaN elsewhere, and location and scale, (N, 1)."""
    observed = ~context.isnan()
    values, count = torch.where(observed, context, 0.0), observed.sum(1, keepdim=True).clamp(min=1)
    location = values.sum(1, keepdim=True) / count
    squares = torch.where(observed, values - location, 0.0).square()
    scale = guarded_sqrt(squares.sum(1, keepdim=True) / count)
    scale = torch.where(scale > 0, scale, 1.0)
    return torch.where(observed, (values - location) / scale, torch.nan), location, scale


def _rotation(module: Any, steps: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    r"""Return cosines and sines of a rotary embedding (Su et al., 2021) for positions from 0 on, (steps, width)."""
    angles = torch.arange(steps, device=device, dtype=dtype).unsqueeze(1) * module.inv_freq.to(dtype)
    angles = angles.repeat_interleave(2, dim=1)
    return angles.cos(), angles.sin()


def _numbers(config: Any) -> float:
    return float(4 * config.num_decoder_layers * config.d_model**2)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> Yug:
    r"""Load a Yug checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete Yug checkpoint.
    """
    import yug

    model = built(path, schema_of(yug.YugConfig), lambda x: yug.Yug_Model(yug.YugConfig(**x)), _numbers, exact=False)
    return Yug(model, **identity(path, name, version))


def from_live(model: object) -> Yug | None:
    r"""Wrap a copy of a Yug model in memory.

    Arguments:
        model: A `Yug_Model` of the package yug, or a `YugPipeline`.

    Returns:
        The frozen model; None if `model` is not one.
    """
    if is_live(model, "yug", "YugPipeline"):
        model = model.model  # type: ignore[attr-defined]
    return Yug(model, name="yug") if is_live(model, "yug", "Yug_Model") else None

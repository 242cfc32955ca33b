r"""Toto 2: a patch decoder with attention over time and variates, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["Toto2", "from_directory", "from_live"]

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import FoundationModel
from .cures import carried_forward, guarded_sqrt, replaced
from .folders import identity
from .packages import built, is_live, schema_of


class Toto2(FoundationModel):
    r"""Frozen Toto 2 (Datadog, 2026): a decoder on patches, with attention over time and over the variates of a series.

    Differentiable; any horizon; equivariant to scale and shift of a series. Code: Apache-2.0. Weights
    (`Datadog/Toto-2.0-4m` to `2.5B`): the package names no separate licence. One pass forecasts all its patches at
    once, and the position table ends at 8192 patches of context and horizon. Missing steps are masked. The model reads
    its last patch as observed throughout, so missing steps there are carried forward.

    Two cures, both of which leave the numbers as they are:

    - Its running deviation takes the root of zero at the first step, which makes gradients of every row NaN. The
      statistics of this instance have a guarded root.
    - Its u-muP layers (Blake et al., 2024) multiply values and gradients by different factors. Training is meant to
      have this; the gradient with respect to the context is wrong by it, and may have the opposite sign. Where a
      gradient is required, one plain product replaces the pair of factors.

    References:
        | This Time is Different: An Observability Perspective on Time Series Foundation Models (Cohen et al., 2025)
        | https://arxiv.org/abs/2505.14766
        | u-muP: The Unit-Scaled Maximal Update Parametrization (Blake et al., 2024)
        | https://arxiv.org/abs/2407.17465

    Arguments:
        model: A `Toto2Model` of the package toto2. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
        context_length: The maximum number of context steps; the config of a checkpoint does not say one.
        prediction_length: The number of steps that one pass forecasts.
    """

    joint_mode = True

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        version: str = "unknown",
        context_length: int = 4096,
        prediction_length: int = 128,
    ) -> None:
        config = model.config
        super().__init__(
            name=name, version=version, quantile_levels=model.output_head.knots, context_length=context_length,
            prediction_length=prediction_length,
            step_bytes=-(-4 * (8 * config.d_model + 3 * config.d_ff) // config.patch_size),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        scaler = self.model.scaler
        scaler._compute_loc_scale = partial(
            _causal_statistics, patch=config.patch_size, correction=scaler.correction, floor=scaler.minimum_scale
        )
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        return self._forecast_jointly(context.unsqueeze(1)).squeeze(1)

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        padding = -context.shape[-1] % self.model.config.patch_size
        context = nn.functional.pad(context, (padding, 0), value=torch.nan)
        observed = ~context.isnan()
        series = torch.zeros(context.shape[:2], dtype=torch.long, device=context.device)  # (B, D), one group a row
        inputs = {"target": carried_forward(context), "target_mask": observed, "series_ids": series}
        with _true_gradients() if context.requires_grad else nullcontext():
            quantiles: Tensor = type(self.model).forecast.__wrapped__(self.model, inputs, self.prediction_length)
        # A row without observations is read as zeros, whose scale is the smallest one: in units of it, the scale is 1.
        empty = ~observed.any(-1)[..., None]  # (B, D, 1)
        return torch.where(empty, quantiles / self.model.scaler.minimum_scale, quantiles).movedim(0, 2)  # (B, D, Q, P)


def _causal_statistics(
    values: Tensor, observed: Tensor, *, patch: int, correction: float, floor: float
) -> tuple[Tensor, Tensor]:
    r"""Return mean and deviation of the observed values up to the end of each patch, of the shape of `values`."""
    count = observed.cumsum(-1).clamp(min=1)
    mean = (values * observed).cumsum(-1) / count
    before = nn.functional.pad(mean[..., :-1], (1, 0))
    squares = ((values - before) * (values - mean) * observed).cumsum(-1)  # Welford (1962)
    deviation = guarded_sqrt(squares / (count - correction).clamp(min=1), floor)
    ends = slice(patch - 1, None, patch)
    return mean[..., ends].repeat_interleave(patch, -1), deviation[..., ends].repeat_interleave(patch, -1)


class _Product:
    r"""Replaces the two factors of a unit-scaled operation by the one of its values."""

    @staticmethod
    def apply(values: Tensor, factor: Any, gradient_factor: Any) -> Any:
        return factor * values


@contextmanager
def _true_gradients() -> Iterator[None]:
    r"""Make unit-scaled operations differentiate what they compute, within a `with` block."""
    ours, upstream = import_module("dd_unit_scaling.scale"), import_module("unit_scaling.scale")
    with replaced(ours, _ScaledGrad=_Product), replaced(upstream, _ScaledGrad=_Product):
        yield


def _numbers(config: Any) -> float:
    width, key = config.d_model, config.qk_dim or config.d_model / config.num_heads
    attention = config.num_heads * (key + (config.v_dim or key)) * width
    return float(config.num_layers * (attention + 3 * width * (config.d_ff or 2 * width)) + 8 * width * width)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> Toto2:
    r"""Load a Toto 2 checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete Toto 2 checkpoint.
    """
    from toto2 import Toto2Model, Toto2ModelConfig

    model = built(path, schema_of(Toto2ModelConfig), lambda x: Toto2Model(Toto2ModelConfig(**x)), _numbers)
    return Toto2(model, **identity(path, name, version))


def from_live(model: object) -> Toto2 | None:
    r"""Wrap a copy of a Toto 2 model in memory.

    Arguments:
        model: A `Toto2Model` of the package toto2.

    Returns:
        The frozen model; None if `model` is not one.
    """
    return Toto2(model, name="toto-2") if is_live(model, "toto2", "Toto2Model") else None

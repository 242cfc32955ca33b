r"""Chronos-Bolt, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["ChronosBolt", "GuardedInstanceNorm", "bytes_per_patch", "from_directory", "from_live", "name_of"]

import copy
from pathlib import Path
from typing import Any

import torch
from chronos import ChronosBoltPipeline
from chronos.chronos_bolt import ChronosBoltModelForForecasting, InstanceNorm
from torch import Tensor
from transformers import T5Config

from .base import FoundationModel
from .folders import BoltConfig, checked, identity, pretrained, read_config


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
            step_bytes=bytes_per_patch(model.config) // config.input_patch_stride,
        )
        # The copy also detaches the weights from the checkpoint file, which safetensors maps into memory.
        self.model = copy.deepcopy(model).float()
        self.model.instance_norm = GuardedInstanceNorm()
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        quantiles: Tensor = self.model(context=context).quantile_preds  # (N, Q, P)
        return quantiles


class GuardedInstanceNorm(InstanceNorm):  # type: ignore[misc]  # chronos has no types
    r"""Normalisation of Bolt and Chronos-2 with identical values, and finite gradients for every row.

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
            the value and `eps` for a constant row. With `use_arcsinh`, its inverse hyperbolic sine.
        """
        observed = ~x.isnan()
        values = torch.where(observed, x.float(), 0.0)
        location, scale = self._statistics(values, observed) if loc_scale is None else loc_scale
        standardised = (values - location) / scale
        if self.use_arcsinh:  # Chronos-2
            standardised = standardised.arcsinh()
        return torch.where(observed, standardised, torch.nan).to(x.dtype), (location, scale)

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
    options = checked(BoltConfig, read_config(path), path)
    model = pretrained(_Whole, T5Config, options, path)
    return ChronosBolt(model, **identity(path, name, version))


def from_live(model: object) -> ChronosBolt | None:
    r"""Wrap a copy of a Chronos-Bolt pipeline or module in memory.

    Arguments:
        model: The pipeline or the module.

    Returns:
        The frozen model; None if `model` is no Chronos-Bolt.
    """
    if isinstance(model, ChronosBoltPipeline):
        model = model.model
    if isinstance(model, ChronosBoltModelForForecasting):
        return ChronosBolt(model, name=name_of(model))
    return None


def name_of(model: object) -> str:
    r"""Return the name of a model of transformers in memory.

    Arguments:
        model: The model.

    Returns:
        The repository or the folder's name that it was loaded from; its class if it was not loaded.
    """
    name = str(getattr(model, "name_or_path", "")) or type(model).__name__
    return Path(name).name if Path(name).is_dir() else name


def bytes_per_patch(config: Any) -> int:
    r"""Return the peak memory of one patch in bytes, for a pass of a T5 without gradients.

    Arguments:
        config: The config of the T5.
    """
    return 4 * int(2 * config.d_ff + 3 * config.num_heads * config.d_kv + 6 * config.d_model)

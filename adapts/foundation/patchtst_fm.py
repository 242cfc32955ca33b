r"""PatchTST-FM of IBM Granite: a masked transformer over patches that forecasts quantiles."""

from __future__ import annotations

__all__ = ["PatchTSTFM", "from_directory", "from_live"]

import copy
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from .base import FoundationModel
from .chronos import GuardedInstanceNorm, name_of
from .folders import Checkpoint, Layers, Rate, Size, Steps, checked, identity, pretrained, read_config

#: The levels that are forecast if the model has them all; otherwise all that it has.
LEVELS = (0.01, 0.05, *(round(0.05 * step, 2) for step in range(2, 19)), 0.95, 0.99)

Kernel = Annotated[int, Field(ge=0, le=1024)]


class PatchTSTFMConfig(Checkpoint):
    r"""Config of a PatchTST-FM checkpoint."""

    context_length: Steps = 8192
    prediction_length: Size = 64
    d_patch: Size = 16
    patch_stride: Size | None = None
    patch_loss_windowing: Literal["rectangular", "triangular", "hamming"] | None = None
    d_model: Size = 384
    n_head: Size = 6
    n_layer: Layers = 6
    norm_first: bool = True
    qkv_bias: bool = True
    prehead_norm: bool = False
    pretrain_mask_ratio: Rate = 0.4
    pretrain_mask_cont: Size = 8
    randomize_cpm: bool = False
    num_quantile: Annotated[int, Field(ge=1, le=1000)] = 99
    block_type: Literal["transformer", "conformer"] = "transformer"
    conv_kernel_size: Kernel | list[Kernel] = 3
    is_causal: bool = False
    mlp_type: Literal["mlp", "swiglu"] = "mlp"
    use_pruning: bool = True

    @model_validator(mode="after")
    def _agrees(self) -> PatchTSTFMConfig:
        if self.d_model % self.n_head:
            raise ValueError("should have a d_model divisible by n_head")
        if self.context_length % self.d_patch or self.context_length <= _block(self):
            raise ValueError("should have a context_length that is a multiple of d_patch and longer than a pass")
        return self

    def numbers(self) -> int:
        return self.n_layer * 4 * self.d_model**2 + self.context_length // self.d_patch * self.d_model


def _block(config: Any) -> int:
    r"""Return the number of target steps that one pass computes in any case."""
    masked = config.pretrain_mask_cont * (2 if config.randomize_cpm else 1)
    return int(max(config.prediction_length, config.d_patch * max(masked, 2)))


class PatchTSTFM(FoundationModel):
    r"""Frozen PatchTST-FM (IBM, 2025): patches of a series, those of the target steps masked, with quantile forecasts.

    Differentiable; any horizon; equivariant to scale and shift of a series; the model itself reads missing steps. One
    pass forecasts as many steps as the longest mask of pretraining. Of the usual 99 levels it forecasts 21, from 0.01
    to 0.99.

    Cured: the model's own normalisation has no gradient for a constant window, and keeps its statistics in the module,
    which threads would share. Here the window is standardised before, by the same formula. Steps without any
    observation before them are padding, as in shorter contexts. On a GPU the package itself computes in bfloat16.

    Code Apache-2.0 (granite-tsfm, which conflicts with this library's versions). Weights
    `ibm-research/granite-timeseries-patchtst-fm-r1`: see their card.

    References:
        | A Time Series is Worth 64 Words: Long-term Forecasting with Transformers (Nie et al., 2023)
        | https://arxiv.org/abs/2211.14730, on which granite-tsfm's `PatchTSTFMForPrediction` builds

    Arguments:
        model: A `PatchTSTFMForPrediction`. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the model lacks the level 0.5.
    """

    reads_missing: ClassVar[bool] = True

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        config, block = model.config, _block(model.config)
        levels = [round(level, 6) for level in config.quantile_levels]
        chosen = LEVELS if set(LEVELS) <= set(levels) else tuple(levels)
        super().__init__(
            name=name, version=version, quantile_levels=chosen, context_length=config.context_length - block,
            prediction_length=block, step_bytes=-(-48 * config.d_model // config.d_patch),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self.model.backbone.norm_fn = HyperbolicSine()
        self.norm = GuardedInstanceNorm()
        self.register_buffer("chosen", torch.tensor([levels.index(level) for level in chosen]), persistent=False)
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        standard, (location, scale) = self.norm(context)
        observed = ~context.isnan()
        empty = ~observed.any(-1, keepdim=True)
        leading = (observed.cumsum(-1) == 0) & ~empty
        quantiles = self.model(
            past_values=torch.where(empty, 0.0, standard).unsqueeze(-1), pad_mask=leading.unsqueeze(-1),
            prediction_length=self.prediction_length,
        ).quantile_outputs[..., 0]  # (N, Q', P), all levels of the model  # fmt: skip
        forecast: Tensor = location.unsqueeze(1) + scale.unsqueeze(1) * quantiles[:, self.chosen]  # (N, Q, P)
        return forecast


class HyperbolicSine(nn.Module):
    r"""Replaces the model's normalisation, less its statistics: the values are already standardised."""

    def fit_transform(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Return the area hyperbolic sine of the values.

        Arguments:
            values: The standardised values, of any shape.
            mask: Ignored: the statistics are computed before.

        Returns:
            The transformed values.
        """
        return values.asinh()

    def inverse_transform(self, values: Tensor) -> Tensor:
        r"""Return the hyperbolic sine of the forecasts.

        Arguments:
            values: The forecasts, of any shape.

        Returns:
            The forecasts in units of the window's scale.
        """
        return values.sinh()


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> PatchTSTFM:
    r"""Load a PatchTST-FM checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete PatchTST-FM.
    """
    options = checked(PatchTSTFMConfig, read_config(path), path)
    from tsfm_public.models.patchtst_fm import PatchTSTFMConfig as PackageConfig
    from tsfm_public.models.patchtst_fm import PatchTSTFMForPrediction

    model = pretrained(PatchTSTFMForPrediction, PackageConfig, options, path, attention=None)
    return PatchTSTFM(model, **identity(path, name, version))


def from_live(model: object) -> PatchTSTFM | None:
    r"""Wrap a copy of a PatchTST-FM in memory.

    Arguments:
        model: A `PatchTSTFMForPrediction`.

    Returns:
        The frozen model; None if `model` is not a PatchTST-FM.
    """
    package: Any = sys.modules.get("tsfm_public.models.patchtst_fm")
    if package is None or not isinstance(model, package.PatchTSTFMForPrediction):
        return None
    return PatchTSTFM(model, name=name_of(model))

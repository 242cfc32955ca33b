r"""TiRex-2: an xLSTM on patches with attention over variates, differentiable with respect to its context."""

from __future__ import annotations

__all__ = ["TiRex2", "from_directory", "from_live"]

import copy
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from .base import FoundationModel
from .cures import guarded_sqrt
from .folders import identity
from .packages import built, is_live, schema_of

#: The activations that a config may name. The package calls any function by its full name, so it must be one of these.
ACTIVATION = Annotated[str, Field(pattern=r"^(torch\.nn\.(modules\.activation\.)?)?(SiLU|GELU|ReLU|Tanh|Mish|ELU)$")]


class TiRex2(FoundationModel):
    r"""Frozen TiRex-2 (Podest et al., 2026): an xLSTM on patches, with attention over the variates of a series.

    Differentiable; any horizon; equivariant to scale and shift of a series; the model itself handles missing steps.
    Each context is padded to the full context length, as the package does, so short ones cost as much as long ones. As
    the config of a checkpoint says, series with a clear linear trend are differenced (`tta_diff`), and the forecast is
    averaged with that of the negated series (`tta_sign_flip`). Differencing is decided per series, so a forecast jumps
    where the decision changes.

    Code and weights (`NX-AI/TiRex-2`): Apache-2.0. The code requires the package mlstm_kernels, which is under the NXAI
    Community License: companies with revenues above 100 million euros need a commercial licence for it.

    Two cures, both of which leave the numbers as they are:

    - The deviation takes the root of zero for constant rows, and missing steps pass NaN on to every gradient. The
      scaler of this instance computes the same statistics with guarded operations.
    - Two blocks compile at their first call, for about 20 s and with a C++ compiler. In this instance they are not
      compiled.

    References:
        | TiRex-2: Generalizing TiRex to Multivariate Data and Streaming (Podest et al., 2026)
        | https://arxiv.org/abs/2607.01204

    Arguments:
        model: A `TiRex2` of the package tirex2, or its `ForecastModel`'s. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
    """

    joint_mode = True

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        super().__init__(
            name=name, version=version, quantile_levels=[round(level, 6) for level in model.quantiles.tolist()],
            context_length=model.context_len, prediction_length=model.future_len,
            step_bytes=-(-4 * 24 * model.embedding_dim // model.input_patch_size),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        scaler = self.model.scaler
        scaler.scale = partial(
            _standardised, floor=scaler.eps, arcsinh=scaler.use_arcsinh, binary_aware=scaler.binaryaware
        )
        for block in (self.model.input_patch_embedding, self.model.output_patch_embedding):
            eager = {name: getattr(nn.Module, name) for name in ("__call__", "_call_impl")}
            block.__class__ = type(type(block).__name__, (type(block),), eager)
        self.freeze()

    def chunk_rows(self, length: int, prediction_length: int) -> int:
        return super().chunk_rows(self.context_length, prediction_length)  # every context is padded to it

    def _forecast(self, context: Tensor) -> Tensor:
        return self._forecast_jointly(context.unsqueeze(1)).squeeze(1)

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        quantiles = self._pass(context)
        if self.model.tta_sign_flip:  # the quantile at q of -x is minus that at 1 - q of x
            quantiles = (quantiles - self._pass(-context).flip(2)) / 2
        return quantiles

    def _pass(self, context: Tensor) -> Tensor:
        from tirex2 import TimeseriesType

        series = [TimeseriesType(target=rows, past_covariates=None, future_covariates=None) for rows in context]
        options = {"tta_diff": self.model.tta_diff, "preserve_grad": True}
        return torch.stack(self.model._predict(series, self.prediction_length, **options))  # (B, D, Q, P)


def _standardised(x: Tensor, *, floor: float, arcsinh: bool, binary_aware: bool) -> tuple[Tensor, Any]:
    r"""Standardise each row over its observed steps; NaN where `x` is."""
    observed = ~x.isnan()
    values, count = torch.where(observed, x, 0.0), observed.sum(-1, keepdim=True)
    mean = values.sum(-1, keepdim=True) / count.clamp(min=1)
    squares = torch.where(observed, values - mean, 0.0).square()
    deviation = guarded_sqrt(squares.sum(-1, keepdim=True) / count.clamp(min=1), floor)
    deviation = torch.where(count > 0, deviation, 1.0)
    binary = None
    if binary_aware:
        binary = ((values == 0) | (values == 1)).all(-1, keepdim=True)
        mean, deviation = torch.where(binary, 0.0, mean), torch.where(binary, 1.0, deviation)
    standard = torch.where(observed, (values - mean) / deviation, 0.0)
    if arcsinh:
        standard = standard.arcsinh() if binary is None else torch.where(binary, standard, standard.arcsinh())
    return torch.where(observed, standard, torch.nan), (mean, deviation, binary)


def _numbers(config: Any) -> float:
    return float(6 * config.num_blocks * config.embedding_dim**2)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> TiRex2:
    r"""Load a TiRex-2 checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete TiRex-2 checkpoint.
    """
    import tirex2
    from tirex2.model import tirex2 as module

    schema = schema_of(
        tirex2.TiRex2, stack_config=schema_of(module.MultivariateStackConfig), act_func=ACTIVATION, device=None,
        tokenizer_cfg=schema_of(module.Tokenizer), scaler_cfg=schema_of(module.Scaler), matmul_precision=None,
        stack_out_norm_config=dict[str, float | bool] | None,
    )  # fmt: skip
    model = built(path, schema, lambda x: tirex2.TiRex2(**x, device="cpu"), _numbers)
    return TiRex2(model, **identity(path, name, version))


def from_live(model: object) -> TiRex2 | None:
    r"""Wrap a copy of a TiRex-2 model in memory.

    Arguments:
        model: A `TiRex2` of the package tirex2, or the `ForecastModel` that its `load_model` returns.

    Returns:
        The frozen model; None if `model` is not one.
    """
    if is_live(model, "tirex2", "ForecastModel"):
        model = model.model  # type: ignore[attr-defined]
    return TiRex2(model, name="tirex-2") if is_live(model, "tirex2", "TiRex2") else None

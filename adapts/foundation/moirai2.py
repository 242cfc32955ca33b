r"""Moirai 2 of Salesforce: a causal transformer over patches that forecasts quantiles."""

from __future__ import annotations

__all__ = ["Moirai2", "from_directory", "from_live"]

import copy
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import reading
from .base import FoundationModel
from .cures import zeros_where_missing
from .folders import REMEDY, Checkpoint, Layers, Level, Rate, Size, checked, identity, read_config
from .weights import fill

#: What the model adds to the variance of a series.
EPSILON = 1e-5


class Moirai2Config(Checkpoint):
    r"""Config of a Moirai 2 checkpoint: the arguments of its module."""

    d_model: Size
    d_ff: Size
    num_layers: Layers
    patch_size: Size
    max_seq_len: Size
    attn_dropout_p: Rate = 0.0
    dropout_p: Rate = 0.0
    scaling: bool = True
    num_predict_token: Size = 1
    quantile_levels: Annotated[list[Level], Field(min_length=1, max_length=1000)] = [
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

    def numbers(self) -> int:
        return self.num_layers * (4 * self.d_model**2 + 3 * self.d_model * self.d_ff)


class Moirai2(FoundationModel):
    r"""Frozen Moirai 2 (Liu et al., 2025): tokens of patches, with quantile forecasts of the patches that follow.

    Differentiable; any horizon; the model itself reads missing steps. It can also forecast the channels of a series in
    one group. It adds a constant to the variance of a series, so scale carries over only approximately.

    Cured: the package writes into its location and scale after they are computed, so that its backward pass raises.
    Here the same formula selects instead. Patches without any observation before them are padding.

    Code Apache-2.0 (uni2ts, which conflicts with this library's versions). The package does not state the licence of
    the weights `Salesforce/moirai-2.0-R-small`: see their card.

    References:
        | Moirai 2.0: When Less Is More for Time Series Forecasting (Liu et al., 2025)
        | https://arxiv.org/abs/2511.11698

    Arguments:
        model: A `Moirai2Module`. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the model lacks the level 0.5.
    """

    reads_missing: ClassVar[bool] = True
    joint_mode: ClassVar[bool] = True

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        super().__init__(
            name=name, version=version, quantile_levels=model.quantile_levels,
            context_length=(model.max_seq_len - model.num_predict_token) * model.patch_size,
            prediction_length=model.num_predict_token * model.patch_size,
            step_bytes=-(-64 * model.d_model // model.patch_size),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        if model.scaling:
            self.model.scaler = SelectingScaler()
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        return self._forecast_jointly(context.unsqueeze(1)).squeeze(1)

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        channels, size = context.shape[1], self.model.patch_size
        values, observed = zeros_where_missing(context, multiple=size)
        values, observed = values.unflatten(2, (-1, size)), observed.unflatten(2, (-1, size))  # (B, D, T, p)
        tokens = values.shape[2]
        used = observed.any(3).any(1).cumsum(1) > 0  # (B, T), from the first patch with an observation on
        used = used | (torch.arange(tokens, device=context.device) == tokens - 1)
        time = (used.cumsum(1) - 1).clamp(min=0)
        variate = torch.arange(channels, device=context.device).repeat_interleave(tokens).expand(len(context), -1)
        output = self.model(
            values.flatten(1, 2), observed.flatten(1, 2), used.long().repeat(1, channels), time.repeat(1, channels),
            variate, torch.zeros_like(variate, dtype=torch.bool), training_mode=False,
        )  # (B, D * T, blocks * Q * p)  # fmt: skip
        last: Tensor = output.unflatten(1, (channels, tokens))[:, :, -1]
        blocks: Tensor = last.unflatten(2, (self.model.num_predict_token, len(self.quantile_levels), size))
        return blocks.transpose(2, 3).flatten(3)  # (B, D, Q, P)


class SelectingScaler(nn.Module):
    r"""The model's standardisation of packed series, with gradients: it selects and does not overwrite."""

    def forward(self, target: Tensor, observed: Tensor, sample: Tensor, variate: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return location and scale of the series of each token.

        Arguments:
            target: The patches, with shape :math:`(B, T, p)`.
            observed: Where they are observed, with shape :math:`(B, T, p)`.
            sample: The sample of each token, with shape :math:`(B, T)`; 0 marks padding.
            variate: The variate of each token, with shape :math:`(B, T)`.

        Returns:
            Location and scale, with shape :math:`(B, T, 1)`; 0 and 1 for padding.
        """
        target, weight = target.double(), observed.double()
        same = (sample.unsqueeze(2) == sample.unsqueeze(1)) & (variate.unsqueeze(2) == variate.unsqueeze(1))

        def total(values: Tensor) -> Tensor:
            return same.double() @ (values * weight).sum(2, keepdim=True)  # (B, T, 1), over all tokens of the series

        count = total(torch.ones_like(target))
        location = total(target) / count.clamp(min=1)
        variance = total((target - location).square()) / (count - 1).clamp(min=1)
        used = (sample != 0).unsqueeze(2)
        scale = torch.where(used, (variance + EPSILON).sqrt(), 1.0)
        return torch.where(used, location, 0.0).to(torch.float32), scale.to(torch.float32)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> Moirai2:
    r"""Load a Moirai 2 checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete Moirai 2.
    """
    options = checked(Moirai2Config, read_config(path), path)
    from uni2ts.model.moirai2 import Moirai2Module

    with reading(f"the config of '{path}' describes no model", REMEDY):
        model = Moirai2Module(**{"attn_dropout_p": 0.0, "dropout_p": 0.0, **options})
    fill(model, path)
    return Moirai2(model, **identity(path, name, version))


def from_live(model: object) -> Moirai2 | None:
    r"""Wrap a copy of a Moirai 2 in memory.

    Arguments:
        model: A `Moirai2Module`, or a `Moirai2Forecast` that holds one.

    Returns:
        The frozen model; None if `model` is not a Moirai 2.
    """
    package: Any = sys.modules.get("uni2ts.model.moirai2")
    if package is None:
        return None
    inner = model.module if isinstance(model, package.Moirai2Forecast) else model
    return Moirai2(inner, name="moirai-2") if isinstance(inner, package.Moirai2Module) else None

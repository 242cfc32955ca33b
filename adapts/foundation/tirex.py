r"""TiRex of NXAI: an xLSTM over patches, used without gradients."""

from __future__ import annotations

__all__ = ["LICENCE", "TiRex", "from_directory", "from_live"]

import copy
import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from torch import Tensor

from .._logging import get_logger
from .base import FoundationModel

#: What is logged when a TiRex is wrapped.
LICENCE = (
    "Built with technology from NXAI: TiRex and tirex-ts are under the NXAI Community License. Organisations with an "
    "annual revenue above EUR 100 million need a commercial licence of NXAI for products and services."
)
#: The most patches that one pass forecasts.
PATCHES = 8


class TiRex(FoundationModel):
    r"""Frozen TiRex (Auer et al., 2025): an xLSTM over patches of one series, with quantile forecasts.

    Forward only: in the package the gradient to the context is NaN for contexts shorter than the model's, and otherwise
    that of a bfloat16 recurrence, which differs from the slope. No encoder can be trained before it. Any horizon;
    equivariant to scale and shift of a series; the model itself reads missing steps. One pass forecasts eight patches:
    as in the package, patches of target steps are read as missing.

    Code and weights `NX-AI/TiRex` are under the NXAI Community License, which is logged when a model is wrapped: see
    `LICENCE`. The checkpoint is no safetensors file, so `tirex.load_model` has to load it.

    References:
        | TiRex: Zero-Shot Forecasting Across Long and Short Horizons with Enhanced In-Context Learning
        | (Auer et al., 2025), https://arxiv.org/abs/2505.23719

    Arguments:
        model: A `TiRexZero`. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the model lacks the level 0.5.
    """

    reads_missing: ClassVar[bool] = True

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        config = model.config
        super().__init__(
            name=name, version=version, quantile_levels=config.quantiles, context_length=config.train_ctx_len,
            prediction_length=PATCHES * config.output_patch_size, differentiable=False,
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self.freeze()
        get_logger(__name__).warning(LICENCE)

    def _forecast(self, context: Tensor) -> Tensor:
        forecast: tuple[Tensor, Tensor] = self.model._forecast_quantiles(
            context, self.prediction_length, output_device=str(self.device), max_accelerated_rollout_steps=PATCHES
        )
        return forecast[0].clone().mT  # (N, Q, P); a clone, as the package computes in inference mode


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> NoReturn:
    r"""Refuse a directory: TiRex is published as a Lightning checkpoint.

    Arguments:
        path: The directory.
        name: Ignored.
        version: Ignored.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"'{path}' names a TiRex, which has no safetensors checkpoint: load it with tirex.load_model('NX-AI/TiRex') "
        "and pass the model"
    )


def from_live(model: object) -> TiRex | None:
    r"""Wrap a copy of a TiRex in memory.

    Arguments:
        model: A `TiRexZero`, as `tirex.load_model` returns it.

    Returns:
        The frozen model; None if `model` is not a TiRex.
    """
    package: Any = sys.modules.get("tirex.models.tirex")
    if package is None or not isinstance(model, package.TiRexZero):
        return None
    return TiRex(model, name="tirex")

r"""A distribution for models that forecast points: quantiles of their past errors, by lead."""

from __future__ import annotations

__all__ = ["LEVELS", "ResidualDistribution", "context_scale", "residual_quantiles", "with_distribution"]

import hashlib
import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from ..persistence.tensors import require_names, taken
from .base import CALLABLE, FoundationModel
from .cures import carried_forward

#: The quantile levels of the distribution.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: The minimum number of observed errors per lead.
LEAST = 20


def context_scale(context: Tensor) -> Tensor:
    r"""Return the mean absolute difference of consecutive observations.

    It follows the size of the errors of a good forecast: it does not read the level of a series, and a few large steps
    move it less than a standard deviation. `benchmarks/foundation/point_scales.py` compares it with others.

    Arguments:
        context: The series, with shape :math:`(N, L)`. NaN marks a missing step, which is skipped.

    Returns:
        The scale, with shape :math:`(N,)`; 0 for a series with fewer than two different observations. Its gradient is
        finite.
    """
    pairs = (~context.isnan()).sum(1) - 1
    steps: Tensor = carried_forward(context).diff(dim=1).abs().sum(1)  # a step that is carried forward adds nothing
    return steps / pairs.clamp(min=1)


class _Residuals(nn.Module):
    r"""Quantiles of errors by lead, with shape (Q, P)."""

    quantiles: Tensor

    def __init__(self, quantiles: Tensor) -> None:
        super().__init__()
        self.register_buffer("quantiles", quantiles)


class ResidualDistribution(FoundationModel):
    r"""A model of points with nine deciles: its forecast plus quantiles of its past errors, by lead.

    The errors of a lead are in units of the context's `context_scale`, so that a wide window has a wide forecast. Their
    quantiles are estimated by `Adapter.fit` on train windows, all channels together, and saved with the fit. The median
    of the errors corrects a bias. Before a fit they are those of a random walk with normal steps. One pass forecasts as
    many steps as the fit, whose errors have been observed: beyond its own horizon the model appends its points.

    Arguments:
        model: A foundation model of the one level 0.5. It is shared, not copied.

    Example:
        >>> from adapts.foundation.point import ResidualDistribution
        >>> def last_value(context):
        ...     return context[:, -1:].expand(-1, 4)
        >>> model = adapts.FoundationModel.wrap(
        ...     last_value, quantile_levels=[0.5], context_length=64, prediction_length=4, name="last value"
        ... )
        >>> ResidualDistribution(model)(torch.randn(3, 64), 12).shape
        torch.Size([3, 9, 12])
    """

    def __init__(self, model: FoundationModel) -> None:
        assert model.quantile_levels == (0.5,)
        super().__init__(
            name=model.name, version=model.version, quantile_levels=LEVELS, context_length=model.context_length,
            prediction_length=model.prediction_length, differentiable=model.differentiable, step_bytes=model.step_bytes,
        )  # fmt: skip
        self.model = model
        self.residuals = _Residuals(_random_walk(model.prediction_length))
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        point: Tensor = self.model(context, self.prediction_length, unroll="median")  # (N, 1, P)
        return point + context_scale(context)[:, None, None] * self.residuals.quantiles.to(point)  # (N, Q, P)

    def fingerprint(self) -> dict[str, str]:
        own = super().fingerprint()
        return own if self.model.version != CALLABLE else {**own, "sha256": self._joined(own["sha256"], declared=True)}

    def cache_key(self) -> str:
        own = super().fingerprint()["sha256"]
        return own if self.model.version != CALLABLE else self._joined(own, declared=False)

    def _joined(self, own: str, *, declared: bool) -> str:
        r"""Return a digest of the quantiles, `own`, and of a function, whose tensors tell nothing about it."""
        function = self.model.fingerprint()["sha256"] if declared else self.model.cache_key()
        return hashlib.sha256(f"{own} {function}".encode()).hexdigest()

    def untrained_head(self) -> nn.Module:
        return self.residuals

    def with_head(self, state: Mapping[str, Tensor]) -> Self:
        what = f"the errors of the model {self.name} of points"
        require_names(what, state, ["quantiles"])
        quantiles = taken(state, "quantiles", torch.float32, (len(LEVELS), None))
        if quantiles.shape[1] == 0 or bool((quantiles.diff(dim=0) < 0).any()):
            raise ValueError(f"{what}: their quantiles are expected to increase with the level, for at least one lead")
        copied = type(self)(self.model)
        copied.residuals.quantiles = quantiles.clone().to(self.device)
        copied.prediction_length = quantiles.shape[1]
        return copied

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        model = self.model.with_frequency(frequency, season_length)
        return self if model is self.model else type(self)(model).with_head({"quantiles": self.residuals.quantiles})


def residual_quantiles(model: ResidualDistribution, past: Tensor, future: Tensor) -> Tensor | None:
    r"""Estimate the quantiles of the errors of the points of a model, by lead.

    Arguments:
        model: The model.
        past: The contexts, with shape :math:`(N, L)`. NaN marks a missing step.
        future: The observed targets, with shape :math:`(N, H)`. NaN marks a missing one.

    Returns:
        The quantiles in units of the contexts' scales, with shape :math:`(Q, H)`; None if a lead has fewer than 20
        errors. Constant contexts have no unit, and are left out.
    """
    points = model.model.predict(past, future.shape[1])[:, 0]  # (N, H)
    scale = context_scale(past)
    errors = (future - points) / torch.where(scale > 0, scale, torch.nan).unsqueeze(1)
    if int((~errors.isnan()).sum(0).min()) < LEAST:
        return None
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    leads = [torch.nanquantile(lead.double(), levels.to(lead.device)) for lead in errors.split(1, dim=1)]
    quantiles: Tensor = torch.stack(leads, 1).float().cpu()
    return quantiles


def with_distribution(model: FoundationModel) -> FoundationModel:
    r"""Return a model with a distribution: the model itself unless it forecasts points.

    Arguments:
        model: The model.
    """
    return model if len(model.quantile_levels) > 1 else ResidualDistribution(model)


def _random_walk(prediction_length: int) -> Tensor:
    r"""Return the quantiles (Q, P) of a random walk with normal steps, in units of their mean absolute value."""
    scores = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
    leads = torch.arange(1, prediction_length + 1, dtype=torch.float64)
    quantiles: Tensor = math.sqrt(math.pi / 2) * scores[:, None] * leads.sqrt()
    return quantiles.float()

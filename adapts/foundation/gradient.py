r"""The gradient of a foundation model with respect to its context, compared with finite differences."""

from __future__ import annotations

__all__ = ["DIRECTIONS", "STEPS", "gradient_error"]

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor

from .base import FoundationModel, Unroll

#: The steps of the central differences, relative to the standard deviation of each row. Long ones cross kinks, as where
#: two quantiles cross or a rectifier switches; short ones are lost in rounding.
STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
#: The number of directions.
DIRECTIONS = 4


def gradient_error(
    model: FoundationModel, context: Tensor, prediction_length: int, *, unroll: Unroll = "median", double: bool = False
) -> float:
    r"""Return the relative error of the directional derivatives of a forecast against central differences.

    The derivatives are those of a random linear combination of all quantiles, in four random directions. Each step size
    has an error, and the smallest one counts: no single step suits all models. A true gradient has an error of about
    0.01 in single precision, and of 1e-6 in double precision. One that misses a dependence, such as that of detached
    normalisation statistics, has an error of the order of 1.

    Arguments:
        model: The model. Whether it declares itself differentiable does not matter.
        context: The series, with shape :math:`(N, L)`, without constant rows.
        prediction_length: The number of steps :math:`H`.
        unroll: As for `FoundationModel.forward`.
        double: Whether to compute in double precision. The weights are converted meanwhile, and restored.

    Returns:
        :math:`\min_\epsilon \lVert s_\epsilon - J v \rVert / \lVert s_\epsilon \rVert`, with the differences
        :math:`s_\epsilon` in the directions :math:`v`; NaN if the gradient is NaN, infinite if there is none.
    """
    generator = torch.Generator().manual_seed(2)
    dtype = torch.float64 if double else torch.float32
    series = context.detach().to(model.device, dtype)[:, -model.context_length :]
    scale = series.nan_to_num().std(1, correction=0, keepdim=True)
    directions = (torch.randn(DIRECTIONS, *series.shape, generator=generator).to(series) * scale)[:, None]
    shape = (len(series), len(model.quantile_levels), prediction_length)
    weights = torch.randn(shape, generator=generator).to(series.device, torch.float64)
    weights = weights / scale.double().unsqueeze(2)

    def combined(rows: Tensor) -> Tensor:
        return (weights * model.unrolled(rows, prediction_length, unroll).double()).sum()

    with _in_precision(model, dtype):
        leaf = series.clone().requires_grad_()
        total = combined(leaf)
        if not total.requires_grad:
            return float("inf")
        (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
        if gradient is None:
            return float("inf")
        slopes = (directions.squeeze(1).double() * gradient.double()).sum((1, 2))  # (V,)
        with torch.no_grad():
            errors = []
            for step in STEPS:
                moved = [[combined(series + sign * step * way[0]) for sign in (1, -1)] for way in directions]
                differences = torch.stack([(ahead - behind) / (2 * step) for ahead, behind in moved])
                errors.append((differences - slopes).norm() / differences.norm().clamp(min=1e-30))
    return float(torch.stack(errors).min())


@contextmanager
def _in_precision(model: FoundationModel, dtype: torch.dtype) -> Iterator[None]:
    r"""Convert the floating-point tensors of a model within a `with` block, and restore them exactly."""
    if dtype == torch.float32:  # as it is
        yield
        return
    tensors = [tensor for tensor in chain(model.parameters(), model.buffers()) if tensor.is_floating_point()]
    originals = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, original in zip(tensors, originals, strict=True):
            tensor.data = original

r"""Helpers for backends: gaps, normalisation with finite gradients, and functions replaced within a package."""

from __future__ import annotations

__all__ = ["by_leading_gap", "carried_forward", "guarded_sqrt", "replaced", "zeros_where_missing"]

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Model = TypeVar("_Model")
_lock = threading.RLock()  # one for all modules: a function that is replaced may be called by another package


def zeros_where_missing(context: Tensor, multiple: int = 1, length: int | None = None) -> tuple[Tensor, Tensor]:
    r"""Return values and mask as models with a mask read them, padded on the left.

    Arguments:
        context: The series, with shape :math:`(*, L)`. NaN marks a missing step.
        multiple: The number of steps of the result is the next multiple of it; ignored if `length` is given.
        length: The number of steps of the result, at least :math:`L`.

    Returns:
        The values, 0 at missing and padded steps, and a mask that is True at observed steps; both with shape
        :math:`(*, L')`. Gradients reach the observed steps and are 0 at missing ones.

    Example:
        >>> from adapts.foundation.cures import zeros_where_missing
        >>> zeros_where_missing(torch.tensor([[1.0, torch.nan, 2.0]]), multiple=4)
        (tensor([[0., 1., 0., 2.]]), tensor([[False,  True, False,  True]]))
    """
    observed = ~context.isnan()
    padding = -context.shape[-1] % multiple if length is None else length - context.shape[-1]
    assert padding >= 0
    values = torch.where(observed, context, 0.0)
    return nn.functional.pad(values, (padding, 0)), nn.functional.pad(observed, (padding, 0))


def carried_forward(context: Tensor) -> Tensor:
    r"""Fill in missing steps, for models that read none.

    Arguments:
        context: The series, with shape :math:`(*, L)`. NaN marks a missing step.

    Returns:
        The series with the last observation at each missing step, the first one before it, and zeros where nothing is
        observed. The gradient of a filled step reaches the observation.

    Example:
        >>> from adapts.foundation.cures import carried_forward
        >>> carried_forward(torch.tensor([[torch.nan, 1.0, torch.nan, 2.0]]))
        tensor([[1., 1., 1., 2.]])
    """
    observed, length = ~context.isnan(), context.shape[-1]
    step = torch.arange(length, device=context.device)
    before = torch.where(observed, step, -1).cummax(-1).values
    after = torch.where(observed, step, length).flip(-1).cummin(-1).values.flip(-1)
    source = torch.where(before >= 0, before, after).clamp(max=length - 1)
    return torch.where(observed, context, 0.0).gather(-1, source)


def guarded_sqrt(x: Tensor, floor: float = 0.0) -> Tensor:
    r"""Return :math:`\max(\sqrt x, f)`, with a finite gradient for every argument.

    The slope of the square root is infinite at 0, and in the backward pass infinity times zero gives NaN. Here the root
    is taken of arguments above :math:`f^2` only; all others get the floor and the gradient 0.

    Arguments:
        x: The argument, of any shape. Negative values, which rounding may give to a variance, count as 0.
        floor: The smallest result :math:`f`, not negative.

    Returns:
        The root, with the shape of `x`.

    Example:
        >>> from adapts.foundation.cures import guarded_sqrt
        >>> guarded_sqrt(torch.tensor([4.0, 0.0, -1e-9]), floor=0.5)
        tensor([2.0000, 0.5000, 0.5000])
    """
    above = x > floor * floor
    return torch.where(above, torch.where(above, x, 1.0).sqrt(), floor)


def by_leading_gap(forecast: Callable[[_Model, Tensor], Tensor]) -> Callable[[_Model, Tensor], Tensor]:
    r"""Decorate `_forecast` of a model that is not indifferent to missing steps before the first observation.

    Rows with the same number of such steps are forecast together, without these steps. A row without any observation
    is passed as it is.

    Arguments:
        forecast: The method, :math:`(n, l) \to (n, Q, P)`. It is called once for each number of leading missing steps,
            with contexts of different lengths.

    Returns:
        The method, :math:`(N, L) \to (N, Q, P)`.
    """

    @functools.wraps(forecast)
    def grouped(self: _Model, context: Tensor) -> Tensor:
        observed = ~context.isnan()
        leading = torch.where(observed.any(-1), observed.int().argmax(-1), 0)  # (N,)
        counts = leading.unique().tolist()
        if len(counts) == 1:
            return forecast(self, context[:, counts[0] :])
        order = torch.cat([(leading == count).nonzero().squeeze(1) for count in counts])
        parts = [forecast(self, context[leading == count, count:]) for count in counts]
        return torch.cat(parts)[order.argsort()]  # (N, Q, P)

    return grouped


@contextmanager
def replaced(module: ModuleType, **names: Any) -> Iterator[None]:
    r"""Replace functions of a module within a `with` block.

    Threads may share a model, and a module is shared by all models. The block therefore holds a lock: other blocks,
    of whichever module, wait. It must hold the forward pass only. Where a package looks the function up on an instance,
    set it on that instance instead, which needs no lock.

    Arguments:
        module: The module.
        names: The objects to put in place, by name.

    Yields:
        Nothing.

    Raises:
        ValueError: If the module lacks one of the names.
    """
    if absent := [name for name in names if not hasattr(module, name)]:
        raise ValueError(
            f"the installed version of {module.__name__.partition('.')[0]!r} has no {module.__name__}.{absent[0]}, "
            f"which adapts replaces for a true gradient: install a version that pyproject.toml of adapts permits"
        )
    with _lock:
        originals = {name: getattr(module, name) for name in names}
        try:
            for name, value in names.items():
                setattr(module, name, value)
            yield
        finally:
            for name, value in originals.items():
                setattr(module, name, value)

r"""Zero-shot forecasts that were made before: within a fit, a search or a backtest, nothing is forecast twice."""

from __future__ import annotations

__all__ = ["ForecastCache", "cached_forecasts", "current_cache"]

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base import FoundationModel

#: The bytes that the forecasts of one cache may take; the oldest go first.
BUDGET = 2**28
#: The fewest series that are forecast at a time where some of a batch are known: matrix products of one to four rows
#: round otherwise than those of more.
LEAST = 8

_current: ContextVar[ForecastCache | None] = ContextVar("forecasts", default=None)


class ForecastCache:
    r"""Forecasts by the weights of their model, their context and their length.

    Arguments:
        budget: The bytes that they may take.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.bytes = 0
        self._forecasts: OrderedDict[bytes, Tensor] = OrderedDict()
        self._models: dict[int, tuple[FoundationModel, str]] = {}

    def predict(
        self, model: FoundationModel, context: Tensor, prediction_length: int, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        r"""Forecasts series, those that were forecast before aside.

        Arguments:
            model: The model.
            context: The series, with shape :math:`(N, L)`.
            prediction_length: The number of steps :math:`H`.
            compute: What forecasts series, :math:`(n, L) \to (n, Q, H)`.

        Returns:
            The quantiles, with shape :math:`(N, Q, H)`.
        """
        keys = self._keys(model, context, prediction_length)
        missing = [n for n, key in enumerate(keys) if key not in self._forecasts]
        if len(missing) == len(keys):
            quantiles = compute(context)
            for key, forecast in zip(keys, quantiles, strict=True):
                self._keep(key, forecast)
            return quantiles
        found = {key: self._forecasts[key] for key in keys if key in self._forecasts}
        if missing:
            least = min(LEAST, len(keys))
            asked = [*missing, *missing[:1] * (least - len(missing))]  # none but missing ones, one of them repeated
            for n, forecast in zip(missing, compute(context[asked]), strict=False):
                found[keys[n]] = forecast
                self._keep(keys[n], forecast)
        for key in keys:
            if key in self._forecasts:
                self._forecasts.move_to_end(key)
        return torch.stack([found[key] for key in keys])

    def _keys(self, model: FoundationModel, context: Tensor, prediction_length: int) -> list[bytes]:
        if id(model) not in self._models:  # held, so that no other model gets its number
            self._models[id(model)] = model, model.fingerprint()["sha256"]
        head = f"{self._models[id(model)][1]} {model.name} {prediction_length} {context.dtype}".encode()
        rows = context.detach().cpu().contiguous().view(torch.uint8).numpy()
        return [hashlib.blake2b(head + row.tobytes(), digest_size=16).digest() for row in rows]

    def _keep(self, key: bytes, forecast: Tensor) -> None:
        if key in self._forecasts:
            return
        self._forecasts[key] = forecast.clone()
        self.bytes += forecast.nbytes
        while self.bytes > self.budget:
            self.bytes -= self._forecasts.popitem(last=False)[1].nbytes


@contextmanager
def cached_forecasts() -> Iterator[ForecastCache]:
    r"""Keeps the zero-shot forecasts of a block, for all models that forecast in it.

    Yields:
        The cache: that of the block around it, where there is one.
    """
    held = _current.get()
    if held is not None:
        yield held
        return
    token = _current.set(ForecastCache())
    try:
        yield _current.get()  # type: ignore[misc]  # just set
    finally:
        _current.reset(token)


def current_cache() -> ForecastCache | None:
    r"""Returns the cache of the block that this runs in, if there is one."""
    return _current.get()

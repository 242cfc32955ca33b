r"""Cache of zero-shot forecasts: within a fit, a search or a backtest, no window is forecast twice."""

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

#: The maximum size of one cache in bytes; the least recently used forecasts are dropped first.
BUDGET = 2**28
#: The minimum batch size if part of a batch is cached: matrix products of one to four rows round differently from
#: larger ones.
LEAST = 8

_current: ContextVar[ForecastCache | None] = ContextVar("forecasts", default=None)


class ForecastCache:
    r"""Cache of forecasts, keyed by the model's weights, the context and the prediction length.

    Arguments:
        budget: The maximum size in bytes.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.bytes = 0
        self._forecasts: OrderedDict[bytes, Tensor] = OrderedDict()
        self._models: dict[int, tuple[FoundationModel, str]] = {}

    def predict(
        self, model: FoundationModel, context: Tensor, prediction_length: int, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        r"""Forecast series, and compute only those that are not cached.

        Arguments:
            model: The model.
            context: The series, with shape :math:`(N, L)`.
            prediction_length: The number of steps :math:`H`.
            compute: A function that forecasts series, :math:`(n, L) \to (n, Q, H)`.

        Returns:
            The quantiles, with shape :math:`(N, Q, H)`.
        """
        keys = self._keys(model, context, prediction_length)
        missing = [n for n, key in enumerate(keys) if key not in self._forecasts]
        if len(missing) == len(keys):
            quantiles = compute(context)
            for key, forecast in zip(keys, quantiles, strict=True):
                self._store(key, forecast)
            return quantiles
        forecasts = {key: self._forecasts[key] for key in keys if key in self._forecasts}
        if missing:
            least = min(LEAST, len(keys))
            rows = [
                *missing,
                *missing[:1] * (least - len(missing)),
            ]  # repeat a missing row up to the minimum size
            for n, forecast in zip(missing, compute(context[rows]), strict=False):
                forecasts[keys[n]] = forecast
                self._store(keys[n], forecast)
        for key in keys:
            if key in self._forecasts:
                self._forecasts.move_to_end(key)
        return torch.stack([forecasts[key] for key in keys])

    def _keys(self, model: FoundationModel, context: Tensor, prediction_length: int) -> list[bytes]:
        if id(model) not in self._models:  # hold the model, so that its id is not reused
            self._models[id(model)] = model, model.cache_key()
        about = f"{self._models[id(model)][1]} {model.name} {model.series} {prediction_length} {context.dtype}"
        rows = context.detach().cpu().clone(memory_format=torch.contiguous_format).view(torch.uint8).numpy()
        return [hashlib.blake2b(about.encode() + row.tobytes(), digest_size=16).digest() for row in rows]

    def _store(self, key: bytes, forecast: Tensor) -> None:
        if key in self._forecasts:
            return
        self._forecasts[key] = forecast.clone()
        self.bytes += forecast.nbytes
        while self.bytes > self.budget:
            self.bytes -= self._forecasts.popitem(last=False)[1].nbytes


@contextmanager
def cached_forecasts(budget: int = BUDGET) -> Iterator[ForecastCache]:
    r"""Cache the zero-shot forecasts of all models within a `with` block.

    Arguments:
        budget: The maximum size in bytes; that of the enclosing block holds, if there is one.

    Yields:
        The cache; that of the enclosing block, if there is one.
    """
    cache = _current.get()
    if cache is not None:
        yield cache
        return
    token = _current.set(ForecastCache(budget))
    try:
        yield _current.get()  # type: ignore[misc]  # just set
    finally:
        _current.reset(token)


def current_cache() -> ForecastCache | None:
    r"""Return the cache of the enclosing `cached_forecasts` block, or None."""
    return _current.get()

r"""Functions and modules of the user's own as foundation models."""

from __future__ import annotations

__all__ = ["Wrapped", "wrapped"]

import copy
import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._logging import without_warnings
from ..errors import reading, shown
from .base import CALLABLE, FoundationModel
from .cures import carried_forward
from .gradient import gradient_error

#: The longest context of the trial call, unless the function takes only longer ones, and the largest error of a
#: gradient that counts as true.
TRIED, TOLERATED = 512, 0.05


class Wrapped(FoundationModel):
    r"""A function of series; see `FoundationModel.wrap`.

    Arguments:
        function: The function or module.
        forms: Whether it takes, and whether it returns, numpy arrays.
        **declared: The arguments of `FoundationModel`.
    """

    reads_missing = False

    def __init__(self, function: Callable[..., Any], forms: tuple[bool, bool], **declared: Any) -> None:
        super().__init__(**declared)
        self.function, self.forms = function, forms
        self.least = 1  # the smallest number of steps that the function takes
        self.number = uuid.uuid4().hex  # a copy that another process pickled keeps it
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        filled = carried_forward(context)
        constant = (filled == filled[:, :1]).all(1, keepdim=True)  # (N, 1)
        last = filled[:, -1:].unsqueeze(2)
        if bool(constant.all()):
            return last.expand(-1, len(self.quantile_levels), self.prediction_length)
        series = context if self.reads_missing else filled
        missing = self.least - series.shape[1]
        if missing > 0:  # fits forecast from as few as three steps
            first = filled[:, :1].expand(-1, missing)
            series = torch.cat([torch.full_like(first, torch.nan) if self.reads_missing else first, series], dim=1)
        ramp = torch.arange(series.shape[1]).to(series)  # a stand-in, as many functions divide by a deviation
        result = self._called(torch.where(constant, ramp, series))
        return torch.where(constant.unsqueeze(2), last, result)  # (N, Q, P)

    def _called(self, series: Tensor) -> Tensor:
        given = series.detach().cpu().numpy() if self.forms[0] else series
        with reading(
            f"the function of {self.name!r} fails on series of shape {tuple(series.shape)}",
            f"mend it; {self.least} to {self.context_length} steps come",
        ):
            result = self.function(given)
            if self.forms[1]:
                result = torch.from_numpy(np.array(result)).to(series)
        shape = len(series), len(self.quantile_levels), self.prediction_length
        if len(self.quantile_levels) == 1 and tuple(result.shape) == (shape[0], shape[2]):
            result = result.unsqueeze(1)
        if tuple(result.shape) != shape:
            points = f" or {(shape[0], shape[2])}" if shape[1] == 1 else ""
            raise ValueError(
                f"{self.name} is expected to return an array of shape {shape}{points}, (series, levels, steps), for "
                f"series of shape {tuple(series.shape)}, got {tuple(result.shape)}: change the function, or its "
                f"quantile_levels or prediction_length"
            )
        converted: Tensor = result.to(series)
        return converted

    def fingerprint(self) -> dict[str, str]:
        if isinstance(self.function, nn.Module):
            return super().fingerprint()
        declared = f"{self.name} {self.quantile_levels} {self.context_length} {self.prediction_length}"
        digest = hashlib.sha256(declared.encode()).hexdigest()
        return {"name": self.name, "version": self.version, "sha256": digest}

    def cache_key(self) -> str:
        return f"function {self.number}"


class _WithMissing(Wrapped):
    r"""Function that reads NaN as missing steps."""

    reads_missing = True


def wrapped(
    function: Callable[..., Any],
    *,
    quantile_levels: Sequence[float],
    context_length: int,
    prediction_length: int,
    name: str,
    differentiable: bool | None,
    reads_missing: bool,
) -> Wrapped:
    r"""Make a foundation model of a function, after a trial call; see `FoundationModel.wrap`."""
    _require(function, context_length, prediction_length, name, differentiable)
    if isinstance(function, nn.Module):
        with reading(f"the module {name!r} cannot be copied", "pass a function that calls it"):
            function = copy.deepcopy(function)
    context_length, prediction_length = int(context_length), int(prediction_length)
    with reading("FoundationModel.wrap expects quantile_levels to be numbers", "such as [0.1, 0.5, 0.9]"):
        levels = [float(level) for level in np.atleast_1d(np.asarray(quantile_levels, dtype=float))]
    version = "unknown" if isinstance(function, nn.Module) else CALLABLE
    declared: dict[str, Any] = {
        "name": name, "version": version, "quantile_levels": levels, "context_length": context_length,
        "prediction_length": prediction_length,
    }  # fmt: skip
    kind = _WithMissing if reads_missing else Wrapped
    kind(function, (False, False), differentiable=False, **declared)  # freezes a module, and checks the levels
    forms, series = _tried(function, context_length, name)
    model = kind(function, forms, differentiable=False, **declared)
    with torch.no_grad():
        forecast = model._called(series)
    if not bool(forecast.isfinite().all()):
        raise ValueError(f"the function of {name!r} returns values that are not finite for random series: mend it")
    model.least = _least_steps(model, series)
    model.differentiable = _has_gradient(model, series, differentiable)
    return model


def _require(function: object, context_length: object, prediction_length: object, name: object, known: object) -> None:
    expected = "FoundationModel.wrap expects"
    if not callable(function):
        raise ValueError(f"{expected} a function or module that takes series (N, L), got {shown(function)}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{expected} name to be text, got {shown(name)}")
    for option, value in (("context_length", context_length), ("prediction_length", prediction_length)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{expected} {option} to be a number of steps, at least 1, got {shown(value)}")
    if known not in (None, True, False):
        raise ValueError(f"{expected} differentiable to be True, False or None, got {shown(known)}")


def _tensors(function: object) -> list[Tensor]:
    return [*function.parameters(), *function.buffers()] if isinstance(function, nn.Module) else []


def _tried(function: Callable[..., Any], context_length: int, name: str) -> tuple[tuple[bool, bool], Tensor]:
    r"""Return the forms of a function, and the random series of the trial call: long ones if it takes no others."""
    generator = torch.Generator().manual_seed(0)
    series = torch.randn(3, context_length, generator=generator)
    series = series.to(next(iter(_tensors(function)), series).device)
    if context_length > TRIED:
        try:
            return _forms(function, series[:, -TRIED:], name), series[:, -TRIED:]
        except ValueError:
            pass  # it may take series of its own length only
    return _forms(function, series, name), series


def _least_steps(model: Wrapped, series: Tensor) -> int:
    r"""Return the smallest number of steps for which a function gives a finite forecast, by bisection."""
    fails, works = 0, series.shape[1]
    while works - fails > 1:
        steps = (fails + works) // 2
        try:
            with torch.no_grad(), without_warnings():  # of the deviation of one step, for example
                forecast = model._called(series[:, -steps:])
            finite = bool(forecast.isfinite().all())
        except ValueError:
            finite = False
        fails, works = (fails, steps) if finite else (steps, works)
    return works


def _forms(function: Callable[..., Any], series: Tensor, name: str) -> tuple[bool, bool]:
    r"""Return whether a function takes and returns numpy arrays, by calling it."""
    causes = []
    for takes in (False, True):
        try:
            with torch.no_grad():
                result = function(series.cpu().numpy() if takes else series)
        except Exception as error:  # a user's function may raise anything
            causes.append(error)
            continue
        if isinstance(result, Tensor):
            return takes, False
        if takes or isinstance(result, np.ndarray):
            if isinstance(result, np.ndarray):
                return _prefers_arrays(function, series, takes), True
            raise ValueError(
                f"the function of {name!r} is expected to return a tensor or an array, got {type(result).__name__}"
            )
    raise ValueError(
        f"the function of {name!r} fails on series of shape {tuple(series.shape)}, as a tensor ({causes[0]}) and as an "
        f"array ({causes[-1]}): it is expected to take series (N, L)"
    ) from causes[0]


def _prefers_arrays(function: Callable[..., Any], series: Tensor, takes: bool) -> bool:
    r"""Return whether a function that returns arrays takes arrays; one may also take only tensors."""
    if takes:
        return True
    try:
        function(series.cpu().numpy())
    except Exception:  # as above
        return False
    return True


def _has_gradient(model: Wrapped, series: Tensor, known: bool | None) -> bool:
    r"""Return whether the gradient of a model is its slope, by finite differences unless it is known to have none."""
    if known is False:
        return False
    error = float("inf")
    if not any(model.forms):
        with reading(f"the gradient of {model.name!r} cannot be computed", "pass differentiable=False"):
            error = gradient_error(model, series, model.prediction_length)
    if known and not error <= TOLERATED:
        raise ValueError(
            f"{model.name!r} is declared differentiable, and its gradient differs from finite differences by "
            f"{error:.2g}, relative to their size: mend it (are statistics detached?), or pass differentiable=False"
        )
    return error <= TOLERATED

r"""Several frozen models: the first is adapted, and the others are members of a portfolio."""

from __future__ import annotations

__all__ = ["SeveralModels", "head_prefix", "joined", "load_models"]

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import shown
from .base import FoundationModel, Unroll
from .point import with_distribution

#: What separates the names of several models.
SEPARATOR = " + "
#: What begins the names of the tensors of further models.
PREFIX = "further-"


class SeveralModels(FoundationModel):
    r"""Several frozen models, of which the first forecasts.

    `Adapter` adapts the first: zero-shot forecast and gate refer to it. The portfolio `auto` takes the forecasts of the
    others as further members. Context length, prediction length and quantile levels are those of the first; each of the
    others reads as much of the context as it can.

    Arguments:
        models: The models, at least two, each with a distribution. They are shared, not copied.

    Raises:
        ValueError: If two models have the same name.
    """

    def __init__(self, models: Sequence[FoundationModel]) -> None:
        first, names = models[0], [model.name for model in models]
        for name in names:
            if names.count(name) > 1 or SEPARATOR in name:
                raise ValueError(
                    f"several foundation models are expected to have different names, without {SEPARATOR!r}, got "
                    f"{', '.join(map(shown, names))}: name each once"
                )
        super().__init__(
            name=joined(names), version=joined([model.version for model in models]),
            quantile_levels=first.quantile_levels, context_length=first.context_length,
            prediction_length=first.prediction_length, differentiable=first.differentiable,
            step_bytes=first.step_bytes,
        )  # fmt: skip
        self.models = nn.ModuleList(models)
        self.freeze()

    @property
    def members(self) -> tuple[FoundationModel, ...]:
        return tuple(model for model in self.models if isinstance(model, FoundationModel))

    def _forecast(self, context: Tensor) -> Tensor:
        return self.members[0]._forecast(context)

    def forward(self, context: Tensor, prediction_length: int, *, unroll: Unroll = "quantile") -> Tensor:
        quantiles: Tensor = self.members[0](context, prediction_length, unroll=unroll)
        return quantiles

    def _predict_any(self, context: Tensor, prediction_length: int) -> Tensor:
        return self.members[0]._predict_any(context, prediction_length)

    def chunk_rows(self, length: int, prediction_length: int) -> int:
        return self.members[0].chunk_rows(length, prediction_length)

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    def fingerprint(self) -> dict[str, str]:
        parts = " ".join(f"{model.name} {model.fingerprint()['sha256']}" for model in self.members)
        return {"name": self.name, "version": self.version, "sha256": hashlib.sha256(parts.encode()).hexdigest()}

    def cache_key(self) -> str:
        return self.members[0].cache_key()

    def untrained_head(self) -> nn.Module | None:
        return self.members[0].untrained_head()

    def with_head(self, state: Mapping[str, Tensor]) -> Self:
        models = []
        for number, model in enumerate(self.members):
            prefix = head_prefix(number)
            head = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
            if not number:
                head = {name: x for name, x in state.items() if not name.startswith(PREFIX)}
            models.append(model.with_head(head) if head else model)
        return type(self)(models)

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        return self._with([model.with_frequency(frequency, season_length) for model in self.members])

    def with_horizon(self, prediction_length: int) -> Self:
        return self._with([model.with_horizon(prediction_length) for model in self.members])

    def _with(self, models: Sequence[FoundationModel]) -> Self:
        changed = any(new is not old for new, old in zip(models, self.members, strict=True))
        return type(self)(models) if changed else self


def joined(names: Sequence[str]) -> str:
    r"""Return the name of several models, from their names."""
    return SEPARATOR.join(names)


def head_prefix(number: int) -> str:
    r"""Return what begins the names of the tensors of the head of a model, by its place; nothing for the first."""
    return f"{PREFIX}{number}." if number else ""


def load_models(model: Any, device: str) -> FoundationModel:
    r"""Load a foundation model, or a list of them; models of points are given a distribution.

    Arguments:
        model: As for `load_foundation_model`, or a list of such.
        device: As for `load_foundation_model`.

    Returns:
        The frozen model.

    Raises:
        ValueError: If a model cannot be loaded, the list is empty, or two have the same name.
    """
    from . import load_foundation_model

    if not isinstance(model, list | tuple):
        return with_distribution(load_foundation_model(model, device=device))
    if not model:
        raise ValueError("expected foundation_model to name at least one model, got an empty list: leave it out")
    models = [with_distribution(load_foundation_model(each, device=device)) for each in model]
    return models[0] if len(models) == 1 else SeveralModels(models)

r"""Independence copula."""

from __future__ import annotations

__all__ = ["Independent"]

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from ..persistence.tensors import require_names, taken
from .base import Copula


class Independent(Copula):
    r"""Independence copula.

    Arguments:
        prediction_length: The number of horizon steps :math:`H`.
        channels: The number of channels :math:`D`.

    Example:
        >>> Independent(24, 8).uniforms(200).shape
        torch.Size([200, 24, 8])
    """

    name = "independent"

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        return torch.rand(
            num_samples, windows, self.prediction_length, self.channels, generator=generator, dtype=torch.float32
        )

    def _levels(self, scores: Tensor) -> Tensor:
        return scores

    def log_density(self, pits: Tensor) -> Tensor:  # noqa: D102
        return torch.zeros(len(pits), dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"independent.shape": torch.tensor([self.prediction_length, self.channels])}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        require_names("the copula 'independent'", state, ["shape"])
        horizon, channels = taken(state, "shape", torch.int64, (2,), low=1).tolist()
        return cls(horizon, channels)

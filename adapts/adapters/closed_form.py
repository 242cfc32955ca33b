r"""Families with a closed form on the observed channels, whose tensors have sizes that only the fit knows."""

from __future__ import annotations

__all__ = ["ClosedForm"]

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from .base import AdapterModule
from .capabilities import Capabilities


class ClosedForm(AdapterModule):
    r"""Base of families that `solve` fits to the errors of the frozen model; empty buffers correct nothing."""

    #: The names of the buffers that `solve` sets.
    solution: ClassVar[tuple[str, ...]] = ()

    @property
    def capabilities(self) -> Capabilities:
        return replace(
            super().capabilities,
            observed_latents=True,
            fixed_latents=True,
            mixes_channels=False,
            closed_form=True,
            supports_updates=True,
            needs_forecast=True,
            found_later=self.solution,
        )

    @property
    def solved(self) -> dict[str, Tensor]:
        r"""The buffers that `solve` set; empty before."""
        state: dict[str, Tensor] = {name: getattr(self, name) for name in self.solution}
        return state if any(tensor.numel() for tensor in state.values()) else {}

    def _build(self, channels: int) -> None:
        for name in self.solution:
            self.register_buffer(name, torch.empty(0, dtype=torch.float32))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in self.solution:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)

r"""Forecasts of a further frozen model, as a member of a portfolio."""

from __future__ import annotations

__all__ = ["FurtherModel"]

from dataclasses import replace

from torch import Tensor

from .base import AdapterModule, RegressionData, State
from .capabilities import Capabilities


class FurtherModel(AdapterModule):
    r"""Member of a portfolio whose forecast is that of a further frozen model; it has no parameters.

    Deterministic. It is no family of its own: `Adapter` makes it where several foundation models are given.

    Arguments:
        name: The name of the model, which summaries give.
        number: The place of the model among the further ones, from 0.
    """

    family = "further model"

    name: str = ""
    number: int = 0

    @property
    def label(self) -> str:
        return self.name

    @property
    def capabilities(self) -> Capabilities:
        return replace(
            super().capabilities,
            observed_latents=True,
            fixed_latents=True,
            mixes_channels=False,
            closed_form=True,
            needs_further=True,
        )

    def _build(self, channels: int) -> None:
        pass

    def solve(self, data: RegressionData, *, choose: bool) -> None:
        pass

    def _decode(self, z: Tensor, state: State) -> Tensor:
        assert state.further is not None
        return state.further[..., self.number].movedim(-1, 0)  # (Q, B, H, D)

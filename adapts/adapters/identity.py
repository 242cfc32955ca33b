r"""Identity adapter: the frozen model on each channel alone."""

from __future__ import annotations

__all__ = ["Identity"]

from dataclasses import replace

from torch import Tensor

from .base import AdapterModule, State, register
from .capabilities import Capabilities


@register("identity")
class Identity(AdapterModule):
    r"""Passes each channel unchanged to the frozen model, and returns its forecast.

    Deterministic; nothing is trained; missing steps reach the frozen model as NaN. `Adapter` still adds a joint
    distribution to the frozen model: copula and recalibration.

    Example:
        >>> z, state = Identity().build(channels=7).encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([1, 32, 96, 7])
    """

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, observed_latents=True, fixed_latents=True, mixes_channels=False)

    def _build(self, channels: int) -> None:
        pass

    def _decode(self, z: Tensor, state: State) -> Tensor:
        return z

r"""Monte Carlo dropout of linear adapters."""

from __future__ import annotations

__all__ = ["Dropout"]

from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import checks
from .base import Normalised, State, register
from .capabilities import Capabilities
from .projection import check_latent_channels, check_reduction, principal_directions


@register("dropout")
class Dropout(Normalised):
    r"""Drops rows of a linear adapter's matrices at random, in training and in forecasting.

    .. math:: z_t = x_t (P + E_\varphi A), \quad y_t = z_t (P^\top + E_\psi B), \quad
        E = \mathrm{diag}(e) / (1 - p), \quad e_i \sim \mathrm{Bernoulli}(1 - p)

    :math:`P`, :math:`A` and :math:`B` are those of `Linear`. The corrections start at zero, so that training starts
    from the frozen model itself. A draw is a draw of the weights: all steps of a window share it, and in forecasting
    all windows. The draws thus approximate a posterior of the weights. With `drops="weights"` the rows of :math:`P` are
    dropped too, as in AdaPTS. The draws then lack whole channels and vary accordingly, even where nothing was learned.

    Stochastic; any context length; not exactly invertible. With `where="decoder"` one pass of the frozen model serves
    all draws; otherwise each draw has its own latent channels and costs :math:`K` passes. It is more than a
    regulariser: dropout stays active in forecasting, as the draws express parameter uncertainty. With :math:`p = 0` it
    is `Linear`.

    References:
        | Dropout as a Bayesian Approximation (Gal & Ghahramani, 2016)
        | https://arxiv.org/abs/1506.02142
        | AdaPTS (Benechehab et al., 2025), the dropout linear autoencoder
        | https://arxiv.org/abs/2502.10235

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.
        where: Where rows are dropped: `"encoder"`, `"decoder"` or `"both"`. Both are trained in any case.
        drops: What is dropped: rows of the learned `"corrections"`, or of `"weights"`, the whole matrices.
        p: The probability that a row is dropped.

    Example:
        >>> dropout = Dropout(latent_channels=3, p=0.2).build(channels=7).eval()
        >>> z, state = dropout.encode(torch.randn(32, 96, 7), draws=20)
        >>> z.shape
        torch.Size([20, 32, 96, 3])
    """

    latent_channels: int | None = None
    where: str = "both"
    drops: str = "corrections"
    p: float = 0.1

    directions: Tensor

    def _check(self) -> None:
        super()._check()
        check_latent_channels(self, self.latent_channels)
        checks.choice("part of Dropout", self.where, ["both", "encoder", "decoder"])
        checks.choice("target of Dropout", self.drops, ["corrections", "weights"])
        checks.number("Dropout expects p", self.p, "a probability below 1", lambda p: 0 <= p < 1)

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    @property
    def capabilities(self) -> Capabilities:
        drops = self.p > 0
        return replace(super().capabilities, stochastic=drops, stochastic_latents=drops and self.where != "decoder")

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        self.register_buffer("directions", torch.eye(channels, dtype=torch.float32)[:, : self.latents].contiguous())
        self.encoder = nn.Parameter(torch.zeros(channels, self.latents, dtype=torch.float32))
        self.decoder = nn.Parameter(torch.zeros(self.latents, channels, dtype=torch.float32))

    def _prepare(self, rows: Tensor) -> None:
        if self.latents < self.channels:
            self.directions.copy_(principal_directions(rows, self.latents))

    def _draw(self, state: State) -> None:
        if not self.capabilities.stochastic:
            return
        copies = len(state.past) if self.training else 1
        device = state.past.device if state.generator is None else state.generator.device
        for part, rows in (("encoder", self.channels), ("decoder", self.latents)):
            if self.where in ("both", part):
                mask = (
                    torch.rand(
                        state.draws, copies, 1, rows, generator=state.generator, device=device, dtype=torch.float32
                    )
                    >= self.p
                )
                state.drawn[part] = mask.to(state.past) / (1 - self.p)  # (M, B or 1, 1, D or K)

    def _encode(self, x: Tensor, state: State) -> Tensor:
        return self._mix(x, self.directions, self.encoder, state.drawn.get("encoder"))

    def _decode(self, z: Tensor, state: State) -> Tensor:
        mask = state.drawn.get("decoder")
        if mask is None:
            return self._mix(z, self.directions.mT, self.decoder, None)
        z = z.unflatten(0, (state.draws, -1))  # (M, S / M, B, H, K)
        return self._mix(z, self.directions.mT, self.decoder, mask.unsqueeze(1)).flatten(0, 1)

    def _mix(self, x: Tensor, directions: Tensor, correction: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return x @ (directions + correction)
        if self.drops == "weights":
            return (x * mask) @ (directions + correction)
        return x @ directions + (x * mask) @ correction

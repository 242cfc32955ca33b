r"""Linear adapters."""

from __future__ import annotations

__all__ = ["Linear"]

import torch
from torch import Tensor, nn

from ..shelf import unknown
from ..solvers import RidgePath, cross_validated_error
from .base import AdapterModule, Evidence, State, register, window_statistics
from .projection import check_latent_channels, check_reduction, principal_directions

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-4, 4, 17, dtype=torch.float64)


@register("linear")
class Linear(AdapterModule):
    r"""Mixes channels with one matrix each way, :math:`z_t = x_t (P + A)`, :math:`y_t = z_t (P^\top + B)`.

    :math:`P` is the identity where :math:`K = D` and the leading principal directions of the train rows elsewhere;
    :math:`A` and :math:`B` start at zero, so that training starts from the frozen model itself (or its PCA adapter).
    Deterministic; any context length; not exactly invertible. With `free="decoder"` the decoder is the ridge
    regression of the targets on the frozen model's forecasts, shrunk towards :math:`P^\top`, its strength chosen by
    blocked cross-validation; otherwise gradients train it, through the frozen model.

    References:
        | AdaPTS (Benechehab et al., 2025), the linear autoencoder and its ablation
        | https://arxiv.org/abs/2502.10235

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.
        free: What is fitted: `"both"`, `"encoder"` or `"decoder"`.

    Example:
        >>> z, state = Linear(latent_channels=3).build(channels=7).encode(torch.randn(32, 512, 7))
        >>> z.shape
        torch.Size([1, 32, 512, 3])
    """

    latent_channels: int | None = None
    free: str = "both"

    directions: Tensor
    strength: Tensor

    def _check(self) -> None:
        check_latent_channels(self, self.latent_channels)
        if self.free not in ("both", "encoder", "decoder"):
            raise unknown("free part of Linear", self.free, ["both", "encoder", "decoder"])

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    @property
    def closed_form(self) -> bool:
        return self.free == "decoder"

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        self.register_buffer("directions", torch.eye(channels)[:, : self.latents].contiguous())
        self.register_buffer("strength", torch.full((channels,), torch.inf, dtype=torch.float64))
        self.encoder = nn.Parameter(torch.zeros(channels, self.latents), requires_grad=self.free != "decoder")
        self.decoder = nn.Parameter(torch.zeros(self.latents, channels), requires_grad=self.free == "both")

    def _prepare(self, rows: Tensor) -> None:
        if self.latents < self.channels:
            self.directions.copy_(principal_directions(self.covariance, self.latents))

    def _encode(self, x: Tensor, state: State) -> Tensor:
        return x @ (self.directions + self.encoder)

    def _decode(self, z: Tensor, state: State) -> Tensor:
        return z @ (self.directions.mT + self.decoder)

    @torch.no_grad()
    def solve(self, evidence: Evidence, *, choose: bool) -> None:
        location, scale = window_statistics(evidence.past)
        x = evidence.forecast.double()  # (n, H, K)
        base = x @ self.directions.mT.double()
        for channel in range(self.channels):
            # Errors count in standardised units, so a window weighs as its scale squared.
            seen = ~evidence.future[..., channel].isnan()
            size = scale[..., channel].double()  # (n, 1)
            target = (evidence.future[..., channel].double() - location[..., channel]) - size * base[..., channel]
            y = torch.where(seen, target, 0.0).unsqueeze(-1)  # (n, H, 1)
            weighted = torch.where(seen, size, 0.0).unsqueeze(-1) * x
            gram, cross, square = weighted.mT @ weighted, weighted.mT @ y, y.square().sum(-2)  # a window each
            unit = gram.sum(0).diagonal().mean().clamp(min=1e-12)
            if choose:
                folds = [evidence.fold == fold for fold in range(int(evidence.fold.max()) + 1)]
                parts = [torch.stack([part[fold].sum(0) for fold in folds]) for part in (gram, cross, square)]
                errors = cross_validated_error(parts[0], parts[1], parts[2], STRENGTHS * unit)[:, 0]
                best = int(errors.argmin())
                better = bool(errors[best] < parts[2].sum())
                self.strength[channel] = STRENGTHS[best] if better else torch.inf
            weights = RidgePath(gram.sum(0), cross.sum(0)).solve(float(self.strength[channel]) * unit)
            self.decoder[:, channel] = weights[:, 0].to(self.decoder.dtype)

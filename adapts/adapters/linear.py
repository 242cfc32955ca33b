r"""Linear adapters."""

from __future__ import annotations

__all__ = ["Linear"]

from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import checks
from ..statistics.ridge import RidgePath, count_folds, cross_validated_error
from .base import Normalised, RegressionData, State, register, shares
from .capabilities import Capabilities
from .projection import check_latent_channels, check_reduction, principal_directions

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-4, 4, 17, dtype=torch.float64)


@register("linear")
class Linear(Normalised):
    r"""Mixes channels with one matrix in each direction, :math:`z_t = x_t (P + A)`, :math:`y_t = z_t (P^\top + B)`.

    :math:`P` is the identity where :math:`K = D`, otherwise the leading principal directions of the train rows.
    :math:`A` and :math:`B` start at zero, so that training starts from the frozen model itself (or its PCA adapter).
    Deterministic; any context length; not exactly invertible.

    With `free="decoder"` the decoder is the ridge regression of the targets on the frozen model's forecasts, shrunk
    towards :math:`P^\top`; blocked cross-validation selects its strength. Otherwise gradients through the frozen model
    train it. If the frozen model is linear itself, no linear adapter is more general than this decoder.

    References:
        | AdaPTS (Benechehab et al., 2025), the linear autoencoder and its ablation
        | https://arxiv.org/abs/2502.10235

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.
        free: What is fitted: `"both"`, `"encoder"` or `"decoder"`.
        tied: Whether the decoder is the encoder's transpose, :math:`B = A^\top`; for `free="both"`.
        rank: The maximum rank of the decoder's correction :math:`B`; any if None. The closed form is then the
            reduced-rank ridge, in which the channels share one strength; gradients train two factors.

    Example:
        >>> z, state = Linear(latent_channels=3).build(channels=7).encode(torch.randn(32, 512, 7))
        >>> z.shape
        torch.Size([1, 32, 512, 3])
    """

    latent_channels: int | None = None
    free: str = "both"
    tied: bool = False
    rank: int | None = None

    directions: Tensor
    strength: Tensor

    def _check(self) -> None:
        super()._check()
        check_latent_channels(self, self.latent_channels)
        checks.choice("free part of Linear", self.free, ["both", "encoder", "decoder"])
        checks.flag("Linear expects tied", self.tied)
        if self.tied and self.free != "both":
            raise ValueError(f"Linear with tied=True expects free='both', got free={self.free!r}: pass free='both'")
        checks.integer("Linear expects rank", self.rank, none=True)
        if self.rank is not None and (self.tied or self.free == "encoder"):
            raise ValueError(
                f"Linear expects rank=None unless its decoder has its own weights, got rank={self.rank} with "
                f"free={self.free!r}, tied={self.tied}: pass rank=None"
            )
        if self.affine and self.free == "decoder":
            raise ValueError(
                "Linear solves its decoder in closed form, which trains no gain and offset: with free='decoder' "
                "pass affine=False"
            )

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    @property
    def capabilities(self) -> Capabilities:
        solved = self.free == "decoder"
        return replace(super().capabilities, closed_form=solved, fixed_latents=solved, unbounded=("strength",))

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        self.register_buffer("directions", torch.eye(channels, dtype=torch.float32)[:, : self.latents].contiguous())
        self.register_buffer("strength", torch.full((channels,), torch.inf, dtype=torch.float64))
        self.encoder = nn.Parameter(
            torch.zeros(channels, self.latents, dtype=torch.float32), requires_grad=self.free != "decoder"
        )
        if self._factorised:  # only one factor starts at zero: the product is zero, but has gradients
            self.left = nn.Parameter(torch.eye(self.latents, dtype=torch.float32)[:, : self.rank].contiguous())
            self.right = nn.Parameter(torch.zeros(self.left.shape[1], channels, dtype=torch.float32))
        elif not self.tied:
            self.decoder = nn.Parameter(
                torch.zeros(self.latents, channels, dtype=torch.float32), requires_grad=self.free == "both"
            )

    @property
    def _factorised(self) -> bool:
        return self.rank is not None and self.free == "both"

    @property
    def correction(self) -> Tensor:
        r"""The correction :math:`B` that the decoder adds to :math:`P^\top`, with shape :math:`(K, D)`."""
        if self.tied:
            return self.encoder.mT
        return self.left @ self.right if self._factorised else self.decoder

    def _prepare(self, rows: Tensor) -> None:
        if self.latents < self.channels:
            self.directions.copy_(principal_directions(rows, self.latents))
        elif self._factorised:
            self.left.data.copy_(principal_directions(rows, self.left.shape[1]))

    def _encode(self, x: Tensor, state: State) -> Tensor:
        return x @ (self.directions + self.encoder)

    def _decode(self, z: Tensor, state: State) -> Tensor:
        return z @ (self.directions.mT + self.correction)

    @torch.no_grad()
    def source_weights(self, state: State) -> Tensor:
        r"""Return the shares of the entries of :math:`|(P + A)(P^\top + B)|`, encoding followed by decoding.

        Arguments:
            state: As for `AdapterModule.source_weights`.
        """
        return shares(((self.directions + self.encoder) @ (self.directions.mT + self.correction)).abs().mT)[None]

    # ------------------------------------------------------------------ closed form

    @torch.no_grad()
    def solve(self, data: RegressionData, *, choose: bool) -> None:
        location, scale = self.location_scale(data.past)
        x = data.forecast.double()  # (n, H, K)
        residual = (data.future.double() - location) / scale - x @ self.directions.mT.double()  # (n, H, D)
        observed = ~residual.isnan()
        fold = data.fold if choose else torch.zeros(len(x), dtype=torch.long)
        if self.rank is None:
            for channel in range(self.channels):
                index = slice(channel, channel + 1)
                # Errors are measured in standardised units, so that a window's weight is its squared scale.
                self._solve(index, x, residual[..., index], scale[..., index], observed[..., index], fold, choose)
        else:  # the channels share their regressors, and therefore the weights of the cells
            weight = scale.square().mean(-1, keepdim=True).sqrt()
            self._solve(slice(None), x, residual, weight, observed.all(-1, keepdim=True), fold, choose)

    def _solve(
        self, channels: slice, x: Tensor, y: Tensor, weight: Tensor, observed: Tensor, fold: Tensor, choose: bool
    ) -> None:
        r"""Solve for :math:`q` channels at once, with shared weights of the squared errors.

        Arguments:
            channels: The channels.
            x: The forecasts of the latent channels, with shape :math:`(n, H, K)`.
            y: The normalised targets minus the projection's forecasts, with shape :math:`(n, H, q)`.
            weight: The square roots of the weights, with shape :math:`(n, 1, 1)`.
            observed: The observed steps, with shape :math:`(n, H, 1)`.
            fold: The fold of each window, -1 for none, with shape :math:`(n,)`.
            choose: Whether to select the strength.
        """
        x, y = torch.where(observed, weight.double() * x, 0.0), torch.where(observed, weight.double() * y, 0.0)
        folds = [
            (x[fold == index].flatten(0, 1), y[fold == index].flatten(0, 1)) for index in range(-1, int(fold.max()) + 1)
        ]
        gram, cross, square = (
            torch.stack(statistic)
            for statistic in zip(*((a.mT @ a, a.mT @ b, b.square().sum(0)) for a, b in folds), strict=True)
        )
        unit = gram.sum(0).diagonal().mean().clamp(min=1e-12)
        if choose and count_folds(fold) < 2:
            self.strength[channels] = STRENGTHS[-1]
        elif choose:
            errors = cross_validated_error(gram[1:], cross[1:], square[1:], STRENGTHS * unit, self.rank).sum(-1)  # (m,)
            best = int(errors.argmin())
            self.strength[channels] = STRENGTHS[best] if bool(errors[best] < square[1:].sum()) else torch.inf
        path = RidgePath(gram.sum(0), cross.sum(0))
        solution = path.solve(float(self.strength[channels][0]) * unit, self.rank)
        self.decoder[:, channels] = solution.to(self.decoder.dtype)

r"""Orthogonal projections, fixed before training."""

from __future__ import annotations

__all__ = ["Projection"]

from dataclasses import replace

import torch
from torch import Tensor

from .. import checks
from ..statistics.gaussian import pairwise_covariance
from .base import AdapterModule, Normalised, State, register, shares
from .capabilities import Capabilities


@register("projection")
class Projection(Normalised):
    r"""Rotates channels onto :math:`K` orthonormal directions, :math:`z_t = V^\top x_t`, and back, :math:`y_t = V z_t`.

    Deterministic; no trained weights except gain and offset with `affine`. Exactly invertible where :math:`K = D`.
    Otherwise the component outside of the :math:`K` directions is forecast at the window's location, and its variance
    is added back as noise. Costs :math:`K` instead of :math:`D` passes of the frozen model. Not suitable where channels
    of low variance matter.

    References:
        | AdaPTS (Benechehab et al., 2025), its PCA, truncated SVD and random projections
        | https://arxiv.org/abs/2502.10235
        | Zero-shot Model-based Reinforcement Learning using Large Language Models (Benechehab et al., 2025), DICL
        | https://arxiv.org/abs/2410.11711
        | Experiments with Random Projection (Dasgupta, 2000)
        | https://arxiv.org/abs/1301.3849

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.
        method: The directions. `"pca"`: those of the largest variance of the train rows. `"svd"`: those of their
            largest second moment about zero, the same for centred train rows, as in `Adapter`. `"random"`: uniform
            random directions, independent of the train rows (an orthonormalised Gaussian matrix, so that its transpose
            is its pseudo-inverse).
        seed: The seed of the random directions.

    Example:
        >>> projection = Projection(latent_channels=3).build(channels=7)
        >>> projection.prepare(torch.randn(1000, 7))
        >>> z, state = projection.encode(torch.randn(32, 96, 7))
        >>> z.shape, projection.decode(z, state).shape
        (torch.Size([1, 32, 96, 3]), torch.Size([1, 32, 96, 7]))
    """

    latent_channels: int | None = None
    method: str = "pca"
    seed: int = 0

    directions: Tensor

    def _check(self) -> None:
        super()._check()
        check_latent_channels(self, self.latent_channels)
        checks.choice("method of Projection", self.method, ["pca", "svd", "random"])
        checks.seed(self.seed)

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, fixed_latents=not self.affine)

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        start = (
            _random_directions(channels, self.seed)
            if self.method == "random"
            else torch.eye(channels, dtype=torch.float32)
        )
        self.register_buffer("directions", start[:, : self.latents].contiguous())

    def _prepare(self, rows: Tensor) -> None:
        if self.method == "random":
            return
        about: Tensor | float = rows.nanmean(0) if self.method == "pca" else 0.0
        self.directions.copy_(principal_directions(rows - about, self.latents))

    def _encode(self, x: Tensor, state: State) -> Tensor:
        return x @ self.directions

    def _decode(self, z: Tensor, state: State) -> Tensor:
        return z @ self.directions.mT

    def source_weights(self, state: State) -> Tensor:
        r"""Return the shares of the entries of :math:`|V V^\top|`, encoding followed by decoding.

        Arguments:
            state: As for `AdapterModule.source_weights`.
        """
        return shares((self.directions @ self.directions.mT).abs())[None]


def _random_directions(channels: int, seed: int) -> Tensor:
    r"""Draw a uniformly distributed rotation (signs of R as in Mezzadri, 2007), with shape :math:`(D, D)`."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))
    uniform: Tensor = q * r.diagonal().sign()
    return uniform.float()


def principal_directions(rows: Tensor, count: int) -> Tensor:
    r"""Return the directions of the largest second moment of rows, with shape :math:`(D, K)`.

    Signs are chosen such that the largest entry of each direction is positive: the result does not depend on the
    platform's eigensolver.

    Arguments:
        rows: The rows, with shape :math:`(T, D)`. NaN marks a missing cell.
        count: The number of directions :math:`K`.
    """
    vectors: Tensor = torch.linalg.eigh(pairwise_covariance(rows))[1].flip(-1)[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return (vectors * largest.sign()).to(rows.dtype)


def check_latent_channels(family: AdapterModule, latent_channels: int | None) -> None:
    r"""Raise an error unless `latent_channels` is None or a positive integer.

    Arguments:
        family: The family, named in the error.
        latent_channels: The requested number.

    Raises:
        ValueError: If it is neither.
    """
    checks.integer(f"{type(family).__name__} expects latent_channels", latent_channels, none=True)


def check_reduction(family: AdapterModule, latents: int, channels: int) -> None:
    r"""Raise an error unless there are at most as many latent as observed channels.

    Arguments:
        family: The family, named in the error.
        latents: The number of latent channels.
        channels: The number of observed channels.

    Raises:
        ValueError: If there are more latent channels.
    """
    if latents > channels:
        raise ValueError(
            f"{type(family).__name__} expects at most as many latent channels as observed ones, "
            f"got latent_channels={latents} for {channels} channels: pass latent_channels={channels} or fewer"
        )

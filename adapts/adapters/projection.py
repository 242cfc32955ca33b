r"""Orthogonal projections, fixed before any training."""

from __future__ import annotations

__all__ = ["Projection"]

import torch
from torch import Tensor

from .base import AdapterModule, State, register


@register("projection")
class Projection(AdapterModule):
    r"""Rotates channels onto the leading principal directions of the train rows, :math:`z_t = V^\top x_t`.

    Deterministic; nothing trained by gradient; exactly invertible where :math:`K = D`, else what lies outside of the
    :math:`K` directions is forecast at the window's location and its variance returns as noise. Costs :math:`K`
    instead of :math:`D` frozen passes. Misleading where channels of little variance matter.

    References:
        | AdaPTS (Benechehab et al., 2025), the PCA adapter
        | https://arxiv.org/abs/2502.10235
        | Zero-shot Model-based Reinforcement Learning using Large Language Models (Benechehab et al., 2025), DICL
        | https://arxiv.org/abs/2410.11711

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.

    Example:
        >>> projection = Projection(latent_channels=3).build(channels=7)
        >>> projection.prepare(torch.randn(1000, 7))
        >>> z, state = projection.encode(torch.randn(32, 96, 7))
        >>> z.shape, projection.decode(z, state).shape
        (torch.Size([1, 32, 96, 3]), torch.Size([1, 32, 96, 7]))
    """

    latent_channels: int | None = None

    directions: Tensor

    def _check(self) -> None:
        check_latent_channels(self, self.latent_channels)

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        self.register_buffer("directions", torch.eye(channels)[:, : self.latents].contiguous())

    def _prepare(self, rows: Tensor) -> None:
        self.directions.copy_(principal_directions(self.covariance, self.latents))

    def _encode(self, x: Tensor, state: State) -> Tensor:
        return x @ self.directions

    def _decode(self, z: Tensor, state: State) -> Tensor:
        return z @ self.directions.mT


def principal_directions(covariance: Tensor, count: int) -> Tensor:
    r"""Returns the leading eigenvectors of a covariance, with shape :math:`(D, K)`.

    Each direction's sign is that of its largest entry made positive, so that the result does not depend on the
    platform's eigensolver.

    Arguments:
        covariance: The covariance, with shape :math:`(D, D)`.
        count: The number of directions :math:`K`.
    """
    vectors: Tensor = torch.linalg.eigh(covariance.double())[1].flip(-1)[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return (vectors * largest.sign()).to(covariance.dtype)


def check_latent_channels(family: AdapterModule, latent_channels: int | None) -> None:
    r"""Raises unless `latent_channels` is None or a positive integer.

    Arguments:
        family: The family that was asked for, named in the error.
        latent_channels: What was asked for.

    Raises:
        ValueError: If it is neither.
    """
    if latent_channels is not None and (not isinstance(latent_channels, int) or latent_channels < 1):
        raise ValueError(
            f"{type(family).__name__} expects latent_channels to be a positive integer or None, got {latent_channels!r}"
        )


def check_reduction(family: AdapterModule, latents: int, channels: int) -> None:
    r"""Raises unless there are at most as many latent as observed channels.

    Arguments:
        family: The family that was asked for, named in the error.
        latents: The number of latent channels.
        channels: The number of observed channels.

    Raises:
        ValueError: If there are more.
    """
    if latents > channels:
        raise ValueError(
            f"{type(family).__name__} expects at most as many latent channels as observed ones, "
            f"got latent_channels={latents} for {channels} channels: pass latent_channels={channels} or fewer"
        )

r"""Dependence between channels and leads."""

from __future__ import annotations

__all__ = ["Copula", "GaussianCopula", "Independent"]

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

_SMALLEST = 1e-6  # the smallest eigenvalue of a correlation matrix
_CHUNK = 2**22  # levels ranked at once


class Copula(ABC):
    r"""The joint law of the ranks of :math:`H` leads and :math:`D` channels, margins aside.

    Arguments:
        prediction_length: The number of leads :math:`H`.
        channels: The number of channels :math:`D`.
    """

    name: str

    def __init__(self, prediction_length: int, channels: int) -> None:
        self.prediction_length = prediction_length
        self.channels = channels

    def uniforms(
        self, num_samples: int, generator: torch.Generator | None = None, windows: int | None = None
    ) -> Tensor:
        r"""Draws joint levels whose margins are stratified.

        Each margin is a permutation of :math:`(i + v_i) / S` with uniform :math:`v_i`: one level in each of the
        :math:`S` strata. The ranks are those of a draw from the copula, and :math:`v` is another draw, so that a
        single sample follows the copula as well. With jitter, every level is uniform: what is averaged over the
        samples is unbiased for any :math:`S`, tails included; the midpoints would never go beyond :math:`1 - .5 / S`.

        Arguments:
            num_samples: The number of samples :math:`S`.
            generator: The source of randomness.
            windows: The number of independent windows :math:`n`; one, without an axis for it, if None.

        Returns:
            The levels within (0, 1), with shape :math:`(S, H, D)`, or :math:`(S, n, H, D)`.
        """
        shape = (num_samples, 1 if windows is None else windows)
        draw = self._draw(*shape, generator).flatten(1)  # (S, n*H*D)
        jitter = self._draw(*shape, generator).flatten(1)
        strata = torch.arange(num_samples, dtype=draw.dtype).unsqueeze(-1)
        step = max(1, _CHUNK // num_samples)
        for start in range(0, draw.shape[1], step):
            columns = slice(start, start + step)
            order = draw[:, columns].T.argsort(dim=-1).T
            draw[:, columns] = torch.empty_like(draw[:, columns]).scatter_(0, order, strata.expand_as(order))
        draw.add_(jitter).div_(num_samples)
        rest = (self.prediction_length, self.channels)
        return draw.view(num_samples, *rest) if windows is None else draw.view(*shape, *rest)

    @abstractmethod
    def _draw(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        r"""Independent draws from the copula, (S, n, H, D)."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        r"""What the copula is made of.

        Returns:
            Tensors only, under keys that begin with the copula's name.
        """

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> Copula:
        r"""Makes a copula again from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The copula.

        Raises:
            ValueError: If the keys are those of no copula.
        """
        for family in (Independent, GaussianCopula):
            if all(key.startswith(f"{family.name}.") for key in state) and state:
                return family._from_state({key.removeprefix(f"{family.name}."): x for key, x in state.items()})
        raise ValueError(f"no copula has a state with the keys {sorted(state)}")


class Independent(Copula):
    r"""No dependence at all.

    Arguments:
        prediction_length: The number of leads :math:`H`.
        channels: The number of channels :math:`D`.

    Example:
        >>> Independent(24, 8).uniforms(200).shape
        torch.Size([200, 24, 8])
    """

    name = "independent"

    def _draw(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        return torch.rand(num_samples, windows, self.prediction_length, self.channels, generator=generator)

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"independent.shape": torch.tensor([self.prediction_length, self.channels])}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Independent:
        return cls(*state["shape"].tolist())


class GaussianCopula(Copula):
    r"""A Gaussian copula whose correlation is the Kronecker product of one over time and one over channels.

    Only the two factors are ever formed: a draw is :math:`L_H E L_D^\top` with :math:`E` white, at a cost of
    :math:`O(HD(H + D))`.

    References:
        | Interweaving Marginals into Multivariate Sample Paths (2026)

    Arguments:
        channel_correlation: The correlation between channels, with shape :math:`(D, D)`.
        time_correlation: The correlation between leads, with shape :math:`(H, H)`.

    Example:
        >>> near = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
        >>> u = GaussianCopula(near, torch.eye(3)).uniforms(1000)
        >>> torch.corrcoef(u[:, 0].T)[0, 1] > 0.8
        tensor(True)
    """

    name = "gaussian"

    def __init__(self, channel_correlation: Tensor, time_correlation: Tensor) -> None:
        for label, matrix in (("channel", channel_correlation), ("time", time_correlation)):
            if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
                raise ValueError(f"the {label} correlation must be a square matrix, got {tuple(matrix.shape)}")
        super().__init__(len(time_correlation), len(channel_correlation))
        self.channel_correlation = as_correlation(channel_correlation)
        self.time_correlation = as_correlation(time_correlation)

    def _draw(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        shape = (num_samples, windows, self.prediction_length, self.channels)
        channel, time = (
            torch.linalg.cholesky(matrix.double()).float()
            for matrix in (self.channel_correlation, self.time_correlation)
        )
        white = torch.randn(shape, generator=generator)
        levels: Tensor = torch.special.ndtr(time @ (white @ channel.T))
        return levels

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"gaussian.channel": self.channel_correlation, "gaussian.time": self.time_correlation}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> GaussianCopula:
        return cls(state["channel"], state["time"])


def as_correlation(matrix: Tensor) -> Tensor:
    r"""Makes a correlation matrix of a symmetric one: eigenvalues clipped, then a unit diagonal.

    Arguments:
        matrix: A symmetric matrix with a positive diagonal, with shape :math:`(N, N)`.

    Returns:
        The correlation matrix, float32; the matrix itself if it is one.
    """
    exact = matrix.double()
    values, vectors = torch.linalg.eigh((exact + exact.T) / 2)
    if values[0] < _SMALLEST:
        exact = (vectors * values.clamp(min=_SMALLEST)) @ vectors.T
    scale = exact.diagonal().rsqrt()
    exact = scale.unsqueeze(-1) * exact * scale
    exact.fill_diagonal_(1.0)
    return exact.float()

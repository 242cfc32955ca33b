r"""Gaussian copulas of channels and leads."""

from __future__ import annotations

__all__ = ["GaussianCopula", "fit_gaussian", "fit_history"]

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from ..distribution.pits import Pits
from ..persistence.tensors import require_names, taken
from .base import Copula, normal_scores
from .normal_scores import autoregression, completed, correlation, kronecker

_SMALLEST = 1e-6  # the smallest eigenvalue of a correlation matrix


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

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        shape = (num_samples, windows, self.prediction_length, self.channels)
        channel, time = (
            torch.linalg.cholesky(matrix.double()).float()
            for matrix in (self.channel_correlation, self.time_correlation)
        )
        white = torch.randn(shape, generator=generator, dtype=torch.float32)
        scores: Tensor = time @ (white @ channel.T)
        return scores

    def _levels(self, scores: Tensor) -> Tensor:
        levels: Tensor = torch.special.ndtr(scores)
        return levels

    def log_density(self, pits: Tensor) -> Tensor:
        r"""The log density at what came true, 0 for independence.

        .. math:: \log c(u) = -\tfrac12 \bigl(D \ln |R_H| + H \ln |R_D|\bigr)
            - \tfrac12 \bigl(\operatorname{tr}(R_H^{-1} Z R_D^{-1} Z^\top) - \lVert Z \rVert^2\bigr),
            \quad Z = \Phi^{-1}(u)

        A missing cell counts as the median, which speaks for independence rather than against it.

        Arguments:
            pits: The transforms of what came true, with shape :math:`(n, H, D)`. NaN marks a missing step.

        Returns:
            The log density of each window, with shape :math:`(n,)`, float64.
        """
        scores = torch.special.ndtri(pits.double().clamp(1e-4, 1 - 1e-4)).nan_to_num(0.0)  # (n, H, D)
        time, channel = (
            torch.linalg.cholesky(each.double()) for each in (self.time_correlation, self.channel_correlation)
        )
        white = torch.linalg.solve_triangular(time, scores, upper=False)
        white = torch.linalg.solve_triangular(channel, white.mT, upper=False)  # (n, D, H)
        logarithms = [2 * factor.diagonal().log().sum() for factor in (time, channel)]
        determinant = self.channels * logarithms[0] + self.prediction_length * logarithms[1]
        score: Tensor = -0.5 * (determinant + white.square().sum((1, 2)) - scores.square().sum((1, 2)))
        return score

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"gaussian.channel": self.channel_correlation, "gaussian.time": self.time_correlation}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        require_names("the copula 'gaussian'", state, ["channel", "time"])
        return cls(*(_taken_correlation(state, name) for name in ("channel", "time")))


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


def _taken_correlation(state: Mapping[str, Tensor], name: str) -> Tensor:
    r"""The correlation matrix of that name."""
    size = len(state[name]) if state[name].ndim else 0
    matrix = taken(state, name, torch.float32, (size, size))
    if (
        not size
        or not torch.allclose(matrix.diagonal(), torch.ones(size, dtype=torch.float32))
        or not torch.allclose(matrix, matrix.mT)
    ):
        raise ValueError(f"the tensor {name!r} is no correlation matrix: expected a symmetric one with a unit diagonal")
    return matrix


def fit_gaussian(pits: Tensor | Pits, independent: float | None = None) -> GaussianCopula:
    r"""Fits a Gaussian copula to the probability integral transforms of past forecasts.

    Missing outcomes and atoms are completed (see `completed`), and the correlations are those of `kronecker`.

    Arguments:
        pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome.
        independent: How many windows without overlap these are worth (see `effective_sample_size`), fewer of which
            mean more shrinkage; :math:`n` if None.

    Returns:
        The copula; independence if these are worth three windows or fewer, and where nothing was seen to vary.
    """
    weight = float(len(pits) if independent is None else independent)
    return GaussianCopula(*kronecker(completed(pits, weight), weight))


def fit_history(values: Tensor, prediction_length: int) -> GaussianCopula:
    r"""A Gaussian copula from the past alone, without any forecast: the recipe of "Interweaving Marginals".

    Channels are as correlated as the normal scores of the history are; leads are an AR(1) process with the median
    lag-1 correlation, held within [0, .99].

    References:
        | Interweaving Marginals into Multivariate Sample Paths (2026)

    Arguments:
        values: The history, with shape :math:`(T, D)`. NaN marks a missing step.
        prediction_length: The number of leads :math:`H`.

    Returns:
        The copula; independence for what fewer than 32 rows tell of.
    """
    scores = normal_scores(values)
    seen = (~scores.isnan()).double()
    channel = torch.where(seen.T @ seen >= 32, correlation(scores), torch.eye(values.shape[1], dtype=torch.float64))
    successive = torch.stack([scores[:-1], scores[1:]], -1)  # (T-1, D, 2)
    enough = (~successive.isnan().any(-1)).sum(0) >= 32
    lagged = [float(correlation(pairs)[0, 1]) for pairs in successive.unbind(1)]
    rho = float(torch.tensor(lagged, dtype=torch.float64)[enough].median()) if bool(enough.any()) else 0.0
    return GaussianCopula(channel, autoregression(min(max(rho, 0.0), 0.99), prediction_length))

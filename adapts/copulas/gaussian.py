r"""Gaussian copulas over channels and horizon steps."""

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
    r"""Gaussian copula with Kronecker-structured correlation.

    The correlation is the Kronecker product of one matrix over time and one over channels. Only the two factors are
    stored: a draw is :math:`L_H E L_D^\top` with :math:`E` white noise, at a cost of :math:`O(HD(H + D))`.

    References:
        | Interweaving Marginals into Multivariate Sample Paths (2026)

    Arguments:
        channel_correlation: The correlation matrix of channels, with shape :math:`(D, D)`.
        time_correlation: The correlation matrix of horizon steps, with shape :math:`(H, H)`.

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
        r"""Return the log density at observed values, 0 for independence.

        .. math:: \log c(u) = -\tfrac12 \bigl(D \ln |R_H| + H \ln |R_D|\bigr)
            - \tfrac12 \bigl(\operatorname{tr}(R_H^{-1} Z R_D^{-1} Z^\top) - \lVert Z \rVert^2\bigr),
            \quad Z = \Phi^{-1}(u)

        A missing cell is set to the median, which favours independence.

        Arguments:
            pits: The PITs of observed values, with shape :math:`(n, H, D)`. NaN marks a missing step.

        Returns:
            The log density of each window, with shape :math:`(n,)`, float64.
        """
        scores = torch.special.ndtri(pits.double().clamp(1e-4, 1 - 1e-4)).nan_to_num(0.0)  # (n, H, D)
        time, channel = (
            torch.linalg.cholesky(matrix.double()) for matrix in (self.time_correlation, self.channel_correlation)
        )
        white = torch.linalg.solve_triangular(time, scores, upper=False)
        white = torch.linalg.solve_triangular(channel, white.mT, upper=False)  # (n, D, H)
        log_determinants = [2 * factor.diagonal().log().sum() for factor in (time, channel)]
        log_determinant = self.channels * log_determinants[0] + self.prediction_length * log_determinants[1]
        density: Tensor = -0.5 * (log_determinant + white.square().sum((1, 2)) - scores.square().sum((1, 2)))
        return density

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"gaussian.channel": self.channel_correlation, "gaussian.time": self.time_correlation}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        require_names("the copula 'gaussian'", state, ["channel", "time"])
        return cls(*(_taken_correlation(state, name) for name in ("channel", "time")))


def as_correlation(matrix: Tensor) -> Tensor:
    r"""Project a symmetric matrix onto correlation matrices: clip its eigenvalues, then scale its diagonal to one.

    Arguments:
        matrix: A symmetric matrix with a positive diagonal, with shape :math:`(N, N)`.

    Returns:
        The correlation matrix, float32. A correlation matrix whose eigenvalues are at least 1e-6 keeps its values.
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
    r"""Read and validate the correlation matrix of that name."""
    size = len(state[name]) if state[name].ndim else 0
    matrix = taken(state, name, torch.float32, (size, size))
    if (
        not size
        or not torch.allclose(matrix.diagonal(), torch.ones(size, dtype=torch.float32))
        or not torch.allclose(matrix, matrix.mT)
    ):
        raise ValueError(f"the tensor {name!r} is no correlation matrix: expected a symmetric one with a unit diagonal")
    return matrix


def fit_gaussian(pits: Tensor | Pits, num_effective: float | None = None) -> GaussianCopula:
    r"""Fit a Gaussian copula to the PITs of past forecasts.

    Normal scores of missing values and of atoms are imputed (see `completed`). The correlations are those of
    `kronecker`.

    Arguments:
        pits: The PITs of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing observation.
        num_effective: The effective sample size in windows (see `effective_sample_size`); a smaller one increases
            shrinkage. :math:`n` if None.

    Returns:
        The copula; independence if the effective sample size is three or less, or if nothing varies.
    """
    weight = float(len(pits) if num_effective is None else num_effective)
    return GaussianCopula(*kronecker(completed(pits, weight), weight))


def fit_history(values: Tensor, prediction_length: int) -> GaussianCopula:
    r"""Fit a Gaussian copula to the history alone: the method of "Interweaving Marginals".

    The channel correlation is that of the normal scores of the history. The horizon steps follow an AR(1) process with
    the median lag-1 correlation, clipped to [0, .99].

    References:
        | Interweaving Marginals into Multivariate Sample Paths (2026)

    Arguments:
        values: The history, with shape :math:`(T, D)`. NaN marks a missing step.
        prediction_length: The number of horizon steps :math:`H`.

    Returns:
        The copula; correlations that rest on fewer than 32 rows are zero.
    """
    scores = normal_scores(values)
    observed = (~scores.isnan()).double()
    channel = torch.where(
        observed.T @ observed >= 32, correlation(scores), torch.eye(values.shape[1], dtype=torch.float64)
    )
    successive = torch.stack([scores[:-1], scores[1:]], -1)  # (T-1, D, 2)
    sufficient = (~successive.isnan().any(-1)).sum(0) >= 32
    lagged = [float(correlation(pairs)[0, 1]) for pairs in successive.unbind(1)]
    rho = float(torch.tensor(lagged, dtype=torch.float64)[sufficient].median()) if bool(sufficient.any()) else 0.0
    return GaussianCopula(channel, autoregression(min(max(rho, 0.0), 0.99), prediction_length))

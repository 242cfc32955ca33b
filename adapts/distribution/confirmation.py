r"""Proper scores that decide whether what was fitted on earlier rows stays: cheap ones, free of sampling noise."""

from __future__ import annotations

__all__ = ["copula_log_score", "mean_pinball"]

import torch
from torch import Tensor

from .copula import Copula, GaussianCopula
from .quantiles import LEVELS, QuantileFunction


def mean_pinball(law: QuantileFunction, future: Tensor) -> Tensor:
    r"""Returns each cell's quantile loss, averaged over our levels: a coarse half of the CRPS.

    Arguments:
        law: The law, with values :math:`(n, H, D, Q)`.
        future: What came true, with shape :math:`(n, H, D)`. NaN marks a missing step and stays NaN.
    """
    levels = torch.tensor(LEVELS)
    error = future.unsqueeze(-1) - law.at(levels)  # (n, H, D, Q)
    return torch.maximum(levels * error, (levels - 1) * error).mean(-1)


def copula_log_score(copula: Copula, pits: Tensor) -> Tensor:
    r"""Returns the log density of a copula at what came true, which is 0 for independence.

    .. math:: \log c(u) = -\tfrac12 \bigl(D \ln |R_H| + H \ln |R_D|\bigr)
        - \tfrac12 \bigl(\operatorname{tr}(R_H^{-1} Z R_D^{-1} Z^\top) - \lVert Z \rVert^2\bigr),
        \quad Z = \Phi^{-1}(u)

    A missing cell counts as the median, which speaks for independence rather than against it.

    Arguments:
        copula: The copula.
        pits: The transforms of what came true, with shape :math:`(n, H, D)`. NaN marks a missing step.

    Returns:
        The log density of each window, with shape :math:`(n,)`.
    """
    if not isinstance(copula, GaussianCopula):
        return torch.zeros(len(pits), dtype=torch.float64)
    scores = torch.special.ndtri(pits.double().clamp(1e-4, 1 - 1e-4)).nan_to_num(0.0)  # (n, H, D)
    time, channel = (
        torch.linalg.cholesky(each.double()) for each in (copula.time_correlation, copula.channel_correlation)
    )
    white = torch.linalg.solve_triangular(time, scores, upper=False)
    white = torch.linalg.solve_triangular(channel, white.mT, upper=False)  # (n, D, H)
    logarithms = [2 * factor.diagonal().log().sum() for factor in (time, channel)]
    determinant = copula.channels * logarithms[0] + copula.prediction_length * logarithms[1]
    score: Tensor = -0.5 * (determinant + white.square().sum((1, 2)) - scores.square().sum((1, 2)))
    return score

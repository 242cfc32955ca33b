r"""Ridge regression of full or reduced rank, with the whole path of strengths from one eigendecomposition."""

from __future__ import annotations

__all__ = ["RidgePath", "blocked_folds", "count_folds", "cross_validated_error", "ridge"]

import torch
from torch import Tensor


class RidgePath:
    r"""Ridge solutions of one problem for all strengths.

    .. math:: W(\lambda) = \arg\min_W \lVert Y - X W \rVert_F^2 + \lambda \lVert W \rVert_F^2
        = V (\Lambda + \lambda I)^{-1} V^\top X^\top Y, \quad X^\top X = V \Lambda V^\top

    The best solution of rank :math:`r` is :math:`W(\lambda) U U^\top`, where :math:`U` holds the :math:`r` leading
    eigenvectors of :math:`Y^\top X W(\lambda)`. They are the right singular vectors of the fitted values
    :math:`X W(\lambda)`, stacked above the penalty rows :math:`\sqrt \lambda \, W(\lambda)`.

    References:
        | Ridge Regression (Hoerl & Kennard, 1970)
        | https://doi.org/10.1080/00401706.1970.10488634
        | Reduced Rank Ridge Regression and Its Kernel Extensions (Mukherjee & Zhu, 2011)
        | https://doi.org/10.1002/sam.10138

    Arguments:
        gram: The matrix :math:`X^\top X`, with shape :math:`(*, p, p)`.
        cross: The matrix :math:`X^\top Y`, with shape :math:`(*, p, q)`.

    Example:
        >>> x, y = torch.randn(100, 3).double(), torch.randn(100, 2).double()
        >>> path = RidgePath(x.mT @ x, x.mT @ y)
        >>> bool(torch.allclose(path.solve(0.0), torch.linalg.lstsq(x, y).solution))
        True
    """

    def __init__(self, gram: Tensor, cross: Tensor) -> None:
        eigenvalues, self.vectors = torch.linalg.eigh(gram)
        self.eigenvalues = eigenvalues.clamp(min=0)
        self.cross = cross
        self.projected = self.vectors.mT @ cross  # (*, p, q)

    def solve(self, strength: float | Tensor, rank: int | None = None) -> Tensor:
        r"""Return the solution at a strength.

        Arguments:
            strength: The strength :math:`\lambda \geq 0`; a tensor broadcasts against the :math:`q` targets. Infinity
                gives zero. Directions without data stay zero at :math:`\lambda = 0` (the least-norm solution).
            rank: The maximum rank :math:`r` of the solution; unrestricted if None. With a rank, the targets share one
                strength.

        Returns:
            The coefficients, with shape :math:`(*, p, q)`.
        """
        denominator = self.eigenvalues.unsqueeze(-1) + strength  # (*, p, 1 or q)
        tiny = self.eigenvalues.amax(-1, keepdim=True).unsqueeze(-1) * 1e-12
        inverse = torch.where(denominator > tiny, 1 / torch.where(denominator > tiny, denominator, 1.0), 0.0)
        solution: Tensor = self.vectors @ (inverse * self.projected)
        if rank is None:
            return solution
        fitted = self.cross.mT @ solution  # (*, q, q)
        leading = torch.linalg.eigh((fitted + fitted.mT) / 2)[1][..., -rank:]
        reduced: Tensor = solution @ leading @ leading.mT
        return reduced


def ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    r"""Return ridge coefficients.

    .. math:: \arg\min_W \lVert Y - X W \rVert_F^2 + \lambda \lVert W \rVert_F^2

    Arguments:
        x: The regressors, with shape :math:`(n, p)`.
        y: The targets, with shape :math:`(n, q)`.
        strength: The strength :math:`\lambda \geq 0`.

    Returns:
        The coefficients, with shape :math:`(p, q)`.
    """
    return RidgePath(x.mT @ x, x.mT @ y).solve(strength)


def cross_validated_error(
    gram: Tensor, cross: Tensor, square: Tensor, strengths: Tensor, rank: int | None = None
) -> Tensor:
    r"""Return the cross-validated squared error, summed over folds, from the folds' sufficient statistics.

    Arguments:
        gram: Each fold's :math:`X^\top X`, with shape :math:`(F, p, p)`.
        cross: Each fold's :math:`X^\top Y`, with shape :math:`(F, p, q)`.
        square: Each fold's :math:`\sum y^2`, with shape :math:`(F, q)`.
        strengths: The candidate strengths, with shape :math:`(m,)`.
        rank: The maximum rank of the solutions; unrestricted if None.

    Returns:
        The error of each strength and target, with shape :math:`(m, q)`.
    """
    training = RidgePath(gram.sum(0) - gram, cross.sum(0) - cross)  # one eigendecomposition per fold
    errors = []
    for strength in strengths:
        weights = training.solve(strength, rank)  # (F, p, q)
        error = square - 2 * (weights * cross).sum(-2) + (weights * (gram @ weights)).sum(-2)
        errors.append(error.sum(0))
    return torch.stack(errors)  # (m, q)


def blocked_folds(origin: Tensor, item: Tensor, prediction_length: int, folds: int) -> Tensor:
    r"""Divide windows into blocks of time for cross-validation.

    Arguments:
        origin: The row of each window's first target, with shape :math:`(n,)`.
        item: The item of each window, with shape :math:`(n,)`; each item is divided over its own rows.
        prediction_length: The number of horizon steps :math:`H`.
        folds: The number of blocks; an item with fewer than :math:`2H` rows per block has fewer blocks.

    Returns:
        The block of each window, with shape :math:`(n,)`; -1 if its targets extend into the next block, so that no
        target is in two blocks. Items with a single block are assigned in rotation. If no window fits into a block, all
        are in block 0.
    """
    fold = torch.empty_like(origin)
    for number, current in enumerate(item.unique()):
        in_item = item == current
        first = int(origin[in_item].min())
        span = int(origin[in_item].max()) - first + prediction_length
        blocks = max(1, min(folds, span // (2 * prediction_length)))
        start, stop = ((origin[in_item] - first + offset) * blocks // span for offset in (0, prediction_length - 1))
        fold[in_item] = torch.where(start == stop, (start + number) % folds, -1)
    return fold if bool((fold >= 0).any()) else torch.zeros_like(fold)


def count_folds(fold: Tensor) -> int:
    r"""Return the number of folds that hold a window; cross-validation needs two.

    Arguments:
        fold: The fold of each window, -1 for none, with shape :math:`(n,)`.
    """
    return len(fold[fold >= 0].unique())

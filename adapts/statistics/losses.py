r"""Kernels of proper scores, in the data type of their arguments; `adapts.evaluation` documents the scores."""

from __future__ import annotations

__all__ = ["energy_score", "pinball_loss"]

import torch
from torch import Tensor


def pinball_loss(error: Tensor, levels: Tensor) -> Tensor:
    r"""Return the pinball loss of quantiles, :math:`\max(\tau e, (\tau - 1) e)` with :math:`e = y - q`.

    References:
        | Regression quantiles (Koenker and Bassett, 1978)
        | https://doi.org/10.2307/1913643

    Arguments:
        error: The observations minus the quantiles, with shape :math:`(*)`. NaN stays NaN.
        levels: The levels :math:`\tau`, of a shape that broadcasts to :math:`(*)`.
    """
    return torch.maximum(levels * error, (levels - 1) * error)


def energy_score(errors: Tensor) -> Tensor:
    r"""Return the fair estimate of the energy score from samples.

    .. math:: \frac{1}{S} \sum_s \|e_s\| - \frac{1}{2 S (S - 1)} \sum_{s, t} \|e_s - e_t\|

    References:
        | Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007)
        | https://doi.org/10.1198/016214506000001437

    Arguments:
        errors: The samples minus the observation, with shape :math:`(n, S, V)`, :math:`S \geq 2`.

    Returns:
        The scores, with shape :math:`(n,)`.
    """
    num_samples = errors.shape[-2]
    dispersion = torch.cdist(errors, errors).sum((-2, -1)) / (2 * num_samples * (num_samples - 1))
    score: Tensor = errors.norm(dim=-1).mean(-1) - dispersion
    return score

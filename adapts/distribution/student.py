r"""Student's distribution with an even number of degrees of freedom, where all is in closed form."""

from __future__ import annotations

__all__ = ["student_cdf", "student_log_density", "student_scores"]

import math
from functools import lru_cache

import torch
from torch import Tensor


def student_cdf(x: Tensor, freedom: float) -> Tensor:
    r"""The distribution function, a finite sum for an even number of degrees of freedom.

    References:
        | Handbook of Mathematical Functions (Abramowitz and Stegun, 1964), 26.7.4

    Arguments:
        x: Where to read it, of any shape.
        freedom: The degrees of freedom, even; infinite for the normal distribution.

    Returns:
        The probabilities, with the shape of `x`.
    """
    if freedom == math.inf:
        normal: Tensor = torch.special.ndtr(x)
        return normal
    cosine = freedom / (freedom + x.square())  # squared
    term, total = torch.ones_like(x), torch.ones_like(x)
    for j in range(1, int(freedom) // 2):
        term = term * cosine * ((2 * j - 1) / (2 * j))
        total = total + term
    return (1 + x * (freedom + x.square()).rsqrt() * total) / 2


def student_scores(normal: Tensor, freedom: float) -> Tensor:
    r"""Turns normal scores into Student's of the same levels.

    Arguments:
        normal: Normal scores, of any shape.
        freedom: The degrees of freedom, even; infinite for the normal distribution.

    Returns:
        The scores, right within a millionth between the levels 1e-6 and 1 - 1e-6.
    """
    if freedom == math.inf:
        return normal
    at, of = _table(freedom)
    right = torch.searchsorted(at, normal.double().contiguous()).clamp(1, len(at) - 1)
    weight = (normal - at[right - 1]) / (at[right] - at[right - 1])
    return torch.lerp(of[right - 1], of[right], weight).to(normal)


@lru_cache(maxsize=16)
def _table(freedom: float) -> tuple[Tensor, Tensor]:
    r"""Normal scores, increasing, and Student's scores of the same levels."""
    half = torch.sinh(torch.linspace(0, 6, 4097, dtype=torch.float64))  # up to 200
    lower = torch.special.ndtri(student_cdf(-half, freedom).clamp(min=1e-300))
    seen = lower > -6.5
    return torch.cat([lower[seen].flip(0), -lower[seen][1:]]), torch.cat([-half[seen].flip(0), half[seen][1:]])


def student_log_density(square: Tensor, size: int, freedom: float) -> Tensor:
    r"""The log density of a standard Student vector, without the determinant of its correlation.

    Arguments:
        square: The squared length of the whitened vector, of any shape.
        size: The number of its entries.
        freedom: The degrees of freedom; infinite for the normal distribution.

    Returns:
        The log densities, with the shape of `square`.
    """
    if freedom == math.inf:
        return -0.5 * (square + size * math.log(2 * math.pi))
    constant = math.lgamma((freedom + size) / 2) - math.lgamma(freedom / 2) - size / 2 * math.log(freedom * math.pi)
    return constant - (freedom + size) / 2 * torch.log1p(square / freedom)

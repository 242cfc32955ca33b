r"""The copulas that `Adapter(copula=...)` names, each fitted on the past."""

from __future__ import annotations

__all__ = ["Past", "empirical", "gaussian", "gaussian_history", "independent", "schaake"]

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..data.times import Times
from ..distribution.pits import Pits
from ..statistics.bootstrap import effective_sample_size
from .base import Copula
from .gaussian import fit_gaussian, fit_history
from .independent import Independent
from .rank import fit_empirical, fit_schaake


@dataclass(frozen=True)
class Past:
    r"""What a copula is fitted on.

    Arguments:
        rows: The standardised train rows, with shape :math:`(n, D)`. NaN marks a missing value.
        prediction_length: The number of steps :math:`H`.
        errors: Computes the probability integral transforms of past forecasts, :math:`(m, H, D)`, and when their
            windows begin. Copulas of the rows alone need not call it.
    """

    rows: Tensor
    prediction_length: int
    errors: Callable[[], tuple[Pits, Times]]


def gaussian(past: Past) -> Copula:
    r"""Return a Gaussian copula with Kronecker structure, fitted to past errors.

    Arguments:
        past: The past.
    """
    pits, time = past.errors()
    return fit_gaussian(pits, effective_sample_size(time, past.prediction_length))


def gaussian_history(past: Past) -> Copula:
    r"""Return a Gaussian copula with Kronecker structure, fitted to the rows.

    Arguments:
        past: The past.
    """
    return fit_history(past.rows, past.prediction_length)


def schaake(past: Past) -> Copula:
    r"""Return the ranks of past blocks of the rows (Schaake shuffle).

    Arguments:
        past: The past.
    """
    return fit_schaake(past.rows, past.prediction_length)


def empirical(past: Past) -> Copula:
    r"""Return the ranks of past blocks of errors.

    Arguments:
        past: The past.
    """
    return fit_empirical(past.errors()[0])


def independent(past: Past) -> Copula:
    r"""Return the copula of independent channels and steps.

    Arguments:
        past: The past.
    """
    return Independent(past.prediction_length, past.rows.shape[1])

r"""Copulas: dependence across channels and horizon steps, and its selection."""

from .base import Copula
from .gaussian import GaussianCopula, fit_gaussian, fit_history
from .independent import Independent
from .rank import PathCopula, RankCopula, fit_empirical, fit_schaake
from .selection import choose_copula
from .structured import StructuredCopula

__all__ = [
    "Copula",
    "GaussianCopula",
    "Independent",
    "PathCopula",
    "RankCopula",
    "StructuredCopula",
    "choose_copula",
    "fit_empirical",
    "fit_gaussian",
    "fit_history",
    "fit_schaake",
]

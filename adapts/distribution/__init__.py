r"""The predictive law: marginals, dependence, recalibration, gate, and the forecast that a user sees."""

__all__ = ["LEVELS", "Copula", "GaussianCopula", "Independent", "Law", "QuantileFunction"]

from .copula import Copula, GaussianCopula, Independent
from .law import Law
from .quantiles import LEVELS, QuantileFunction

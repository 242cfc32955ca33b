r"""The predictive law: marginals, dependence, recalibration, gate, and the forecast that a user sees."""

__all__ = [
    "LEVELS",
    "Copula",
    "Forecast",
    "Gate",
    "GaussianCopula",
    "Independent",
    "Law",
    "QuantileFunction",
    "Recalibration",
    "block_bootstrap",
    "fit_gate",
    "fit_gaussian",
    "fit_history",
    "independent_windows",
    "lead_blocks",
]

from .blocks import block_bootstrap, independent_windows, lead_blocks
from .copula import Copula, GaussianCopula, Independent, fit_gaussian, fit_history
from .forecast import Forecast
from .gate import Gate, fit_gate
from .law import Law
from .quantiles import LEVELS, QuantileFunction
from .recalibration import Recalibration

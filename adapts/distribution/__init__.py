r"""The predictive law: marginals, dependence, recalibration, gate, and the forecast that a user sees."""

__all__ = [
    "LEVELS",
    "Copula",
    "Forecast",
    "Gate",
    "GaussianCopula",
    "Independent",
    "JointBands",
    "Law",
    "OnlineRecalibration",
    "PathCopula",
    "QuantileFunction",
    "RankCopula",
    "Recalibration",
    "Scenarios",
    "StructuredCopula",
    "Tails",
    "VarianceParts",
    "choose_copula",
    "fit_empirical",
    "fit_gate",
    "fit_gaussian",
    "fit_history",
    "fit_schaake",
    "independent_windows",
    "lead_blocks",
]

from .bands import JointBands
from .blocks import independent_windows, lead_blocks
from .confirmation import choose_copula
from .copula import Copula, GaussianCopula, Independent, fit_gaussian, fit_history
from .forecast import Forecast
from .gate import Gate, fit_gate
from .law import Law
from .online import OnlineRecalibration
from .quantiles import LEVELS, QuantileFunction
from .ranks import PathCopula, RankCopula, fit_empirical, fit_schaake
from .recalibration import Recalibration
from .scenarios import Scenarios
from .structured import StructuredCopula
from .tails import Tails
from .variance import VarianceParts

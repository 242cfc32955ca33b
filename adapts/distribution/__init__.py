r"""Predictive distributions: marginals as quantile functions, and the joint distribution."""

from .joint import JointDistribution
from .levels import LEVELS
from .pits import Pits
from .quantile_function import QuantileFunction
from .variance import VarianceParts

__all__ = ["LEVELS", "JointDistribution", "Pits", "QuantileFunction", "VarianceParts"]

r"""Statistics: closed forms, and how sure a mean over dependent windows is."""

from .bayesian import BayesianRegression
from .bootstrap import independent_windows, lead_blocks
from .ridge import RidgePath, blocked_folds, cross_validated_error, ridge

__all__ = [
    "BayesianRegression",
    "RidgePath",
    "blocked_folds",
    "cross_validated_error",
    "independent_windows",
    "lead_blocks",
    "ridge",
]
